"""`hrn model`: build the open model or describe any model."""

from __future__ import annotations

from typing import Annotated

import tyro


def model_command(name: Annotated[str, tyro.conf.Positional] = "open") -> None:
    """Load a face model (building and caching it if need be) and describe it.

    Args:
        name: `open`, or the path of a BFM or ICT-FaceKit model.
    """
    from fitter.cli.progress import model_progress
    from fitter.model.load import load_model

    with model_progress() as progress:
        model = load_model(name, progress)
    print(f"{model.name}: {model.vertex_count} vertices, {len(model.triangles)} triangles")
    print(f"  identity {model.identity_basis.shape[-1]}, expression {model.expression_basis.shape[-1]}", end="")
    print(f", albedo {model.albedo_basis.shape[-1]} coefficients")
    named = [n for n in model.expression_names if not n.startswith("expression_")]
    print(f"  named expressions: {', '.join(named) if named else 'none'}")
    for key, value in model.source.items():
        print(f"  {key}: {value}")

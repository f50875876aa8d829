"""The user's cache folder, and morphable models in it as safetensors with a JSON header."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from fitter.atomic import write_bytes
from fitter.model.morphable import LandmarkEmbedding, MorphableModel

FORMAT = "hrn-fitter-model-2"


def cache_folder() -> Path:
    """`$HRN_CACHE`, else `hrn-fitter` in the platform's cache folder."""
    chosen = os.environ.get("HRN_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA", base)
    return (Path(base) if base else Path.home() / ".cache") / "hrn-fitter"


_TENSORS = (
    "mean identity_basis expression_basis albedo_mean albedo_basis triangles uv uv_triangles atlas_uv atlas_triangles"
).split()
_EMBEDDINGS = ("landmarks", "marked", "mediapipe")


def save_model(model: MorphableModel, path: Path) -> None:
    """Write a model, whole or not at all."""
    tensors = {name: getattr(model, name).contiguous() for name in _TENSORS}
    for name in _EMBEDDINGS:
        embedding = getattr(model, name)
        if embedding is not None:
            tensors[f"{name}.vertices"] = embedding.vertices.contiguous()
            tensors[f"{name}.weights"] = embedding.weights.contiguous()
    for name, mask in model.regions.items():
        tensors[f"region.{name}"] = mask.contiguous()
    header = {
        "format": FORMAT,
        "name": model.name,
        "expression_names": json.dumps(model.expression_names),
        "expressions_are_named": json.dumps(model.expressions_are_named),
        "mediapipe_indices": json.dumps(model.mediapipe_indices),
        "source": json.dumps(model.source, sort_keys=True),
    }
    write_bytes(path, save(tensors, metadata=header))


def load_cached_model(path: Path) -> MorphableModel | None:
    """Read a model written by `save_model`; None where there is none or it is of another format."""
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                return None
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except Exception:  # A damaged cache is rebuilt, not an error of the user's.
        return None

    def embedding(name: str) -> LandmarkEmbedding | None:
        if f"{name}.vertices" not in tensors:
            return None
        return LandmarkEmbedding(tensors[f"{name}.vertices"], tensors[f"{name}.weights"])

    landmarks = embedding("landmarks")
    if landmarks is None:
        return None
    regions = {key.removeprefix("region."): t.to(torch.bool) for key, t in tensors.items() if key.startswith("region.")}
    return MorphableModel(
        name=header["name"],
        expression_names=tuple(json.loads(header["expression_names"])),
        expressions_are_named=json.loads(header["expressions_are_named"]),
        landmarks=landmarks,
        marked=embedding("marked"),
        mediapipe=embedding("mediapipe"),
        mediapipe_indices=tuple(json.loads(header["mediapipe_indices"])),
        regions=regions,
        source=json.loads(header["source"]),
        **{name: tensors[name] for name in _TENSORS},
    )

"""What scanned people have in common beyond the open model's mean face: the prior of fits to one photograph.

    python -m priors.people SCAN... --out fitter/model/data/people.safetensors

Every scan is fitted with the preset `scan`. The mean of the identities' offsets and of the deformation maps is made
symmetric, and drawn towards zero by as much as so few people leave it in doubt.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from fitter.atomic import write_bytes
from fitter.capture.scan_session import load_scan_session
from fitter.errors import InputError
from fitter.fit import FitOptions, fit_session
from fitter.hierarchy.grid import masked_blur
from fitter.hierarchy.samples import surface_samples
from fitter.model.morphable import MorphableModel
from fitter.model.open_model import load_open_model
from fitter.optimise.config import load_configuration

RESOLUTION = 96
"""Texels per side of the map that holds the identities' offset."""
HOLES = 3.0
"""Width of the blur that fills what no triangle covers (eyes, mouth), texels: face texels beside it are interpolated."""
LEAST_SCANS = 3
"""Fewer people say nothing of what people share."""


def shared_part(samples: Tensor) -> tuple[Tensor, float]:
    """The mean of what N people have, [N, ...] -> [...], drawn towards zero; and by which factor.

    The factor is that of James and Stein (1961) with the variance taken from the people themselves: 1 less the
    variance that the mean still has, over its square; never below 0.
    """
    mean = samples.mean(0)
    doubt = (samples - mean).square().sum() / (len(samples) - 1) / len(samples)
    factor = float((1.0 - doubt / mean.square().sum().clamp_min(1e-12)).clamp_min(0.0))
    return factor * mean, factor


def symmetric(grid: Tensor) -> Tensor:
    """A map of offsets [3, R, R] and its mirror image in the middle: the atlas is symmetric about u = 1/2."""
    return 0.5 * (grid + grid.flip(-1) * grid.new_tensor([-1.0, 1.0, 1.0])[:, None, None])


def on_atlas(model: MorphableModel, offset: Tensor, resolution: int = RESOLUTION) -> Tensor:
    """Offsets [V, 3] of the surface as a map [3, R, R], with holes filled from around them."""
    samples = surface_samples(model, resolution)
    grid = samples.to_grid(samples.interpolate(offset)).permute(2, 0, 1)
    covered = samples.to_grid(torch.ones_like(samples.interpolate(offset)[:, 0]))
    return torch.where(covered > 0, grid, masked_blur(grid, covered, HOLES))


def people_from(
    scans: Sequence[Path], model: MorphableModel, unit: str | None = None
) -> tuple[dict[str, Tensor], dict]:
    """The two maps of the prior, and what is worth knowing about them.

    Raises:
        InputError: Fewer than `LEAST_SCANS`, or a scan that cannot be used.
    """
    if len(scans) < LEAST_SCANS:
        raise InputError("the scans", f"{len(scans)} of them", f"at least {LEAST_SCANS}", "Give more people's scans.")
    identities, deformations = [], []
    for number, path in enumerate(scans, 1):
        fit = fit_session(load_scan_session(path, unit=unit), model, load_configuration("scan"), FitOptions())
        identities.append(torch.as_tensor(fit.identity).to(model.mean))
        deformations.append(torch.as_tensor(fit.deformation_map).to(model.mean))
        print(f"{number} of {len(scans)}: {path.name}", flush=True)
    identity, of_identity = shared_part(torch.stack(identities))
    deformation, of_deformation = shared_part(torch.stack(deformations))
    offset = model.shape(identity, torch.zeros_like(model.expression_basis[0, 0])) - model.mean
    about = {
        "people": str(len(scans)),
        "scans": json.dumps([path.name for path in scans]),
        "identity_factor": f"{of_identity:.3f}",
        "deformation_factor": f"{of_deformation:.3f}",
    }
    maps = {"identity": symmetric(on_atlas(model, offset)), "deformation": symmetric(deformation)}
    return {name: grid.half().contiguous() for name, grid in maps.items()}, about


def main(arguments: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m priors.people", description=__doc__.partition("\n")[0])
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--unit", help="of the scans: m, cm or mm; found where not given")
    parser.add_argument(
        "--about", default="", help="where the scans come from, and their licence, for the file's record"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        maps, about = people_from(options.scans, load_open_model(), options.unit)
        write_bytes(options.out, save(maps, metadata=about | {"about": options.about}))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(about, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

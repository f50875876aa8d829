"""What scanned people have in common beyond the open model's mean face.

The open model is made from an artist's heads, not from people, and its mean is the mean of no population: people's
identities lie together on one side of it, and their deformation maps share half of what they have. A single photograph
does not show depth, so the prior decides there, and it is centred where people are. Other models are made from scans of
people; they have nothing to add to their mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import torch
from safetensors.torch import load
from torch import Tensor

from fitter.hierarchy.grid import sample_map
from fitter.model.morphable import MorphableModel

FILE = "data/people.safetensors"
"""Written by `python -m priors.people`: offsets `identity` and `deformation` [3, R, R] mm on the atlas, model axes."""
RIDGE = 1e-3
"""Of the identity's least squares, mm² per vertex and squared standard deviation."""


@dataclass(frozen=True, eq=False)
class People:
    """The centre of the population in a model's own terms."""

    identity: Tensor
    """[I] coefficients."""
    deformation: Tensor
    """[3, R, R] mm, model axes: what M1 adds to M0, whoever it is."""


@lru_cache(maxsize=4)
def people_of(model: MorphableModel) -> People | None:
    """Where people are in the space of a model; None where that is its mean.

    The file holds offsets of the surface, not coefficients: these change with every build of the model.
    """
    if model.name != "open":
        return None
    maps = load(resources.files("fitter.model").joinpath(FILE).read_bytes())
    offset = sample_map(maps["identity"].to(model.mean), model.atlas_uv)
    return People(identity_of_offset(model, offset), maps["deformation"].to(model.mean))


def identity_of_offset(model: MorphableModel, offset: Tensor) -> Tensor:
    """Identity coefficients [I] that move the mean face by `offset` [V, 3] mm, as far as they can; the face counts."""
    face = model.regions["face"] & model.regions["skin"]
    basis = model.identity_basis[face].flatten(0, 1).double()
    count = int(face.sum())
    normal = basis.T @ basis / count + RIDGE * torch.eye(basis.shape[1]).to(basis)
    return torch.linalg.solve(normal, basis.T @ offset[face].flatten().double() / count).to(offset.dtype)

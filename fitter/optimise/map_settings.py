"""What a stage's settings and the surface mean for a map: regularisation for its size, and its tangential directions."""

from __future__ import annotations

import torch
from torch import Tensor

from fitter.hierarchy.face import FaceState
from fitter.hierarchy.samples import surface_samples
from fitter.optimise.config import Stage
from fitter.optimise.map_solver import MapWeights, roughness, softened
from fitter.optimise.problem import Problem, StageLog, setting
from fitter.optimise.views import SurfaceGeometry


def map_weights(stage: Stage, resolution: int, reference: int, progress: float = 1.0) -> MapWeights:
    """The stage's regularisation, stated for a map of `reference` texels a side.

    A smooth field sampled n times finer has a Laplacian n² times smaller at n² times as many nodes.
    """
    factor = resolution / reference

    def weight(name: str, default: float) -> float:
        return setting(stage, "smoothness", name, default, progress)

    return MapWeights(
        bilaplacian=weight("bilaplacian", 0.01) * factor**2,
        laplacian=weight("laplacian", 0.01),
        magnitude=weight("magnitude", 0.001) / factor**2,
        tangential=weight("tangential", 0.01) / factor**2,
    )


def tangent_projector(problem: Problem, state: FaceState, geometry: SurfaceGeometry) -> Tensor:
    """[3, 3, R, R] projector onto the tangent plane at each texel of the deformation map, model axes."""
    samples = surface_samples(problem.model, state.deformation.shape[-1])
    normals = torch.nn.functional.normalize(samples.interpolate(geometry.normals), dim=-1)
    normals = normals @ state.world_from_model[:3, :3]
    identity = torch.eye(3, device=normals.device, dtype=normals.dtype)
    return samples.to_grid(identity - normals[:, :, None] * normals[:, None, :]).permute(2, 3, 0, 1)


def softened_weights(
    weights: MapWeights, stage: Stage, grid: Tensor, weight: Tensor, reference: int, log: StageLog
) -> MapWeights:
    """The weights for a face as rough as the map [C, R, R] found so far, if the stage says how rough the usual one is.

    `weight` [N, S, S] says where the views see, `reference` for which size of map the stage's roughness is stated.
    """
    usual = setting(stage, "smoothness", "roughness", 0.0)
    if usual == 0.0:
        return weights
    scale = (grid.shape[-1] / reference) ** 2
    found = roughness(grid, weight.sum(0)) * scale
    log.residuals["map_roughness"] = found
    return softened(weights, found, usual)

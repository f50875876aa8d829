"""Gauss-Newton on the maps: one small block per surface sample, gathered into a stencil over the map's texels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fitter.energies.consistency import ConsistencyTerms, eliminate_texture
from fitter.hierarchy.face import FaceState
from fitter.hierarchy.grid import GridSampling, laplacian
from fitter.hierarchy.stencil import Stencil
from fitter.hierarchy.vertex_sampling import VertexSampling
from fitter.optimise.conjugate_gradient import solve
from fitter.optimise.views import SampledViews

TOLERANCE = 0.05
"""Relative residual at which the conjugate gradients stop: the next Gauss-Newton step goes on where they left off."""
LEAST_STIFFNESS = 0.1
"""Share of its bilaplacian that a rough map keeps at least."""
MAP_BORDER = 0.06
"""Outer fraction of the atlas in which the maps fade to zero."""


@dataclass(frozen=True)
class MapWeights:
    """Regularisation of a map, per squared millimetre and grid node."""

    bilaplacian: float = 0.01
    laplacian: float = 0.01
    magnitude: float = 0.0
    tangential: float = 0.0
    """Magnitude weight on the two tangential components only (deformation map)."""


@dataclass(frozen=True)
class BlockField:
    """sum over samples of (d . M d + 2 b . d) for an offset d of the surface, on a grid or at vertices (S × 1)."""

    matrix: Tensor
    """[C, C, S, S]."""
    gradient: Tensor
    """[C, S, S]."""

    @staticmethod
    def sum_of(fields: Sequence[BlockField]) -> BlockField:
        """Several energies on the same samples as one."""
        return BlockField(sum(one.matrix for one in fields), sum(one.gradient for one in fields))


def world_directions(state: FaceState, sampled: SampledViews) -> Tensor:
    """Derivative of each view's grey with respect to the world point, [N, K, 3] per mm."""
    return sampled.direction_cam @ state.cam_from_world[:, :3, :3]


def deformation_blocks(
    state: FaceState, sampled: SampledViews, terms: ConsistencyTerms, texels: Tensor, per_sample: float
) -> BlockField:
    """Blocks for offsets in model axes (three components)."""
    direction = world_directions(state, sampled) @ state.world_from_model[:3, :3]
    slope = terms.slope.flatten(1)[:, texels]
    weight = terms.weight.flatten(1)[:, texels]
    direction = eliminate_texture(direction * slope[..., None], weight)
    residual = terms.residual.flatten(1)[:, texels]
    weighted = direction * (weight * per_sample)[..., None]
    matrix = torch.einsum("nki,nkj->ijk", weighted, direction)
    gradient = torch.einsum("nki,nk->ik", weighted, residual)
    return BlockField(_spread(matrix, texels, terms), _spread(gradient, texels, terms))


def displacement_blocks(
    state: FaceState,
    sampled: SampledViews,
    normals: Tensor,
    terms: ConsistencyTerms,
    texels: Tensor,
    per_sample: float,
) -> BlockField:
    """Blocks for offsets along `normals` [K, 3] (one component)."""
    direction = (world_directions(state, sampled) * normals).sum(-1)
    slope = terms.slope.flatten(1)[:, texels]
    weight = terms.weight.flatten(1)[:, texels]
    direction = eliminate_texture(direction * slope, weight)
    residual = terms.residual.flatten(1)[:, texels]
    weighted = direction * weight * per_sample
    matrix = (weighted * direction).sum(0)[None, None]
    gradient = (weighted * residual).sum(0)[None]
    return BlockField(_spread(matrix, texels, terms), _spread(gradient, texels, terms))


def _spread(values: Tensor, texels: Tensor, terms: ConsistencyTerms) -> Tensor:
    """[..., K] -> [..., S, S]."""
    size = terms.residual.shape[-1]
    grid = values.new_zeros(*values.shape[:-1], size * size)
    grid[..., texels] = values
    return grid.unflatten(-1, (size, size))


def map_step(
    current: Tensor,
    data: Sequence[tuple[BlockField, GridSampling | VertexSampling]],
    weights: MapWeights,
    tangential: Tensor | None = None,
    tolerance: float = TOLERANCE,
    iterations: int = 120,
) -> Tensor:
    """The Gauss-Newton step of a map.

    Args:
        current: [C, R, R] the map, mm.
        data: Each energy's blocks, with the sampling from the map to where they stand.
        weights: Regularisation.
        tangential: [C, C, R, R] projector onto the surface's tangent plane, or None.
        tolerance: Relative residual of the conjugate gradients.
        iterations: Their limit.
    """

    def regulariser(grid: Tensor) -> Tensor:
        out = weights.magnitude * grid
        if weights.laplacian > 0 or weights.bilaplacian > 0:
            bent = laplacian(grid)
            # -l L d + b L L d, with one Laplacian less.
            outer = weights.bilaplacian * bent - weights.laplacian * grid
            out = out + laplacian(outer)
        if tangential is not None and weights.tangential > 0:
            out = out + weights.tangential * (tangential * grid[None]).sum(1)
        return out

    observed = Stencil.of([sampling.couplings(blocks.matrix) for blocks, sampling in data])

    def normal(grid: Tensor) -> Tensor:
        return regulariser(grid) + observed.apply(grid)

    channels = current.shape[0]
    identity = torch.eye(channels, device=current.device, dtype=current.dtype)[:, :, None, None]
    # Diagonals of the five-point Laplacian (4) and of its square (20), away from the border.
    scalar = weights.magnitude + 4.0 * weights.laplacian + 20.0 * weights.bilaplacian + 1e-6
    diagonal = identity * scalar + observed.own
    if tangential is not None:
        diagonal = diagonal + weights.tangential * tangential
    inverse = torch.linalg.inv(diagonal.permute(2, 3, 0, 1)).permute(2, 3, 0, 1)

    def precondition(grid: Tensor) -> Tensor:
        return (inverse * grid[None]).sum(1)

    right = -regulariser(current)
    for blocks, sampling in data:
        right = right - sampling.adjoint(blocks.gradient)
    return solve(normal, right, precondition, tolerance=tolerance, iterations=iterations)


def roughness(grid: Tensor, seen: Tensor) -> float:
    """Root mean square of the Laplacian of a map [C, R, R], mm per texel², under weights [S, S] over the atlas."""
    weight = interpolate(seen[None, None], grid.shape[1:], mode="area")[0, 0]
    squared = laplacian(grid).square().sum(0)
    return float(((squared * weight).sum() / weight.sum().clamp_min(1e-6)).sqrt())


def softened(weights: MapWeights, found: float, usual: float) -> MapWeights:
    """The weights with a smaller bilaplacian where a map's roughness `found` exceeds the `usual` one.

    The bilaplacian is the inverse variance of the map's Laplacian under a Gaussian prior. Faces differ in that variance,
    so it is taken from the map itself (MacKay 1992, "Bayesian interpolation": alpha = gamma / 2 E_W, with his count gamma
    of determined parameters absorbed by the usual roughness). Only downwards: a map that was kept too smooth would ask
    for still more smoothness.
    """
    share = min(usual / max(found, 1e-9), 1.0) ** 2
    return replace(weights, bilaplacian=weights.bilaplacian * max(share, LEAST_STIFFNESS))


def clamp_step(step: Tensor, limit: float) -> Tensor:
    """Shorten each texel's step [C, R, R] to at most `limit` mm."""
    length = step.norm(dim=0, keepdim=True)
    return step * (limit / length.clamp_min(limit))


def fade_border(resolution: int, width: float, like: Tensor) -> Tensor:
    """[R, R] 1 inside, falling smoothly to 0 within the outer `width` fraction of the map."""
    position = (torch.arange(resolution, device=like.device, dtype=like.dtype) + 0.5) / resolution
    edge = torch.minimum(position, 1.0 - position)
    ramp = (edge / width).clamp(0.0, 1.0)
    ramp = ramp * ramp * (3.0 - 2.0 * ramp)
    return torch.minimum(ramp[:, None], ramp[None, :])

"""Energies of the dense parameters as normal equations: landmarks, photo-consistency, coefficient priors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.camera import transform_points
from fitter.energies.consistency import ConsistencyTerms, eliminate_texture
from fitter.hierarchy.face import FaceState
from fitter.optimise.parameters import (
    Layout,
    SurfacePoints,
    parameter_jacobian,
    pixel_jacobian,
    world_jacobian,
    world_points,
)
from fitter.optimise.views import SampledViews

JAW = slice(0, 17)
"""iBUG's contour points, which slide along the jaw line as the head turns."""
LEAST_WEIGHT = 1e-4
"""Of a sample in one view, below which it is left out."""
ACTIVE_SET_ROUNDS = 20
"""Solves of one bounded step at most; a handful is usual."""


@dataclass
class NormalEquations:
    """H and g of a quadratic energy: energy(step) = energy + 2 g . step + step . H step."""

    matrix: Tensor
    gradient: Tensor
    energy: float = 0.0

    @staticmethod
    def zeros(size: int, like: Tensor) -> NormalEquations:
        """Empty equations in double precision."""
        return NormalEquations(
            like.new_zeros(size, size, dtype=torch.float64), like.new_zeros(size, dtype=torch.float64)
        )

    def add(self, other: NormalEquations, weight: float) -> None:
        """Add another energy with its weight."""
        self.matrix += weight * other.matrix
        self.gradient += weight * other.gradient
        self.energy += weight * other.energy


def from_rows(rows: Tensor, residual: Tensor, weight: Tensor) -> NormalEquations:
    """Normal equations of sum weight (residual + rows . step)²; rows [M, P], residual [M], weight [M]."""
    weighted = rows * weight[:, None]
    return NormalEquations(
        (rows.T @ weighted).double(), (weighted.T @ residual).double(), float((weight * residual**2).sum())
    )


def landmark_equations(
    state: FaceState,
    layout: Layout,
    points: SurfacePoints,
    targets: Tensor,
    weight: Tensor,
    sigma_mm: float,
    robust: float = 2.0,
) -> tuple[NormalEquations, Tensor]:
    """Landmark energy: Cauchy loss of pixel distance over the landmark's expected error.

    Args:
        state: Where to linearise.
        layout: Free parameters.
        points: The model's landmarks (K).
        targets: [N, K, 2] detected, px.
        weight: [N, K] confidence times visibility; 0 drops a point.
        sigma_mm: Expected error on the face, mm; converted to pixels at each view's distance.
        robust: Cauchy scale in units of `sigma_mm`.

    Returns:
        The equations, and the pixel distances [N, K].
    """
    total = NormalEquations.zeros(layout.size, targets)
    distances = []
    for view in range(state.view_count):
        world = world_points(state, points, state.expression_row(view))
        cam = transform_points(state.cam_from_world[view], world)
        pixels, jacobian = pixel_jacobian(state.intrinsics[view], cam)
        sigma = sigma_mm * state.intrinsics[view, 0, 0] / cam[:, 2].mean()
        residual = (pixels - targets[view]) / sigma
        rows = parameter_jacobian(state, layout, points, view, jacobian / sigma)
        if "focal" in layout:
            rows[..., layout.slices["focal"]] = ((pixels - state.intrinsics[view, :2, 2]) / sigma)[..., None]
        squared = (residual**2).sum(-1)
        cauchy = weight[view] / (1.0 + squared / robust**2)
        total.add(from_rows(rows.flatten(0, 1), residual.flatten(), cauchy.repeat_interleave(2)), 1.0)
        distances.append(squared.sqrt() * sigma)
    return total, torch.stack(distances)


def consistency_equations(
    state: FaceState,
    layout: Layout,
    points: SurfacePoints,
    sampled: Sequence[SampledViews],
    terms: Sequence[ConsistencyTerms],
    texels: Tensor,
    per_sample: float,
) -> NormalEquations:
    """Photo-consistency as normal equations of the dense parameters, summed over the channels.

    Args:
        state: Where to linearise.
        layout: Free parameters.
        points: The surface samples (K).
        sampled: What the views see there, per channel.
        terms: The energy at the samples, on their grid, per channel.
        texels: [K] flat grid index of each sample.
        per_sample: Weight of one sample.
    """
    seen = torch.stack([one.weight.flatten(1)[:, texels] > LEAST_WEIGHT for one in terms])
    # What no view compares says nothing, and there is much of it: the rows are long.
    used = torch.nonzero(seen.any(0).any(0)).flatten()
    per_view = "camera_pose" in layout or "focal" in layout or state.expression.shape[0] > 1
    equations = _rows_per_view if per_view else _blocks_per_point
    total = NormalEquations.zeros(layout.size, state.identity)
    for one in equations(state, layout, points.rows(used), sampled, terms, texels[used], used):
        total.add(one, per_sample)
    return total


def _rows_per_view(
    state: FaceState, layout: Layout, points: SurfacePoints, sampled, terms, texels: Tensor, used: Tensor
) -> Iterator[NormalEquations]:
    """One row per view and sample: where cameras or expressions are each view's own."""
    for channel, one in zip(sampled, terms, strict=True):
        slope, weight, residual = (part.flatten(1)[:, texels] for part in (one.slope, one.weight, one.residual))
        rows = []
        for view in range(state.view_count):
            row = parameter_jacobian(state, layout, points, view, channel.direction_cam[view, used])
            if "focal" in layout:
                offset = channel.pixels[view, used] - state.intrinsics[view, :2, 2]
                gradient = channel.pixel_gradient[view, used]
                row[..., layout.slices["focal"]] = (gradient * offset).sum(-1, keepdim=True)
            rows.append(row * slope[view][:, None])
        jacobian = eliminate_texture(torch.stack(rows), weight)
        keep = weight.flatten() > LEAST_WEIGHT
        yield from_rows(jacobian.flatten(0, 1)[keep], residual.flatten()[keep], weight.flatten()[keep])


def _blocks_per_point(
    state: FaceState, layout: Layout, points: SurfacePoints, sampled, terms, texels: Tensor, used: Tensor
) -> Iterator[NormalEquations]:
    """The same where all parameters move one surface: views and channels meet in a small matrix of each point's motion.

    With the point's motion M (3 × P) and a view's derivative d, the sum of w (d M)ᵀ (d M) is Mᵀ (sum of w dᵀ d) M: the
    long rows are made and multiplied once, not once per view and channel.
    """
    matrix, pull, energy = 0.0, 0.0, 0.0
    for channel, one in zip(sampled, terms, strict=True):
        slope, weight, residual = (part.flatten(1)[:, texels] for part in (one.slope, one.weight, one.residual))
        weight = weight * (weight > LEAST_WEIGHT)
        direction = (channel.direction_cam[:, used] @ state.cam_from_world[:, :3, :3]) * slope[..., None]
        direction = eliminate_texture(direction, one.weight.flatten(1)[:, texels])
        weighted = direction * weight[..., None]
        matrix = matrix + torch.einsum("nki,nkj->kij", weighted, direction)
        pull = pull + (weighted * residual[..., None]).sum(0)
        energy += float((weight * residual**2).sum())
    axes = torch.eye(3, device=pull.device, dtype=pull.dtype).expand(len(used), 3, 3)
    motion = world_jacobian(state, layout, points, 0, axes)
    rows = motion.flatten(0, 1)
    yield NormalEquations(
        (rows.T @ torch.bmm(matrix, motion).flatten(0, 1)).double(), (rows.T @ pull.flatten()).double(), energy
    )


def prior_equations(layout: Layout, name: str, value: Tensor, centre: Tensor, sigma: float | Tensor) -> NormalEquations:
    """Gaussian prior on one block of parameters: sum ((value - centre) / sigma)²."""
    total = NormalEquations.zeros(layout.size, value)
    if name not in layout:
        return total
    precision = (
        (torch.ones_like(value) / torch.as_tensor(sigma, device=value.device, dtype=value.dtype) ** 2)
        .flatten()
        .double()
    )
    difference = (value - centre).flatten().double()
    index = torch.arange(layout.slices[name].start, layout.slices[name].stop, device=value.device)
    total.matrix[index, index] = precision
    total.gradient[index] = precision * difference
    total.energy = float((precision * difference**2).sum())
    return total


def solve_step(
    equations: NormalEquations, layout: Layout, state: FaceState, unit_expressions: bool, damping: float = 1e-6
) -> Tensor:
    """The Gauss-Newton step [P] with expressions inside [0, 1] (primal-dual active set, Hintermüller et al. 2002)."""
    matrix, gradient = equations.matrix, equations.gradient
    diagonal = matrix.diagonal()
    matrix = matrix + torch.diag(damping * diagonal + 1e-9 * diagonal.max().clamp_min(1e-12))
    free = torch.ones(layout.size, dtype=torch.bool, device=matrix.device)
    fixed_step = torch.zeros_like(gradient)
    bounded = unit_expressions and "expression" in layout
    for _ in range(ACTIVE_SET_ROUNDS):
        step = fixed_step.clone()
        right = -(gradient + matrix @ fixed_step)[free]
        step[free] = torch.linalg.solve(matrix[free][:, free], right)
        if not bounded:
            break
        part = layout.slices["expression"]
        value, held = state.expression.flatten().double(), ~free[part]
        wanted = value + step[part]
        # Held at a bound as long as the energy pulls outwards; a free one is held once it has left.
        slope = (gradient + matrix @ step)[part]
        low = torch.where(held, (wanted < 0.5) & (slope > 0), wanted < -1e-6)
        high = torch.where(held, (wanted > 0.5) & (slope < 0), wanted > 1.0 + 1e-6)
        if torch.equal(low | high, held):
            break
        free[part] = ~(low | high)
        fixed_step[part] = torch.where(low, -value, torch.where(high, 1.0 - value, torch.zeros_like(value)))
    return step.to(state.identity.dtype)

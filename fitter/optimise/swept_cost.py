"""What moving the surface in or out would make the views disagree by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fitter.camera import transform_points
from fitter.energies.consistency import (
    Agreement,
    agreement,
    common_scale,
    disagreement,
    paired_weight,
    robust_energy,
)
from fitter.hierarchy.face import FaceState
from fitter.hierarchy.grid import blur_factor, masked_blur, shrunk
from fitter.hierarchy.samples import SurfaceSamples
from fitter.kernels.blur import gaussian_blur
from fitter.kernels.view_sweep import differences_along, has_sweep_kernels, means_of_squares, robust_sums
from fitter.optimise.comparison import REFERENCE_SAMPLES, Compared, comparison_filters, trusted_weight
from fitter.optimise.config import Stage
from fitter.optimise.observation import sample_image
from fitter.optimise.placed_samples import PlacedSamples
from fitter.optimise.problem import setting
from fitter.optimise.views import SampledViews

WIDEST = 2.5
"""Samples: wider low-passes are made on a coarser grid. A search is not as delicate as a slope."""
AT_ONCE = 6 * 192**2
"""Samples times depths that are compared in one go: more would not fit the processor's cache."""


@dataclass(frozen=True)
class ViewComparison:
    """How views are compared, the same at all depths: who sees what, exposure and contrast are those of the surface as it
    is."""

    samples: SurfaceSamples
    seen: Tensor
    """[N, S, S] 1 where a view sees the sample at all."""
    weight: Tensor
    """[N, S, S] of `paired_weight`."""
    scale: Tensor
    """[N, 1, 1] of `common_scale`."""
    filters: dict[str, Any]
    """Of `disagreement`."""
    robust: float
    """Geman-McClure scale."""
    patch: float
    """Width of the patch over which costs are averaged, samples."""
    kept: Tensor
    """[L] those of the samples that two views see."""

    @staticmethod
    def of(
        stage: Stage, compared: Compared, samples: SurfaceSamples, sampled: tuple[SampledViews, ...], progress: float
    ) -> ViewComparison:
        """With the stage's settings as they are after a share `progress` of its steps."""
        filters = comparison_filters(stage, samples, progress) | {"widest": WIDEST}
        weight = trusted_weight(samples, sampled[0].weight, compared.trust)
        seen = (weight > 0).to(weight.dtype)
        weight = paired_weight(weight)
        first = samples.to_grid(sampled[0].signal.T).permute(2, 0, 1)
        scale = common_scale(first, weight, filters["mode"], filters["window"])
        kept = samples.from_grid(weight.sum(0)).nonzero()[:, 0]
        robust = setting(stage, "consistency", "robust", 3.0, progress)
        patch = setting(stage, "depth", "patch", 0.75, progress) * samples.resolution / REFERENCE_SAMPLES
        return ViewComparison(samples, seen, weight, scale, filters, robust, patch, kept)

    @property
    def compares(self) -> Tensor:
        """[S, S] 1 where two views see."""
        return (self.weight.sum(0) > 0).to(self.weight.dtype)

    def residuals(self, values: Tensor) -> list[Tensor]:
        """What the views differ by, channel by channel [D, N, S, S], from values [C, D, N, S, S]."""
        residuals, slope = [], None
        for channel in values:
            residual, own = disagreement(channel, self.weight, self.seen, self.scale, slope=slope, **self.filters)
            slope = own if slope is None else slope
            residuals.append(residual)
        return residuals

    def agreements(self, sampled: tuple[SampledViews, ...]) -> list[Agreement]:
        """How the views agree where the surface is, channel by channel."""
        values = torch.stack([self.samples.to_grid(one.signal.T).permute(2, 0, 1)[None] for one in sampled])
        return [agreement(residual[0], self.weight, self.robust) for residual in self.residuals(values)]


def depth_cost(
    state: FaceState, compared: Compared, surface: PlacedSamples, comparison: ViewComparison, depths: Tensor
) -> Tensor:
    """What the views disagree by with the surface moved along its normals by each of `depths` [D], mm: [D, S, S].

    The robust disagreement of photo-consistency, in the mean over a patch around each sample.
    """
    compares = comparison.compares
    images = [signal.image[: signal.channel_count] for signal in compared.signals]
    scales = [signal.scale for signal in compared.signals]
    lines = _normals_in_views(state, surface, comparison.kept, scales)
    fast = comparison.filters["mode"] == "gain" and has_sweep_kernels(comparison.weight)
    energy_of = _energy_by_kernels if fast else _energy_of_grids
    costs = []
    for chunk in depths.split(max(AT_ONCE // comparison.samples.resolution**2, 1)):
        energy = energy_of(comparison, images, lines, chunk)
        costs.append(masked_blur(energy, compares, comparison.patch) * compares)
    return torch.cat(costs)


def _energy_by_kernels(
    comparison: ViewComparison, images: list[Tensor], lines: list[tuple[Tensor, Tensor]], depths: Tensor
) -> Tensor:
    """The same as `_energy_of_grids` in mode `gain`, without a grid of every view, channel and depth."""
    samples, filters = comparison.samples, comparison.filters
    side, sigma = samples.resolution, filters["sigma"]
    texel = samples.texel[comparison.kept]
    weight = comparison.weight.flatten(1)[:, texel]
    difference = differences_along(images, lines, depths, weight, comparison.scale.flatten())
    factor = blur_factor(side, filters["lowpass"], WIDEST)
    narrow = filters["lowpass"] / factor
    below = gaussian_blur(shrunk(comparison.weight, factor), narrow) + 1e-6
    broad = gaussian_blur(means_of_squares(difference, weight, texel, side, factor), narrow) / below
    energy = depths.new_zeros(len(depths), side * side)
    energy[:, texel] = robust_sums(difference, broad, weight, texel, side, sigma, comparison.robust)
    return energy.unflatten(1, (side, side))


def _energy_of_grids(
    comparison: ViewComparison, images: list[Tensor], lines: list[tuple[Tensor, Tensor]], depths: Tensor
) -> Tensor:
    """Robust disagreement at each depth, summed over views and channels, [D, S, S]."""
    samples = comparison.samples
    side, texels = samples.resolution, samples.texel[comparison.kept]
    values = depths.new_zeros(images[0].shape[0], len(depths), len(images), side * side)
    for view, (image, (start, along)) in enumerate(zip(images, lines, strict=True)):
        place = (start + depths[:, None, None] * along).flatten(0, 1)
        looked_up = sample_image(image, place[:, :2] / place[:, 2:].clamp_min(1e-6))
        values[:, :, view, texels] = looked_up.T.unflatten(1, (len(depths), -1))
    residuals = comparison.residuals(values.unflatten(-1, (side, side)))
    return sum((comparison.weight * robust_energy(one, comparison.robust)).sum(1) for one in residuals)


def _normals_in_views(
    state: FaceState, surface: PlacedSamples, kept: Tensor, scales: list[float]
) -> list[tuple[Tensor, Tensor]]:
    """Each view's homogeneous pixels [L, 3] of the samples `kept`, and their change per mm along the normals.

    `scales` tells of each view how large a pixel of the full-size photograph is in its level's.
    """
    lines = []
    for view, scale in enumerate(scales):
        camera, intrinsics = state.cam_from_world[view], state.intrinsics[view]
        intrinsics = intrinsics * intrinsics.new_tensor([[scale], [scale], [1.0]])
        start = transform_points(camera, surface.points[state.expression_row(view)][kept]) @ intrinsics.T
        lines.append((start, surface.normals[kept] @ (intrinsics @ camera[:3, :3]).T))
    return lines

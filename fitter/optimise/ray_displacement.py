"""The displacement map of a scan: rays along M1's normals, smoothed as the scan's noise and resolution ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fitter.hierarchy.dense import DenseSurface, dense_samples, dense_surface
from fitter.hierarchy.face import FaceState, m1_vertices
from fitter.hierarchy.grid import GridSampling
from fitter.hierarchy.samples import SurfaceSamples
from fitter.kernels.surface import vertex_normals
from fitter.model.morphable import MorphableModel
from fitter.optimise.config import Stage
from fitter.optimise.map_solver import MAP_BORDER, BlockField, MapWeights, fade_border, map_step
from fitter.optimise.problem import Problem, StageLog, setting
from fitter.optimise.scan_target import ScanTarget
from fitter.optimise.scan_terms import usable_vertices

RAY_SETTINGS: dict[str, frozenset[str]] = {
    "scan": frozenset({"reach", "least_cosine", "largest", "rays"}),
    "smoothness": frozenset({"noise", "edge", "bilaplacian", "magnitude"}),
}
"""Energies of a `ray_cast` stage, with their settings."""
EDGES_PER_WAVE = 2.5
"""Default of `edge`."""
SKIN_SPECTRUM = 400.0
"""Default of `noise`, 1 / mm²."""
RAYS = 2
"""Default of `rays`: along each side of a texel. The map is the least-squares fit of its bilinear surface to them, which
keeps more of the shortest waves than a map that holds the value at each texel's middle."""


@dataclass(frozen=True)
class MeasuredDisplacement:
    """What the rays found, on a grid of `rays` × `rays` for each texel of the map."""

    amount: Tensor
    """[T, T] mm along M1's normal; 0 where nothing was found."""
    valid: Tensor
    """[T, T] bool: a ray met the scan's front side within the largest believable distance."""
    spacing_mm: Tensor
    """[T, T] distance of neighbouring rays on M1, mm; the median where there is no surface."""
    rays: int
    """Rays along each side of a texel."""


def measure_displacement(
    model: MorphableModel,
    state: FaceState,
    target: ScanTarget,
    surface: DenseSurface,
    *,
    reach: float = 6.0,
    least_cosine: float = 0.4,
    largest: float = 3.0,
    rays: int = RAYS,
) -> MeasuredDisplacement:
    """Cast rays each way along M1's normal from every texel; the nearer front side counts.

    Args:
        model: The face model.
        state: M1.
        target: The scan.
        surface: M1's subdivision, which carries the displacement.
        reach: Length of the rays, mm.
        least_cosine: Least cosine between M1's normal and the scan's.
        largest: Displacements beyond this (mm) are another surface: a collar, hair, the other lip.
        rays: Rays along each side of a texel.
    """
    resolution = rays * state.displacement.shape[-1]
    samples = dense_samples(surface, resolution)
    base = surface.positions(m1_vertices(model, state))
    normals = vertex_normals(base[None], surface.topology)[0]
    origins = samples.interpolate(base)
    directions = torch.nn.functional.normalize(samples.interpolate(normals), dim=-1)
    nearest = torch.full_like(origins[:, 0], math.inf)
    amount = torch.zeros_like(nearest)
    for sign in (1.0, -1.0):
        # A hair's breadth back, so that a surface that M1 touches exactly is met too.
        at = target.queries.cast(origins - sign * 1e-3 * directions, sign * directions, reach)
        cosine = (target.normals_at(at) * directions).sum(-1)
        length = (at.distance - 1e-3).clamp_min(0.0)
        better = at.found & (cosine > least_cosine) & (length < nearest)
        nearest = torch.where(better, length, nearest)
        amount = torch.where(better, sign * length, amount)
    allowed = surface_usable(model, surface, samples)
    valid = (nearest < largest) & allowed
    amount = torch.where(valid, amount, torch.zeros_like(amount))
    return MeasuredDisplacement(samples.to_grid(amount), samples.to_grid(valid), spacing(samples, origins), rays)


def surface_usable(model: MorphableModel, surface: DenseSurface, samples: SurfaceSamples) -> Tensor:
    """[K] bool: samples on skin that a scan can speak of."""
    flags = surface.positions(usable_vertices(model).to(model.mean.dtype)[:, None])
    return (samples.interpolate(flags)[:, 0] > 0.75) & samples.usable


def spacing(samples: SurfaceSamples, points: Tensor) -> Tensor:
    """[T, T] mm: geometric mean of the distances to the next sample along u and v; the median where unknown."""
    grid = samples.to_grid(points)
    known = samples.to_grid(torch.ones_like(points[:, 0])) > 0
    along_u = (grid[:, 1:] - grid[:, :-1]).norm(dim=-1)
    along_v = (grid[1:] - grid[:-1]).norm(dim=-1)
    size = points.new_full(grid.shape[:2], float("nan"))
    both = known[:-1, :-1] & known[:-1, 1:] & known[1:, :-1]
    size[:-1, :-1] = torch.where(both, (along_u[:-1] * along_v[:, :-1]).sqrt(), size[:-1, :-1])
    return torch.where(size.isnan(), size.nanmedian().nan_to_num(1.0), size)


def smoothing_weight(noise_mm: float, edge_mm: float, texel_mm: float, noise: float, edge: float) -> float:
    """Weight of the bilaplacian (texels) against unit data.

    Minimising sum (d - m)² + b |Δd|² damps a wave of frequency w (per texel) by 1 / (1 + b w⁴). Two reasons to damp:

    - Noise. A scan with white noise σ on vertices a distance e apart has a noise spectrum of σ² e². Where skin's detail
      has the spectrum A w⁻⁴, the Wiener filter is 1 / (1 + σ² e² w⁴ / A): that is b, with `noise` = 1 / A in 1 / mm².
    - Facets. A mesh holds nothing beyond two edges per wave; what the rays find there are its facets. The gain
      is to be a half at a wavelength of `edge` edge lengths.
    """
    from_noise = noise * (noise_mm * edge_mm) ** 2 / texel_mm**4
    wavelength = edge * edge_mm / texel_mm
    # Below four texels a wave is the map's own business.
    from_facets = (wavelength / (2.0 * math.pi)) ** 4 if wavelength > 4.0 else 0.0
    return from_noise + from_facets


def smooth_displacement(measured: MeasuredDisplacement, bilaplacian: float, magnitude: float) -> Tensor:
    """The map [S, S] nearest to what the rays found that bends little; it fills holes and fades at the border."""
    usual = measured.spacing_mm.nanmedian()
    # The weight is stated for the median texel and all its rays; where texels are larger, the same wave has fewer of them.
    share = (measured.spacing_mm / usual).clamp(0.5, 2.0) ** 4 / measured.rays**2
    weight = measured.valid.to(measured.amount.dtype) * share
    blocks = BlockField(weight[None, None], -(weight * measured.amount)[None])
    across = measured.amount.shape[-1]
    resolution = across // measured.rays
    sampling = GridSampling.build(resolution, across, weight.device, weight.dtype)
    # A little of it even without noise, to carry the surface across holes.
    weights = MapWeights(bilaplacian=max(bilaplacian, 1e-3), laplacian=1e-3, magnitude=magnitude)
    start = torch.zeros(1, resolution, resolution).to(measured.amount)
    found = map_step(start, [(blocks, sampling)], weights, tolerance=1e-4, iterations=400)
    return found[0] * fade_border(resolution, MAP_BORDER, found)


def run_ray_cast(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """Replace the displacement map by what rays from M1 find on the scan."""
    log = StageLog(steps=1)
    target = problem.scan
    if target is None:
        log.note = "skipped: there is no scan"
        return state, log
    if not target.detailed and setting(stage, "smoothness", "edge", EDGES_PER_WAVE) > 0:
        log.note = f"no displacement: the scan's triangles ({target.edge_mm:.1f} mm) hold nothing finer than M1"
        problem.on_step(stage.name, 1, 1, 0.0)
        return replace(state, displacement=torch.zeros_like(state.displacement)), log
    measured = measure_stage(problem, state, stage)
    texel = float(measured.spacing_mm.nanmedian()) * measured.rays
    bilaplacian = setting(stage, "smoothness", "bilaplacian", 0.0) + smoothing_weight(
        target.noise_mm,
        target.edge_mm,
        texel,
        setting(stage, "smoothness", "noise", SKIN_SPECTRUM),
        setting(stage, "smoothness", "edge", EDGES_PER_WAVE),
    )
    displacement = smooth_displacement(measured, bilaplacian, setting(stage, "smoothness", "magnitude", 1e-4))
    kept = measured.valid
    between = GridSampling.build(displacement.shape[-1], measured.amount.shape[-1], displacement.device)
    removed = (between.apply(displacement) - measured.amount)[kept].abs()
    log.residuals["valid_share"] = float(kept.float().mean())
    log.residuals["ray_median_mm"] = float(measured.amount[kept].abs().median()) if bool(kept.any()) else float("nan")
    log.residuals["smoothed_away_median_mm"] = float(removed.median()) if bool(kept.any()) else float("nan")
    log.residuals["bilaplacian"] = bilaplacian
    problem.on_step(stage.name, 1, 1, log.residuals["ray_median_mm"])
    return replace(state, displacement=displacement), log


def measure_stage(problem: Problem, state: FaceState, stage: Stage, rays: int | None = None) -> MeasuredDisplacement:
    """The rays of a `ray_cast` stage; `rays` along each side of a texel instead of the stage's own number."""
    surface = dense_surface(problem.model, problem.configuration.maps.dense_levels)
    return measure_displacement(
        problem.model,
        state,
        problem.scan,
        surface,
        reach=setting(stage, "scan", "reach", 6.0),
        least_cosine=setting(stage, "scan", "least_cosine", 0.4),
        largest=setting(stage, "scan", "largest", 3.0),
        rays=rays or int(setting(stage, "scan", "rays", RAYS)),
    )

"""The fused albedo A': what the photographs' texture looks like without their light (HRN §3.4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fitter.hierarchy.face import FaceState, m1_vertices
from fitter.hierarchy.samples import surface_samples
from fitter.kernels.surface import vertex_normals
from fitter.model.morphable import MorphableModel
from fitter.optimise.contours import attended_triangles
from fitter.optimise.problem import Problem
from fitter.render.shading import spherical_harmonics
from fitter.texture.delight import skin_light, smooth_skin
from fitter.texture.deretouch import deretouched_albedo
from fitter.texture.filters import masked_blur, smooth_blur

SMALL = 256
"""Texels per side of the grid on which smooth things (light, skin tone) are found."""
BORDER = 1.0 / 64.0
"""How far lips and brows reach beyond their vertices, as a fraction of the map's width."""
FULLY_SEEN = 0.3
"""Visibility times angle from which the photograph alone decides."""


def fused_albedo(problem: Problem, state: FaceState, base: Tensor, texture: Tensor, shares: Tensor) -> Tensor:
    """A' of the fused texture.

    Args:
        problem: Model and topology.
        state: The fit, with its lighting.
        base: A0 [T, T, 3], the model's albedo on the atlas.
        texture: [T, T, 3] fused texture, linear RGB, filled in where no view sees.
        shares: [N, T, T] visibility times angle of the views. How sharp a view is does not count here: a small face
            has a skin colour too.

    Returns:
        A' [T, T, 3]; the model's albedo in the photographs' tone where no view sees.
    """
    factor = max(1, texture.shape[0] // SMALL)
    inside = (base > 0).any(-1).to(base.dtype)
    small_inside = _pooled(inside[..., None], factor)
    small_base = _pooled(base, factor) / small_inside.clamp_min(1e-6)
    small_texture = _pooled(texture, factor)
    small_shares = torch.stack([_pooled(share[..., None], factor)[..., 0] for share in shares])

    plain = plain_skin(problem.model, small_base.shape[0]) * (small_inside[..., 0] > 0.99)
    light = skin_light(view_irradiance(problem, state, small_base.shape[0]), small_shares * plain)
    skin = smooth_skin(small_texture, small_base, light, small_shares.amax(0), plain)
    albedo = deretouched_albedo(_enlarged(skin.albedo, factor), texture, _enlarged(skin.retouched, factor))
    known = _enlarged(_trusted(small_shares.amax(0), small_inside[..., 0])[..., None], factor)
    toned = (base * _enlarged(skin.gain, factor)).clamp(0.0, 1.0)
    return torch.lerp(toned, albedo, known) * inside[..., None]


def _trusted(seen: Tensor, inside: Tensor) -> Tensor:
    """[n, n] in [0, 1] how far the texture decides, from how well it is seen and where the atlas is [n, n].

    It fades inwards of what is seen: the rim of a view shows hair and background as often as skin. Small gaps
    (nostrils, the shadow of the nose) keep what was filled in.
    """
    width = seen.shape[0] * BORDER
    stacked = torch.stack([2.0 * (seen > 0.05).to(seen.dtype) - 1.0, seen / FULLY_SEEN], -1)
    known = masked_blur(stacked, inside, width).amin(-1).clamp(0.0, 1.0)
    return known * known * (3.0 - 2.0 * known)


def plain_skin(model: MorphableModel, resolution: int) -> Tensor:
    """[n, n] in {0, 1}: bare skin of the face, some way off lips, brows and eyes."""
    samples = surface_samples(model, resolution)
    attended = torch.zeros_like(model.regions["face"])
    attended[model.triangles[attended_triangles(model)].flatten()] = True
    excluded = model.regions["lips"] | model.regions["eyes"]
    for name in ("brows", "sockets", "mouth_inside"):
        excluded = excluded | model.regions.get(name, torch.zeros_like(excluded))
    face = samples.to_grid(attended[samples.vertices].all(-1).float())
    near = samples.to_grid(excluded[samples.vertices].any(-1).float())
    return face * (smooth_blur(near[..., None], BORDER * resolution)[..., 0] < 0.08)


def view_irradiance(problem: Problem, state: FaceState, resolution: int) -> Tensor:
    """Irradiance [N, n, n, 3] of every view on M1; M2's fine normals stay in the texture, where the fit found them."""
    samples = surface_samples(problem.model, resolution)
    functions = []
    for row in range(state.expression.shape[0]):
        normals = vertex_normals(m1_vertices(problem.model, state, row)[None], problem.topology)[0]
        functions.append(spherical_harmonics(functional.normalize(samples.interpolate(normals), dim=-1)))
    lights = [functions[state.expression_row(view)] @ state.lighting[view] for view in range(state.view_count)]
    return torch.stack([samples.to_grid(light) for light in lights])


def _pooled(values: Tensor, factor: int) -> Tensor:
    """[T, T, C] averaged over squares of `factor` texels."""
    return functional.avg_pool2d(values.movedim(-1, 0)[None], factor)[0].movedim(0, -1) if factor > 1 else values


def _enlarged(values: Tensor, factor: int) -> Tensor:
    """[n, n, C] interpolated to `factor` times the size."""
    if factor == 1:
        return values
    grid = values.movedim(-1, 0)[None]
    return functional.interpolate(grid, scale_factor=float(factor), mode="bilinear", align_corners=False)[0].movedim(
        0, -1
    )

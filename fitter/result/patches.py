"""Eyeballs and the inside of the mouth: the maps do not move them, but a photograph may show them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from fitter.hierarchy.face import FaceState, m1_vertices
from fitter.hierarchy.samples import SurfaceSamples
from fitter.kernels.surface import vertex_normals
from fitter.kernels.topology import MeshTopology
from fitter.model.morphable import MorphableModel
from fitter.optimise.observation import sample_image
from fitter.optimise.problem import Problem
from fitter.optimise.views import view_visibility
from fitter.render.operations import rasterize
from fitter.result.textures import fitting_level, view_camera
from fitter.texture.colour import srgb_to_linear
from fitter.texture.unwrap import project_texels

FULLY_SEEN = 0.35
"""Visibility times angle from which the photograph alone decides."""
SELECTIVITY = 6.0
"""Power on the views' weights: eyes and teeth turn with no view, so that a mean of views would show them twice."""


@dataclass(frozen=True)
class PatchTexture:
    """What the photographs show of the patches, T texels a side, row 0 is v = 0."""

    colour: Tensor
    """[T, T, 3] linear RGB; zero outside of the patches and where no photograph shows them."""
    weight: Tensor
    """[T, T] in [0, 1]: how far the photographs decide; the rest is to be painted. Zero outside of the patches."""


def patch_triangles(model: MorphableModel) -> Tensor:
    """[F, 3] triangles with an area on the atlas that take no part in the maps, whatever corner they start at."""

    def keys(triangles: Tensor) -> Tensor:
        a, b, c = triangles.sort(1).values.unbind(1)
        return (a * model.vertex_count + b) * model.vertex_count + c

    a, b, c = (model.atlas_uv.double()[model.triangles[:, corner]] for corner in range(3))
    area = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs()
    return model.triangles[(area > 1e-9) & ~torch.isin(keys(model.triangles), keys(model.atlas_triangles))]


@lru_cache(maxsize=4)
def patch_samples(model: MorphableModel, resolution: int) -> SurfaceSamples | None:
    """The texels of the patches, or None where the model has none; found once and kept.

    An eyeball's patch is its front seen along z, with its back folded underneath: of triangles that share a texel
    the one further out of the face counts.
    """
    triangles = patch_triangles(model)
    if len(triangles) == 0:
        return None
    depth = model.mean[:, 2].double()
    nearer = (depth - depth.min()) / (depth.max() - depth.min()).clamp_min(1e-9)
    uv = model.atlas_uv.double()
    # Clip space has y down from row 0, and a map's row 0 is v = 0.
    clip = torch.stack([2 * uv[:, 0] - 1, 2 * uv[:, 1] - 1, 0.9 - 1.8 * nearer, torch.ones_like(nearer)], -1).float()
    topology = MeshTopology.from_triangles(triangles, model.vertex_count)
    fragments = rasterize(clip[None], topology, (resolution, resolution))
    found = fragments.triangle_id[0].flatten().long()
    texel = torch.nonzero(found >= 0).flatten()
    first_two = fragments.barycentric[0].flatten(0, 1)[texel]
    weights = torch.cat([first_two, 1.0 - first_two.sum(-1, keepdim=True)], -1)
    every = torch.ones_like(texel, dtype=torch.bool)
    return SurfaceSamples(resolution, texel, triangles[found[texel]], weights.detach(), every)


def photographed_patches(problem: Problem, state: FaceState, resolution: int) -> PatchTexture | None:
    """Look the patches up in the photographs that see them, or None where the model has none.

    Args:
        problem: Model and photographs.
        state: The fit.
        resolution: T texels per side.
    """
    samples = patch_samples(problem.model, resolution)
    if samples is None or state.view_count == 0:
        return None
    colours, weights = [], []
    for view in range(state.view_count):
        vertices = m1_vertices(problem.model, state, state.expression_row(view))
        normals = samples.interpolate(vertex_normals(vertices[None], problem.topology)[0])
        normals = functional.normalize(normals, dim=-1)
        points = samples.interpolate(vertices)
        full = problem.observation.pyramids[view][0]
        weight, _, _ = view_visibility(state, view, vertices, problem.topology, points, normals, full)
        pixels = project_texels(points[:, None], view_camera(state, view, full))
        photograph = fitting_level(problem.observation, view, samples.to_grid(pixels[:, 0]), samples.to_grid(weight))
        encoded = sample_image(photograph.colour, pixels[:, 0] * photograph.scale)
        colours.append(srgb_to_linear(encoded))
        weights.append(weight)
    colour, weight = torch.stack(colours), torch.stack(weights)
    best = weight.amax(0)
    share = (weight / best.clamp_min(1e-6)) ** SELECTIVITY
    colour = (colour * share[..., None]).sum(0) / share.sum(0).clamp_min(1e-6)[:, None]
    mask = samples.to_grid(torch.ones_like(best))
    return PatchTexture(
        colour=samples.to_grid(colour * (best > 0)[:, None]),
        weight=_faded(samples.to_grid(best), mask),
    )


def patch_light(albedo: Tensor, texture: Tensor, seen: Tensor) -> Tensor:
    """Factor [3] from texture to albedo on the skin, for parts whose own light is not known.

    Args:
        albedo: [T, T, 3] of the skin, linear RGB.
        texture: [T, T, 3] of the skin.
        seen: [T, T] how well it is seen.
    """
    weight = (seen * (albedo > 0).any(-1))[..., None]
    return (albedo * weight).sum((0, 1)) / (texture * weight).sum((0, 1)).clamp_min(1e-6)


def _faded(seen: Tensor, mask: Tensor) -> Tensor:
    """[T, T] in [0, 1]: falls to zero inwards of what is seen, but not towards the patch's own border."""
    width = 2 * max(1, seen.shape[0] // 512) + 1
    present = (seen > 0).to(seen.dtype) * mask
    near, reach = functional.avg_pool2d(torch.stack([present, mask])[None], width, 1, width // 2)[0]
    inner = (2.0 * near / reach.clamp_min(1e-6) - 1.0).clamp(0.0, 1.0)
    return torch.minimum(inner, (seen / FULLY_SEEN).clamp(0.0, 1.0)) * mask

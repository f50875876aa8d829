"""The views' own textures: T, read off a photograph through M0, and T', moved along with the deformation map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.camera import Camera
from fitter.hierarchy.face import FaceState
from fitter.hierarchy.samples import SurfaceSamples, surface_samples
from fitter.kernels.surface import vertex_normals
from fitter.kernels.topology import MeshTopology
from fitter.optimise.observation import Observation, Photograph
from fitter.optimise.problem import Problem
from fitter.optimise.views import view_visibility
from fitter.texture.colour import linear_to_srgb
from fitter.texture.inpaint import pull_push
from fitter.texture.realign import realign_texture
from fitter.texture.unwrap import project_texels, texel_footprint, unwrap_texture

SEEN = 0.1
"""Weight from which a texel counts in the comparison of T' with the photograph."""


@dataclass(frozen=True)
class ViewTextures:
    """T and T' of one photograph, S texels a side (as the displacement map), row 0 is v = 0."""

    texture: Tensor
    """[S, S, 3] linear RGB, T; what the photograph does not show has flowed in from its neighbours."""
    texture_weight: Tensor
    """[S, S] in [0, 1]: how well the photograph shows the texel."""
    realigned: Tensor
    """[S, S, 3] linear RGB, T'."""
    realigned_weight: Tensor
    """[S, S] in [0, 1]."""
    difference: float | None
    """Median absolute difference of T' and the photograph sampled through M1, sRGB-encoded (0–1); None if unseen."""


def fitting_level(observation: Observation, view: int, pixels: Tensor, weight: Tensor) -> Photograph:
    """The smallest level of a photograph that still has a pixel per texel in the median.

    Args:
        observation: The photographs.
        view: Which one.
        pixels: [S, S, 2] full-size pixels of the texels.
        weight: [S, S], 0 where a texel is not seen.
    """
    footprint = texel_footprint(pixels)[weight > 0]
    needed = 1.0 / float(footprint.median()) if footprint.numel() else 1.0
    fine = [photograph for photograph in observation.pyramids[view] if photograph.scale >= needed]
    return fine[-1] if fine else observation.pyramids[view][0]


def view_camera(state: FaceState, view: int, photograph: Photograph) -> Camera:
    """The camera of one level of a photograph."""
    intrinsics = state.intrinsics[view].clone()
    intrinsics[:2] *= photograph.scale
    return Camera(intrinsics, state.cam_from_world[view], photograph.size)


def view_textures(problem: Problem, state: FaceState, view: int, m0: Tensor, m1: Tensor) -> ViewTextures:
    """T and T' of one view (HRN §3.2), and how far T' is from what the photograph shows at M1.

    Args:
        problem: Model and photographs.
        state: The fit.
        view: Which view.
        m0: [V, 3] world mm, M0 with this view's expression.
        m1: [V, 3] world mm, M1 likewise.
    """
    samples = surface_samples(problem.model, state.displacement.shape[-1])
    valid = samples.to_grid(torch.ones_like(samples.weights[:, 0])) > 0
    before, after = (samples.to_grid(samples.interpolate(vertices)) for vertices in (m0, m1))
    full = problem.observation.pyramids[view][0]
    weight = _visibility(state, view, problem.topology, m0, samples, full)
    camera = view_camera(state, view, full)
    photograph = fitting_level(problem.observation, view, project_texels(before, camera), weight)
    camera = view_camera(state, view, photograph)
    colour = photograph.colour.permute(1, 2, 0)
    stale = unwrap_texture(colour, camera, before, weight)
    # Filled before it is moved, as in HRN: else the rim of what is seen would fetch black.
    texture = pull_push(stale.colour, (stale.weight > 0).to(stale.colour.dtype) * valid)
    realigned = realign_texture(texture, stale.weight, camera, before, after, valid)
    # The same pixels are compared, so whether M1 hides them does not matter.
    fresh = unwrap_texture(colour, camera, after, realigned.weight)
    return ViewTextures(
        texture=texture,
        texture_weight=stale.weight,
        # Where the flow missed, T' holds specks of elsewhere; what is well found flows in instead.
        realigned=pull_push(realigned.texture, (realigned.weight / SEEN).clamp(0.0, 1.0)),
        realigned_weight=realigned.weight,
        difference=texture_difference(realigned.texture, fresh.colour, fresh.weight),
    )


def texture_difference(first: Tensor, second: Tensor, weight: Tensor) -> float | None:
    """Median absolute difference of two linear textures [S, S, 3] where they are seen, sRGB-encoded, 0–1."""
    seen = weight > SEEN
    if not bool(seen.any()):
        return None
    return float((linear_to_srgb(first[seen]) - linear_to_srgb(second[seen])).abs().median())


def _visibility(
    state: FaceState, view: int, topology: MeshTopology, vertices: Tensor, samples: SurfaceSamples, full: Photograph
) -> Tensor:
    """[S, S] visibility times angle of a mesh [V, 3] in a view."""
    normals = samples.interpolate(vertex_normals(vertices[None], topology)[0])
    normals = torch.nn.functional.normalize(normals, dim=-1)
    points = samples.interpolate(vertices)
    weight, _, _ = view_visibility(state, view, vertices, topology, points, normals, full)
    return samples.to_grid(weight * samples.usable)

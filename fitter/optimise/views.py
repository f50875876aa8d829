"""How each view sees the surface: visibility, viewing angle, grey and its derivative at the surface's samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.camera import clip_from_camera, transform_points
from fitter.hierarchy.face import FaceState, m1_vertices
from fitter.hierarchy.samples import SurfaceSamples
from fitter.kernels.surface import vertex_normals
from fitter.model.morphable import MorphableModel
from fitter.optimise.observation import Observation, Photograph, sample_image
from fitter.optimise.parameters import pixel_jacobian
from fitter.render.operations import interpolate, rasterize
from fitter.render.topology import MeshTopology


@dataclass(frozen=True)
class SurfaceGeometry:
    """The surface as one view's expression shapes it."""

    vertices: Tensor
    """[V, 3] world mm."""
    normals: Tensor
    """[V, 3] unit vertex normals."""


def depth_image(
    vertices: Tensor, topology: MeshTopology, intrinsics: Tensor, cam_from_world: Tensor, size: tuple[int, int]
) -> Tensor:
    """Camera depth [H, W] of the mesh, mm; infinite in the background."""
    cam = transform_points(cam_from_world, vertices)
    clip = torch.cat([cam, torch.ones_like(cam[:, :1])], -1) @ clip_from_camera(intrinsics, size).T
    fragments = rasterize(clip[None], topology, size)
    depth = interpolate(cam[None, :, 2:3].contiguous(), fragments, topology)[0, :, :, 0]
    return torch.where(fragments.triangle_id[0] >= 0, depth, torch.full_like(depth, float("inf")))


def scaled_intrinsics(intrinsics: Tensor, scale: float) -> Tensor:
    """Intrinsics [3, 3] for a photograph resampled by `scale`."""
    return intrinsics * intrinsics.new_tensor([scale, scale, 1.0])[:, None]


def visibility(points_cam: Tensor, cosine: Tensor, pixels: Tensor, depth: Tensor, slack: float = 2.0) -> Tensor:
    """Whether points are the first surface that the view meets, [K] in {0, 1}.

    The depth at a point is the nearest of the 3 × 3 pixels around it: a point next to an occluding edge counts as hidden.
    The slack grows at grazing angles, where depth changes much across a pixel.
    """
    height, width = depth.shape
    nearest = -torch.nn.functional.max_pool2d(-depth[None, None], 3, stride=1, padding=1)[0, 0]
    column, row = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
    inside = (column >= 1) & (column < width - 1) & (row >= 1) & (row < height - 1) & (points_cam[:, 2] > 0)
    index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    limit = nearest.flatten()[index] + slack / cosine.clamp_min(0.2)
    return (inside & (points_cam[:, 2] <= limit)).to(points_cam.dtype)


@dataclass(frozen=True)
class SampledViews:
    """What the views see at K surface samples."""

    grey: Tensor
    """[N, K] sRGB-encoded grey."""
    weight: Tensor
    """[N, K] visibility times viewing angle, in [0, 1]."""
    direction_cam: Tensor
    """[N, K, 3] derivative of grey with respect to the camera-frame point, per mm."""
    pixel_gradient: Tensor
    """[N, K, 2] derivative of grey with respect to the full-size pixel."""
    pixels: Tensor
    """[N, K, 2] full-size pixel positions."""


def angle_weight(cosine: Tensor) -> Tensor:
    """Weight of a view by the cosine between the surface normal and the direction to the camera."""
    return ((cosine - 0.15) / 0.85).clamp(0.0, 1.0) ** 1.5


def view_visibility(
    state: FaceState,
    view: int,
    vertices: Tensor,
    topology: MeshTopology,
    points: Tensor,
    normals: Tensor,
    photograph: Photograph,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight [K], camera-frame points [K, 3] and cosine [K] of surface points in one view."""
    cam_from_world = state.cam_from_world[view]
    cam = transform_points(cam_from_world, points)
    normal_cam = normals @ cam_from_world[:3, :3].T
    cosine = -(normal_cam * torch.nn.functional.normalize(cam, dim=-1)).sum(-1)
    scale = photograph.scale * 0.5 if max(photograph.size) > 400 else photograph.scale
    full = state.intrinsics[view]
    size = (
        max(8, int(photograph.size[0] * scale / photograph.scale)),
        max(8, int(photograph.size[1] * scale / photograph.scale)),
    )
    small = scaled_intrinsics(full, scale)
    depth = depth_image(vertices, topology, small, cam_from_world, size)
    pixels, _ = pixel_jacobian(small, cam)
    return visibility(cam, cosine, pixels, depth) * angle_weight(cosine), cam, cosine


def sample_views(
    state: FaceState,
    observation: Observation,
    samples: SurfaceSamples,
    geometry: list[SurfaceGeometry],
    topology: MeshTopology,
    longest_side: float,
    weights: Tensor | None = None,
    points: list[Tensor] | None = None,
) -> SampledViews:
    """Sample every view at the surface's samples.

    Args:
        state: The face and the cameras.
        observation: Photographs.
        samples: Surface samples (K).
        geometry: One per expression row.
        topology: The mesh that occludes.
        longest_side: Which level of the pyramids to use, px.
        weights: [N, K] visibility weights of an earlier call to keep, or None to compute them.
        points: World positions [K, 3] per expression row, where they are not on the mesh itself.
    """
    greys, kept, directions, gradients, positions = [], [], [], [], []
    for view in range(state.view_count):
        row = state.expression_row(view)
        photograph = observation.level(view, longest_side)
        world = samples.interpolate(geometry[row].vertices) if points is None else points[row]
        if weights is None:
            normals = torch.nn.functional.normalize(samples.interpolate(geometry[row].normals), dim=-1)
            weight, cam, _ = view_visibility(state, view, geometry[row].vertices, topology, world, normals, photograph)
            weight = weight * samples.usable
        else:
            weight, cam = weights[view], transform_points(state.cam_from_world[view], world)
        pixels, jacobian = pixel_jacobian(state.intrinsics[view], cam)
        stack = torch.cat([photograph.grey, photograph.usable])
        looked_up = sample_image(stack, pixels * photograph.scale)
        gradient = looked_up[:, 1:3] * photograph.scale
        greys.append(looked_up[:, 0])
        kept.append(weight * (looked_up[:, 3] > 0.99) if weights is None else weight)
        gradients.append(gradient)
        directions.append((gradient[:, None] @ jacobian)[:, 0])
        positions.append(pixels)
    return SampledViews(
        torch.stack(greys), torch.stack(kept), torch.stack(directions), torch.stack(gradients), torch.stack(positions)
    )


def surface_geometry(model: MorphableModel, state: FaceState, topology: MeshTopology) -> list[SurfaceGeometry]:
    """M1 with its normals, one per expression row."""
    geometry = []
    for row in range(state.expression.shape[0]):
        vertices = m1_vertices(model, state, row)
        geometry.append(SurfaceGeometry(vertices, vertex_normals(vertices[None], topology)[0]))
    return geometry

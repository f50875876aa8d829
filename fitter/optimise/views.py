"""How each view sees the surface: visibility, viewing angle, signal and its derivative at the surface's samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.camera import clip_from_camera, project, transform_points
from fitter.hierarchy.face import FaceState, m1_vertices
from fitter.hierarchy.samples import SurfaceSamples
from fitter.kernels.surface import vertex_normals
from fitter.kernels.topology import MeshTopology
from fitter.kernels.visibility import seen_points
from fitter.model.morphable import MorphableModel
from fitter.optimise.observation import Observation, Photograph, Signal, sample_image
from fitter.optimise.parameters import camera_gradient
from fitter.render.operations import interpolate, rasterize

DEPTH_SIDE = 384
"""Side of the square depth image that visibility is tested in, px."""


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


@dataclass(frozen=True)
class SampledViews:
    """What the views see of one channel at K surface samples."""

    signal: Tensor
    """[N, K] the channel, a mixture of sRGB-encoded colours."""
    weight: Tensor
    """[N, K] visibility times viewing angle, in [0, 1]."""
    direction_cam: Tensor
    """[N, K, 3] derivative of the signal with respect to the camera-frame point, per mm."""
    pixel_gradient: Tensor
    """[N, K, 2] derivative of the signal with respect to the full-size pixel."""
    pixels: Tensor
    """[N, K, 2] full-size pixel positions."""
    density: Tensor
    """[] how many pixels of the level one sample covers, at most 1: samples beyond the pixels say nothing new."""


def view_visibility(
    state: FaceState,
    view: int,
    vertices: Tensor,
    topology: MeshTopology,
    points: Tensor,
    normals: Tensor,
    photograph: Photograph | Signal,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight [K], camera-frame points [K, 3] and full-size pixels [K, 2] of surface points in one view."""
    cam_from_world, intrinsics = state.cam_from_world[view], state.intrinsics[view]
    head = transform_points(cam_from_world, vertices)
    zoom = zoom_on(project(head[head[:, 2] > 1.0], intrinsics), DEPTH_SIDE)
    depth = depth_image(vertices, topology, zoom @ intrinsics, cam_from_world, (DEPTH_SIDE, DEPTH_SIDE))
    height, width = (side / photograph.scale for side in photograph.size)
    return seen_points(points, normals, cam_from_world, intrinsics, zoom, depth, (height, width))


def zoom_on(pixels: Tensor, side: int) -> Tensor:
    """Map [3, 3] from a photograph's pixels to those of a square picture of `side` pixels that just holds `pixels`.

    The depth test is then as fine for a small head in a large photograph as for a portrait.
    """
    low, high = (pixels.amin(0), pixels.amax(0)) if pixels.shape[0] else (pixels.new_zeros(2), pixels.new_ones(2))
    scale = (side - 4.0) / (high - low).amax().clamp_min(1e-3)
    zoom = torch.eye(3, dtype=pixels.dtype, device=pixels.device)
    zoom[0, 0] = zoom[1, 1] = scale
    zoom[:2, 2] = 2.0 - low * scale
    return zoom


def sample_views(
    state: FaceState,
    signals: Sequence[Signal],
    samples: SurfaceSamples,
    geometry: list[SurfaceGeometry],
    topology: MeshTopology,
    points: list[Tensor] | None = None,
) -> tuple[SampledViews, ...]:
    """Sample every view at the surface's samples: once per channel of the signals, which share all but their values.

    Args:
        state: The face and the cameras.
        signals: What is sampled, one per view.
        samples: Surface samples (K).
        geometry: One per expression row.
        topology: The mesh that occludes.
        points: World positions [K, 3] per expression row, where they are not on the mesh itself.
    """
    values, kept, directions, gradients, positions, densities = [], [], [], [], [], []
    for view, signal in enumerate(signals):
        row = state.expression_row(view)
        world = samples.interpolate(geometry[row].vertices) if points is None else points[row]
        normals = torch.nn.functional.normalize(samples.interpolate(geometry[row].normals), dim=-1)
        weight, cam, pixels = view_visibility(state, view, geometry[row].vertices, topology, world, normals, signal)
        looked_up = sample_image(signal.image, pixels * signal.scale)
        channels = signal.channel_count
        gradient = looked_up[:, channels:-1].unflatten(1, (2, channels)).permute(2, 0, 1) * signal.scale
        values.append(looked_up[:, :channels].T)
        kept.append(weight * samples.usable * (looked_up[:, -1] > 0.99))
        gradients.append(gradient)
        directions.append(camera_gradient(gradient, state.intrinsics[view], pixels, cam))
        positions.append(pixels)
        densities.append(pixel_density(samples, pixels * signal.scale, kept[-1]))
    weight, pixels, density = torch.stack(kept), torch.stack(positions), torch.stack(densities).mean()
    return tuple(
        SampledViews(value, weight, direction, gradient, pixels, density)
        for value, direction, gradient in zip(
            torch.stack(values, 1), torch.stack(directions, 1), torch.stack(gradients, 1), strict=True
        )
    )


def pixel_density(samples: SurfaceSamples, pixels: Tensor, weight: Tensor) -> Tensor:
    """Pixels that one sample covers, at most 1, in the median over well seen samples; arguments as `pixels_covered`."""
    return pixels_covered(samples, pixels, weight).nan_to_num(1.0).clamp(1e-3, 1.0)


def pixels_covered(samples: SurfaceSamples, pixels: Tensor, weight: Tensor) -> Tensor:
    """Pixels that one sample covers [], in the median over well seen samples; not a number where there are none.

    Args:
        samples: Surface samples (K).
        pixels: [K, 2] where they are in the photograph, px of its level.
        weight: [K] how well they are seen.
    """
    grid = samples.to_grid(pixels)
    seen = samples.to_grid((weight > 0.2).to(pixels.dtype))
    along_u = grid[:-1, 1:] - grid[:-1, :-1]
    along_v = grid[1:, :-1] - grid[:-1, :-1]
    area = (along_u[..., 0] * along_v[..., 1] - along_u[..., 1] * along_v[..., 0]).abs()
    inside = (seen[:-1, :-1] * seen[:-1, 1:] * seen[1:, :-1]) > 0
    chosen = torch.where(inside, area, torch.full_like(area, float("nan")))
    return chosen.nanmedian()


def surface_geometry(model: MorphableModel, state: FaceState, topology: MeshTopology) -> list[SurfaceGeometry]:
    """M1 with its normals, one per expression row."""
    geometry = []
    for row in range(state.expression.shape[0]):
        vertices = m1_vertices(model, state, row)
        geometry.append(SurfaceGeometry(vertices, vertex_normals(vertices[None], topology)[0]))
    return geometry


def sampled_colours(
    state: FaceState,
    observation: Observation,
    samples: SurfaceSamples,
    geometry: list[SurfaceGeometry],
    topology: MeshTopology,
    longest_side: float,
) -> tuple[Tensor, Tensor]:
    """What the views see on the mesh: sRGB-encoded colours [N, K, 3] and how well [N, K]; arguments as `sample_views`.

    `longest_side` tells which level of the photographs is used, px.
    """
    colours, weights = [], []
    for view in range(state.view_count):
        surface = geometry[state.expression_row(view)]
        photograph = observation.level(view, longest_side)
        world = samples.interpolate(surface.vertices)
        normals = torch.nn.functional.normalize(samples.interpolate(surface.normals), dim=-1)
        weight, _, pixels = view_visibility(state, view, surface.vertices, topology, world, normals, photograph)
        looked_up = sample_image(torch.cat([photograph.colour, photograph.usable]), pixels * photograph.scale)
        colours.append(looked_up[:, :3])
        weights.append(weight * samples.usable * (looked_up[:, 3] > 0.99))
    return torch.stack(colours), torch.stack(weights)

"""From a face and its cameras to images: the one function that fitting and export render with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fitter.camera import clip_from_camera, transform_points
from fitter.kernels.surface import vertex_normals
from fitter.kernels.topology import MeshTopology

from .detail_normals import detail_normals, displacement_gradient_map, vertex_tangents
from .fragments import Fragments
from .operations import antialias as antialias_silhouettes
from .operations import interpolate, rasterize, sample_texture, uv_footprint
from .shading import shade


@dataclass(frozen=True, kw_only=True, eq=False)
class Appearance:
    """How a surface looks: one source of albedo, and what else there is."""

    vertex_albedo: Tensor | None = None
    """[B or 1, V, 3] linear RGB per vertex."""
    texture: Tensor | None = None
    """[B or 1, Ht, Wt, 3] linear RGB, row 0 at v = 0; multiplied with the vertex albedo if both are given."""
    uv: Tensor | None = None
    """[Vt, 2] atlas coordinates, needed for the texture and the displacement map."""
    uv_topology: MeshTopology | None = None
    """Triangles of the atlas coordinates if they are not those of the mesh."""
    lighting: Tensor | None = None
    """[B or 1, 9, 3] radiance coefficients in the world frame (`fitter.render.shading`); None shows plain albedo."""
    displacement_map: Tensor | None = None
    """[B or 1, 1, R, R] (or [1, R, R]) mm, bends the normals."""
    filter: Literal["bilinear", "mipmap"] = "bilinear"
    """Texture filter."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Render:
    """Images of a batch of views; every image is in linear units."""

    colour: Tensor
    """[B, H, W, 3] linear RGB."""
    mask: Tensor
    """[B, H, W] coverage in [0, 1]; antialiased, and so differentiable, if silhouettes were."""
    depth_mm: Tensor
    """[B, H, W] camera depth, mm, differentiable; 0 in the background."""
    normal: Tensor
    """[B, H, W, 3] unit normals in the world frame, with the displacement map's detail; 0 in the background."""
    albedo: Tensor
    """[B, H, W, 3] linear RGB before lighting; 0 in the background."""
    uv: Tensor | None
    """[B, H, W, 2] atlas coordinates if the appearance has them; 0 in the background."""
    fragments: Fragments
    """Visible triangles and barycentrics."""
    clip: Tensor
    """[B, V, 4] clip positions."""

    @property
    def triangle_id(self) -> Tensor:
        """[B, H, W] int32 visible triangle, -1 for background."""
        return self.fragments.triangle_id


def clip_positions(vertices: Tensor, intrinsics: Tensor, cam_from_world: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip positions [B, V, 4] of world positions [B or 1, V, 3] (mm) in cameras [B, 3, 3] and [B, 4, 4]."""
    matrix = clip_from_camera(intrinsics, size)
    camera = transform_points(cam_from_world, vertices)
    return camera @ matrix[..., :3].transpose(-1, -2) + matrix[..., None, :, 3]


def render_face(
    vertices: Tensor,
    topology: MeshTopology,
    intrinsics: Tensor,
    cam_from_world: Tensor,
    size: tuple[int, int],
    appearance: Appearance | None = None,
    *,
    antialias: bool = True,
    background: Tensor | None = None,
    backend: str | None = None,
) -> Render:
    """Render a batch of views of one face, or of several of the same topology.

    Args:
        vertices: [B or 1, V, 3] world positions, mm, differentiable.
        topology: Triangles, on the same device.
        intrinsics: [B, 3, 3] px.
        cam_from_world: [B, 4, 4] rigid, mm.
        size: (height, width), px.
        appearance: Albedo, texture, lighting and displacement map; None renders a white surface.
        antialias: Blend silhouettes, which makes the outline differentiable.
        background: [B or 1, H, W, 3] or [3] linear RGB; None is black.
        backend: Name of a backend; None takes the device's default.

    Returns:
        Images, fragments and clip positions.

    Raises:
        ValueError: If shapes do not fit, or a map comes without atlas coordinates.
    """
    appearance = appearance or Appearance()
    if appearance.uv is None and (appearance.texture is not None or appearance.displacement_map is not None):
        raise ValueError("a texture or displacement map needs the atlas coordinates: Appearance(uv=...)")
    n_views = intrinsics.shape[0]
    if vertices.ndim != 3 or vertices.shape[0] not in (1, n_views):
        raise ValueError(f"vertices must be [{n_views} or 1, V, 3], got {tuple(vertices.shape)}")
    clip = clip_positions(vertices, intrinsics, cam_from_world, size)
    fragments = rasterize(clip, topology, size, backend)
    uv = None
    if appearance.uv is not None:
        uv = interpolate(appearance.uv[None], fragments, appearance.uv_topology or topology)
    # One pass for everything that lives on the mesh's own vertices.
    normals = vertex_normals(vertices, topology, fragments.backend)
    attributes = [normals.expand(n_views, -1, -1), clip[..., 3:]]
    if appearance.displacement_map is not None:
        tangents = vertex_tangents(vertices, topology, appearance.uv, appearance.uv_topology)
        attributes.append(tangents.expand(n_views, -1, -1))
    if appearance.vertex_albedo is not None:
        attributes.append(appearance.vertex_albedo.expand(n_views, -1, -1))
    pixels = interpolate(torch.cat(attributes, dim=-1), fragments, topology)
    normal = torch.nn.functional.normalize(pixels[..., :3], dim=-1)
    if appearance.displacement_map is not None:
        normal = _displaced(normal, pixels[..., 4:10], appearance.displacement_map, uv, fragments)
    covered = fragments.mask[..., None].to(clip.dtype)
    albedo = pixels[..., -3:] if appearance.vertex_albedo is not None else covered.expand(-1, -1, -1, 3)
    if appearance.texture is not None:
        albedo = albedo * _textured(appearance, uv, fragments, clip, topology)
    colour = albedo if appearance.lighting is None else shade(albedo, normal, appearance.lighting)
    if background is not None:
        colour = torch.where(fragments.mask[..., None], colour, background.to(colour))
    image = torch.cat([colour, covered], dim=-1)
    if antialias:
        image = antialias_silhouettes(image, fragments, clip, topology)
    return Render(
        colour=image[..., :3],
        mask=image[..., 3],
        depth_mm=pixels[..., 3],
        normal=normal,
        albedo=albedo,
        uv=uv,
        fragments=fragments,
        clip=clip,
    )


def _displaced(normal: Tensor, tangents: Tensor, displacement_map: Tensor, uv: Tensor, fragments: Fragments) -> Tensor:
    """Bend the normals [B, H, W, 3] by the displacement map."""
    if displacement_map.ndim == 3:
        displacement_map = displacement_map[None]
    gradient_map = displacement_gradient_map(displacement_map)
    gradient = sample_texture(gradient_map, uv, fragments=fragments)
    return detail_normals(normal, tangents, gradient)


def _textured(appearance: Appearance, uv: Tensor, fragments: Fragments, clip: Tensor, topology: MeshTopology) -> Tensor:
    """Texture lookups [B, H, W, 3] with the filter asked for."""
    footprint = None
    if appearance.filter == "mipmap":
        footprint = uv_footprint(appearance.uv[None], fragments, clip, topology, appearance.uv_topology)
    return sample_texture(appearance.texture, uv, appearance.filter, footprint, fragments=fragments)


@torch.no_grad()
def visible_depth(
    vertices: Tensor,
    topology: MeshTopology,
    intrinsics: Tensor,
    cam_from_world: Tensor,
    size: tuple[int, int],
    backend: str | None = None,
) -> Tensor:
    """Camera depth of the nearest surface, for visibility tests; no gradient.

    Args:
        vertices: [B or 1, V, 3] world positions, mm.
        topology: Triangles, on the same device.
        intrinsics: [B, 3, 3] px.
        cam_from_world: [B, 4, 4] rigid, mm.
        size: (height, width), px.
        backend: Name of a backend; None takes the device's default.

    Returns:
        [B, H, W] mm; infinite in the background.
    """
    clip = clip_positions(vertices, intrinsics, cam_from_world, size)
    fragments = rasterize(clip, topology, size, backend)
    depth = interpolate(clip[..., 3:], fragments, topology)[..., 0]
    return torch.where(fragments.mask, depth, torch.inf)

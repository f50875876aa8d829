"""The texture T: a photograph sampled into the atlas (HRN §3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fitter.camera import Camera, project, transform_points
from fitter.texture.colour import srgb_to_linear
from fitter.texture.filters import sample_grid

GRAZING_COSINE = 0.15
"""Below this cosine between normal and line of sight a view says nothing about a texel."""


@dataclass(frozen=True)
class UnwrappedTexture:
    """What one photograph tells about the texture."""

    colour: Tensor
    """[R, R, 3] linear RGB; meaningless where the weight is 0."""
    weight: Tensor
    """[R, R] in [0, 1]: visible, inside the photograph, seen head-on."""
    pixels: Tensor
    """[R, R, 2] where each texel lies in the photograph, px."""
    footprint: Tensor
    """[R, R] pixels of the photograph per texel, by length: above 1 the texel grid is the coarser one."""


def project_texels(positions: Tensor, camera: Camera) -> Tensor:
    """Pixels [R, R, 2] of world positions [R, R, 3] (mm); meaningless behind the camera."""
    flat = transform_points(camera.cam_from_world.to(positions.dtype), positions.flatten(0, 1))
    return project(flat, camera.intrinsics.to(positions.dtype)).unflatten(0, positions.shape[:2])


def view_cosine(positions: Tensor, normals: Tensor, camera: Camera) -> Tensor:
    """Cosine [R, R] between unit normals and the line of sight, both in the world; negative where facing away."""
    to_camera = functional.normalize(camera.centre.to(positions.dtype) - positions, dim=-1)
    return (normals * to_camera).sum(-1)


def angle_weight(cosine: Tensor, power: float = 1.5) -> Tensor:
    """Weight in [0, 1] of a view: falls to 0 at `GRAZING_COSINE`."""
    return ((cosine - GRAZING_COSINE) / (1.0 - GRAZING_COSINE)).clamp(0.0, 1.0) ** power


def texel_footprint(pixels: Tensor) -> Tensor:
    """Length of a texel in the photograph, px: root of the area that the step to the next column and row spans."""
    along_u = functional.pad(pixels[:, 1:] - pixels[:, :-1], (0, 0, 0, 1))
    along_v = functional.pad(pixels[1:] - pixels[:-1], (0, 0, 0, 0, 0, 1))
    along_u[:, -1], along_v[-1] = along_u[:, -2], along_v[-2]
    return (along_u[..., 0] * along_v[..., 1] - along_u[..., 1] * along_v[..., 0]).abs().sqrt()


def unwrap_texture(
    image: Tensor,
    camera: Camera,
    positions: Tensor,
    visibility: Tensor,
    normals: Tensor | None = None,
) -> UnwrappedTexture:
    """Sample a photograph at the projections of the texels.

    The photograph is decoded to linear light before it is interpolated. Where it is finer than the texels it is first
    halved until the median texel covers less than two pixels, so that the texture does not alias.

    Args:
        image: [H, W, 3] sRGB-encoded, [0, 1], without lens distortion.
        camera: Of the photograph.
        positions: [R, R, 3] world positions of the texels, mm (the position map).
        visibility: [R, R] in [0, 1]: 1 where nothing stands between texel and camera; 0 outside of the atlas.
        normals: [R, R, 3] unit normals in the world, or None: then the angle does not lower the weight.

    Returns:
        The texture and its weight. Differentiable with respect to image and positions.
    """
    pixels = project_texels(positions, camera)
    depth = transform_points(camera.cam_from_world.to(positions.dtype), positions.flatten(0, 1))[:, 2]
    height, width = image.shape[:2]
    # Half a pixel inside: beyond the outermost centres there is nothing to interpolate.
    inside = ((pixels >= 0.5) & (pixels <= pixels.new_tensor([width - 0.5, height - 0.5]))).all(-1)
    in_front = (depth > 0).unflatten(0, positions.shape[:2])
    weight = visibility.to(positions.dtype) * inside * in_front
    if normals is not None:
        weight = weight * angle_weight(view_cosine(positions, normals, camera))
    footprint = texel_footprint(pixels)
    usable = weight > 0
    linear = srgb_to_linear(image)
    scale = 1
    if bool(usable.any()):
        median = float(footprint.detach()[usable].median())
        while median / scale >= 2.0 and min(linear.shape[:2]) >= 4:
            linear = _halved(linear)
            scale *= 2
    safe = torch.where(inside[..., None], pixels, torch.ones_like(pixels))
    colour = sample_grid(linear, safe / scale)
    return UnwrappedTexture(colour * usable[..., None], weight, pixels, footprint)


def _halved(image: Tensor) -> Tensor:
    """Average 2 by 2 pixels; an odd last row or column is repeated so that pixel coordinates just halve."""
    odd = (0, image.shape[1] % 2, 0, image.shape[0] % 2)
    padded = functional.pad(image.movedim(-1, 0)[None], odd, mode="replicate")
    return functional.avg_pool2d(padded, 2)[0].movedim(0, -1)

"""Square crops around the face, so that a small face in a large photograph gets as many pixels as a big one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.camera import project, transform_points
from fitter.hierarchy.face import FaceState
from fitter.optimise.observation import Observation
from fitter.texture.colour import srgb_to_linear


@dataclass(frozen=True)
class Crops:
    """One square window per view, all resampled to the same size."""

    size: int
    """Side of every crop, px."""
    colour: Tensor
    """[N, S, S, 3] linear RGB."""
    usable: Tensor
    """[N, S, S] in [0, 1]: 0 outside of the photograph, where it is clipped, and where a given mask leaves it out."""
    corner: Tensor
    """[N, 2] top-left corner of the window, px of the full-size photograph."""
    zoom: Tensor
    """[N] crop pixels per pixel of the full-size photograph."""

    def intrinsics(self, full: Tensor) -> Tensor:
        """Intrinsics [N, 3, 3] of the crops, of those of the full-size photographs; differentiable."""
        shift = torch.zeros_like(full)
        shift[:, :2, 2] = self.corner
        zoom = torch.stack([self.zoom, self.zoom, torch.ones_like(self.zoom)], -1)
        return (full - shift) * zoom[:, :, None]

    def pixels(self, full: Tensor) -> Tensor:
        """Positions [N, K, 2] in the crops, of positions in the full-size photographs."""
        return (full - self.corner[:, None]) * self.zoom[:, None, None]


def face_windows(state: FaceState, vertices: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Top-left corners [N, 2] and sides [N] of squares around projected vertices [R, V, 3], px of the photographs."""
    corners, sides = [], []
    for view in range(state.view_count):
        world = vertices[state.expression_row(view)]
        pixels = project(transform_points(state.cam_from_world[view], world), state.intrinsics[view])
        low, high = pixels.amin(0), pixels.amax(0)
        side = (high - low).max() * (1.0 + 2.0 * margin)
        corners.append(0.5 * (low + high) - 0.5 * side)
        sides.append(side)
    return torch.stack(corners), torch.stack(sides)


def resample(image: Tensor, scale: float, corner: Tensor, side: Tensor, size: int) -> Tensor:
    """Bilinear crop [C, S, S] of an image [C, H, W] whose pixels are `scale` per full-size pixel; 0 outside."""
    height, width = image.shape[1:]
    centres = (image.new_ones(size).cumsum(0) - 0.5) * (side * scale / size)
    x = (centres + corner[0] * scale) * (2.0 / width) - 1.0
    y = (centres + corner[1] * scale) * (2.0 / height) - 1.0
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    grid = torch.stack([columns, rows], -1)[None]
    return torch.nn.functional.grid_sample(image[None], grid, mode="bilinear", align_corners=False)[0]


@torch.no_grad()
def face_crops(state: FaceState, observation: Observation, vertices: Tensor, size: int, margin: float = 0.12) -> Crops:
    """Cut the photographs around the face.

    Args:
        state: The cameras.
        observation: The photographs; each crop is made of the smallest level that is not coarser than the crop.
        vertices: [R, V, 3] world mm, one row per expression: what the window has to hold.
        size: Side of the crops, px.
        margin: Added on each side, as a fraction of the larger extent.

    Returns:
        The crops, in linear RGB.
    """
    corners, sides = face_windows(state, vertices, margin)
    colours, masks = [], []
    for view in range(state.view_count):
        zoom = size / float(sides[view])
        photograph = observation.pyramids[view][0]
        for level in observation.pyramids[view]:
            if level.scale >= zoom:
                photograph = level
        inside = torch.ones_like(photograph.usable)
        stack = torch.cat([srgb_to_linear(photograph.colour), photograph.usable, inside])
        cut = resample(stack, photograph.scale, corners[view], sides[view], size)
        colours.append(cut[:3].permute(1, 2, 0))
        masks.append(cut[3] * (cut[4] > 0.999) * (cut[3] > 0.99))
    return Crops(size, torch.stack(colours), torch.stack(masks), corners, size / sides)

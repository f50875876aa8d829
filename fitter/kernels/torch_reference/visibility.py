"""Visibility of surface points in plain torch; see `fitter.kernels.visibility`."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import max_pool2d

from fitter.camera import project, transform_points


def seen_points(
    points: Tensor,
    normals: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
    zoom: Tensor,
    depth: Tensor,
    size: tuple[float, float],
    slack: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight [K], camera-frame points [K, 3] and pixels [K, 2]."""
    cam = transform_points(cam_from_world, points)
    cosine = -(normals @ cam_from_world[:3, :3].T * cam).sum(-1) / cam.norm(dim=-1).clamp_min(1e-6)
    pixels = project(cam, intrinsics)
    seen = first_surface(cam, cosine, pixels * zoom[0, 0] + zoom[:2, 2], depth, slack)
    inside = (pixels > 0.5).all(-1) & (pixels[:, 0] < size[1] - 0.5) & (pixels[:, 1] < size[0] - 0.5)
    return seen * inside * ((cosine - 0.15) / 0.85).clamp(0.0, 1.0) ** 1.5, cam, pixels


def first_surface(points_cam: Tensor, cosine: Tensor, pixels: Tensor, depth: Tensor, slack: float) -> Tensor:
    """Whether camera-frame points [K, 3] at pixels [K, 2] of a depth picture are its surface, [K] in {0, 1}."""
    height, width = depth.shape
    nearest = -max_pool2d(-depth[None, None], 3, stride=1, padding=1)[0, 0]
    column, row = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
    inside = (column >= 1) & (column < width - 1) & (row >= 1) & (row < height - 1) & (points_cam[:, 2] > 0)
    index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    limit = nearest.flatten()[index] + slack / cosine.clamp_min(0.2)
    return (inside & (points_cam[:, 2] <= limit)).to(points_cam.dtype)

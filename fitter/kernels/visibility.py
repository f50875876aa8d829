"""How well a view sees points of a surface: projection, depth test and viewing angle, on the CPU in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from .registry import choose_backend

SLACK_MM = 2.0
"""Depth by which a point may lie behind the nearest surface and still be it, at right angles to the view."""


def seen_points(
    points: Tensor,
    normals: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
    zoom: Tensor,
    depth: Tensor,
    size: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, camera-frame points and pixels of surface points in one view.

    A point is seen where it is inside the photograph and the first surface of a depth picture: the depth there is the
    nearest of the 3 × 3 pixels around it, so a point next to an occluding edge counts as hidden. The slack grows at
    grazing angles, where depth changes much across a pixel. The weight falls with the angle between normal and view.

    Args:
        points: [K, 3] world mm.
        normals: [K, 3] unit.
        cam_from_world: [4, 4].
        intrinsics: [3, 3] of the full-size photograph.
        zoom: [3, 3] from the photograph's pixels to the depth picture's: a scale and a shift.
        depth: [H, W] camera depth of the mesh, mm; infinite in the background.
        size: (height, width) of the full-size photograph.

    Returns:
        Weight [K] in [0, 1], camera-frame points [K, 3] mm, pixels [K, 2] of the full-size photograph.
    """
    if _on_kernel(points, normals, cam_from_world, intrinsics, zoom, depth):
        from .numba_cpu import seen_points as kernel

        return kernel(points, normals, cam_from_world, intrinsics, zoom, depth, size, SLACK_MM)
    from .torch_reference.visibility import seen_points as reference

    return reference(points, normals, cam_from_world, intrinsics, zoom, depth, size, SLACK_MM)


def _on_kernel(*tensors: Tensor) -> bool:
    """Whether the CPU's kernel may be taken: it has float32, and no gradients."""
    plain = all(one.dtype == torch.float32 and not one.requires_grad for one in tensors)
    return plain and choose_backend(tensors[0].device) == "numba_cpu"

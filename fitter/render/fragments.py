"""What the rasterizer leaves behind for every pixel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Fragments:
    """Visible surface at the pixel centres of a batch of images."""

    triangle_id: Tensor
    """[B, H, W] int32 triangle seen at the pixel centre, -1 for background."""
    barycentric: Tensor
    """[B, H, W, 2] perspective-correct weights of corners 0 and 1 (corner 2 has the rest), differentiable with respect
    to the clip positions at fixed visibility; 0 in the background."""
    depth: Tensor
    """[B, H, W] z/w in [-1, 1], 1 in the background. Not differentiable: interpolate the camera depth instead."""
    backend: str
    """Name of the backend that made them; the other operations use the same one."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.triangle_id.shape[1], self.triangle_id.shape[2]

    @property
    def mask(self) -> Tensor:
        """[B, H, W] bool, true where a triangle is seen."""
        return self.triangle_id >= 0

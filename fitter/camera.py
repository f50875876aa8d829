"""The pinhole camera: OpenCV axes (x right, y down, z forward), pixel centres at +0.5, millimetres."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """One undistorted pinhole camera.

    Lens distortion is removed from the photograph and its landmarks when a session is loaded, so that everything behind
    the loader sees straight lines.
    """

    intrinsics: Tensor
    """[3, 3], px; (0.5, 0.5) is the centre of the top-left pixel."""
    cam_from_world: Tensor
    """[4, 4] rigid transform, translation in mm."""
    size: tuple[int, int]
    """(height, width), px."""

    @property
    def focal(self) -> Tensor:
        """Horizontal focal length, px."""
        return self.intrinsics[0, 0]

    @property
    def centre(self) -> Tensor:
        """Camera centre in the world, mm, [3]."""
        rotation, translation = self.cam_from_world[:3, :3], self.cam_from_world[:3, 3]
        return -rotation.T @ translation

    def to(self, *args, **kwargs) -> Camera:
        """Move the tensors to a device or dtype."""
        return replace(
            self,
            intrinsics=self.intrinsics.to(*args, **kwargs),
            cam_from_world=self.cam_from_world.to(*args, **kwargs),
        )

    def resized(self, height: int, width: int) -> Camera:
        """The same camera for an image resampled to `height` by `width` pixels."""
        factor = torch.tensor(
            [width / self.size[1], height / self.size[0], 1.0],
            dtype=self.intrinsics.dtype,
            device=self.intrinsics.device,
        )
        return replace(self, intrinsics=self.intrinsics * factor[:, None], size=(height, width))

    def cropped(self, top: int, left: int, height: int, width: int) -> Camera:
        """The same camera for the given window of its image."""
        intrinsics = self.intrinsics.clone()
        intrinsics[0, 2] -= left
        intrinsics[1, 2] -= top
        return replace(self, intrinsics=intrinsics, size=(height, width))


def transform_points(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply a [..., 4, 4] (or [..., 3, 4]) affine transform to [..., N, 3] points."""
    return points @ matrix[..., :3, :3].transpose(-1, -2) + matrix[..., None, :3, 3]


def project(points_cam: Tensor, intrinsics: Tensor) -> Tensor:
    """Project camera-frame points [..., N, 3] (mm) to pixels [..., N, 2]; points behind the camera are meaningless."""
    homogeneous = points_cam @ intrinsics.transpose(-1, -2)
    return homogeneous[..., :2] / homogeneous[..., 2:3].clamp_min(1e-6)


def clip_from_camera(intrinsics: Tensor, size: tuple[int, int], near: float = 10.0, far: float = 1e5) -> Tensor:
    """Projection matrix [..., 4, 4] from camera frame to clip space.

    x/w, y/w in [-1, 1] from the left and from the *top* edge of the image (row 0 is the top row, y points down as in the
    camera frame), z/w in [-1, 1] from near to far, w the camera depth in mm.
    """
    height, width = size
    matrix = torch.zeros((*intrinsics.shape[:-2], 4, 4), dtype=intrinsics.dtype, device=intrinsics.device)
    matrix[..., 0, :3] = intrinsics[..., 0, :] * (2.0 / width)
    matrix[..., 0, 2] -= 1.0
    matrix[..., 1, :3] = intrinsics[..., 1, :] * (2.0 / height)
    matrix[..., 1, 2] -= 1.0
    matrix[..., 2, 2] = (far + near) / (far - near)
    matrix[..., 2, 3] = -2.0 * far * near / (far - near)
    matrix[..., 3, 2] = 1.0
    return matrix

"""What a camera file says about one photograph, and its conversion to the engine's pinhole camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from fitter.camera import Camera
from fitter.capture.undistort import Distortion
from fitter.errors import InputError

RIGID_TOLERANCE = 1e-3
"""Largest entry of |RᵀR - 1| that rounding in a text file may cause."""
ASPECT_TOLERANCE = 0.005
"""Relative difference of aspect ratio within which a photograph counts as a resampled copy of the calibrated one."""


@dataclass(frozen=True)
class Lens:
    """Intrinsics as a camera file gives them; what is None follows from the photograph's size."""

    focal_x: float | None = None
    """px; None where only the field of view is given."""
    focal_y: float | None = None
    """px; None = same as `focal_x`."""
    centre_x: float | None = None
    """px from the left edge; None = the middle."""
    centre_y: float | None = None
    """px from the top edge; None = the middle."""
    skew: float = 0.0
    """px."""
    angle_x: float | None = None
    """Horizontal field of view, radians, used without `focal_x`."""
    angle_y: float | None = None
    """Vertical field of view, radians, used without `focal_y`."""
    size: tuple[int, int] | None = None
    """(height, width) the numbers above are for, px; None = the photograph's."""
    distortion: Distortion = field(default_factory=Distortion)

    def intrinsics(self, size: tuple[int, int]) -> np.ndarray:
        """[3, 3] intrinsics for a picture of the given (height, width)."""
        height, width = self.size or size
        focal_x, focal_y = self.focal_x, self.focal_y
        if focal_x is None and self.angle_x is not None:
            focal_x = _focal_of_angle(self.angle_x, width)
        if focal_y is None and self.focal_x is None and self.angle_y is not None:
            focal_y = _focal_of_angle(self.angle_y, height)
        if focal_x is None:
            focal_x = math.nan if focal_y is None else focal_y
        centre_x = 0.5 * width if self.centre_x is None else self.centre_x
        centre_y = 0.5 * height if self.centre_y is None else self.centre_y
        matrix = np.array(
            [[focal_x, self.skew, centre_x], [0, focal_x if focal_y is None else focal_y, centre_y], [0, 0, 1]]
        )
        matrix[0] *= size[1] / width
        matrix[1] *= size[0] / height
        return matrix


@dataclass(frozen=True)
class CameraEntry:
    """One calibrated photograph of a camera file."""

    name: str
    """Photograph as the file names it (may carry folders, may lack a suffix)."""
    lens: Lens
    cam_from_world: np.ndarray
    """[4, 4] float64, OpenCV axes, translation in the file's world unit."""


@dataclass(frozen=True)
class CameraFile:
    """A camera file, read."""

    path: Path
    entries: tuple[CameraEntry, ...]
    unit: str | None = None
    """World unit where the file knows it (a metric Metashape chunk: "m"), else None."""
    warnings: tuple[str, ...] = ()


def _focal_of_angle(angle: float, extent: int) -> float:
    """Focal length, px, of a field of view in radians over `extent` pixels; NaN for an impossible one."""
    return 0.5 * extent / math.tan(0.5 * angle) if 0 < angle < math.pi else math.nan


def rigid_transform(matrix: np.ndarray, where: object) -> np.ndarray:
    """Check that a camera transform is rigid and clear it of rounding.

    Args:
        matrix: [4, 4] transform.
        where: File and photograph, for the message.

    Returns:
        [4, 4] float64 with an exact rotation.

    Raises:
        InputError: NaN or infinite entries, a mirror image, a scaled or sheared rotation.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise InputError(
            where, "a camera pose with NaN or infinite entries", "a finite pose", "Calibrate this photograph again."
        )
    linear = matrix[:3, :3]
    gram = linear.T @ linear
    determinant = float(np.linalg.det(linear))
    expected = "a rigid transform (a rotation and a translation)"
    scale = math.sqrt(max(float(np.trace(gram)) / 3, 0.0))
    if scale > 0 and np.abs(gram / scale**2 - np.eye(3)).max() < RIGID_TOLERANCE and abs(scale - 1) > RIGID_TOLERANCE:
        remedy = "Put the scale into the translations (or give --unit) and keep the rotation's columns at length 1."
        raise InputError(where, f"a camera rotation scaled by {scale:.4g}", expected, remedy)
    if np.abs(gram - np.eye(3)).max() > RIGID_TOLERANCE:
        remedy = "Export the cameras again; the rotation's columns are not orthogonal unit vectors."
        raise InputError(where, "a camera transform that is not rigid", expected, remedy)
    if determinant < 0:
        raise InputError(
            where, "a mirrored camera (determinant -1)", expected, "Export the cameras with right-handed axes."
        )
    if np.abs(matrix[3] - [0, 0, 0, 1]).max() > RIGID_TOLERANCE:
        raise InputError(where, f"a last row {matrix[3].tolist()}", "0, 0, 0, 1", "Export the cameras again.")
    u, _, v = np.linalg.svd(linear)
    rigid = matrix.copy()
    rigid[:3, :3] = u @ v
    rigid[3] = [0, 0, 0, 1]
    return rigid


def _turn(orientation: int, stored: tuple[int, int], where: object) -> tuple[np.ndarray, np.ndarray]:
    """Pixel map [3, 3] upright-from-stored and the [3, 3] rotation about the optical axis, for an EXIF orientation."""
    height, width = stored
    maps = {
        3: ([[-1, 0], [0, -1]], [width, height]),
        6: ([[0, -1], [1, 0]], [height, 0]),
        8: ([[0, 1], [-1, 0]], [0, width]),
    }
    if orientation not in maps:
        raise InputError(
            where,
            f"a mirroring EXIF orientation ({orientation}) on a calibrated photograph",
            "an upright or turned photograph",
            "Remove the orientation tag or calibrate the mirrored picture.",
        )
    linear, offset = maps[orientation]
    pixels, rotation = np.eye(3), np.eye(3)
    pixels[:2, :2], pixels[:2, 2], rotation[:2, :2] = linear, offset, linear
    return pixels, rotation


def camera_for_image(
    entry: CameraEntry, size: tuple[int, int], orientation: int, where: object
) -> tuple[Camera, Distortion]:
    """The engine's camera for one loaded photograph.

    Calibration programs look at the pixels as stored; where EXIF turned the photograph, its camera is turned along.

    Args:
        entry: What the camera file says; translation in world units.
        size: (height, width) of the upright photograph, px.
        orientation: EXIF orientation 1-8 that was applied to it.
        where: File and photograph, for messages.

    Returns:
        Pinhole camera (float64, translation still in world units) and the lens distortion to be removed.

    Raises:
        InputError: A pose that is not rigid or finite, unusable intrinsics, a photograph of another shape.
    """
    cam_from_world = rigid_transform(entry.cam_from_world, where)
    stored = size[::-1] if orientation >= 5 else size
    calibrated = entry.lens.size
    upright_calibration = stored != size and calibrated is not None and _same_shape(calibrated, size)
    turned = orientation != 1 and not upright_calibration
    lens_size = stored if turned else size
    if calibrated is not None and not _same_shape(calibrated, lens_size):
        raise InputError(
            where,
            f"a photograph of {lens_size[1]} x {lens_size[0]} pixels",
            f"the shape that was calibrated, {calibrated[1]} x {calibrated[0]}",
            "Use the photographs that were calibrated, uncropped.",
        )
    intrinsics = entry.lens.intrinsics(lens_size)
    if not np.isfinite(intrinsics).all() or intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        raise InputError(
            where,
            f"a focal length of {intrinsics[0, 0]:g} px and a centre of {intrinsics[0, 2]:g}, {intrinsics[1, 2]:g}",
            "finite intrinsics with a positive focal length",
            "Calibrate again or give the intrinsics.",
        )
    lens = entry.lens.distortion
    if not all(math.isfinite(value) for value in vars(lens).values()):
        raise InputError(where, "NaN or infinite lens distortion", "finite coefficients", "Calibrate again.")
    if turned:
        pixels, rotation = _turn(orientation, stored, where)
        intrinsics = pixels @ intrinsics @ rotation.T
        lens = lens.turned(rotation[:2, :2])
        cam_from_world[:3] = rotation @ cam_from_world[:3]
    camera = Camera(torch.from_numpy(intrinsics.copy()), torch.from_numpy(cam_from_world), size)
    return camera, lens


def _same_shape(calibrated: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether two (height, width) agree in aspect ratio, up to the rounding of a resampled size."""
    expected_height = calibrated[0] * size[1] / calibrated[1]
    return abs(expected_height - size[0]) <= max(1.0, ASPECT_TOLERANCE * size[0])


def in_millimetres(camera: Camera, mm_per_unit: float) -> Camera:
    """The camera with its translation scaled to millimetres."""
    transform = camera.cam_from_world.clone()
    transform[:3, 3] *= mm_per_unit
    return replace(camera, cam_from_world=transform)

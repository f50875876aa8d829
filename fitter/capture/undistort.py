"""Lens distortion (Brown-Conrady, OpenCV's naming): applied, inverted, removed from photographs, masks and points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

_BAND_ROWS = 256
"""Rows resampled at a time, so that a large photograph does not need its coordinates in float64 all at once."""
_NEWTON_STEPS = 50
_NEWTON_TOLERANCE = 1e-13
"""Normalised image units; at a focal length of 10,000 px this is 1e-9 px."""


@dataclass(frozen=True)
class Distortion:
    """Coefficients of the polynomial lens model, on normalised image coordinates (x / z, y / z).

    With r² = x² + y²: the radial factor is (1 + k1 r² + k2 r⁴ + k3 r⁶ + r8 r⁸) / (1 + k4 r² + k5 r⁴ + k6 r⁶), and
    p1, p2 shift x by 2 p1 x y + p2 (r² + 2 x²) and y by p1 (r² + 2 y²) + 2 p2 x y.
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    k5: float = 0.0
    k6: float = 0.0
    r8: float = 0.0
    """Coefficient of r⁸ in the numerator: `k4` of Metashape and nerfstudio, which OpenCV does not have."""

    @property
    def is_zero(self) -> bool:
        """Whether straight lines stay straight."""
        return not any(vars(self).values())

    def turned(self, rotation: np.ndarray) -> Distortion:
        """The same lens in image axes turned by a [2, 2] rotation; only the tangential part notices."""
        p2, p1 = rotation @ np.array([self.p2, self.p1])
        return Distortion(**{**vars(self), "p1": float(p1), "p2": float(p2)})


def _radial(squared: np.ndarray, lens: Distortion) -> tuple[np.ndarray, np.ndarray]:
    """Radial factor and its derivative with respect to r²."""
    numerator = 1 + squared * (lens.k1 + squared * (lens.k2 + squared * (lens.k3 + squared * lens.r8)))
    numerator_slope = lens.k1 + squared * (2 * lens.k2 + squared * (3 * lens.k3 + squared * 4 * lens.r8))
    denominator = 1 + squared * (lens.k4 + squared * (lens.k5 + squared * lens.k6))
    denominator_slope = lens.k4 + squared * (2 * lens.k5 + squared * 3 * lens.k6)
    factor = numerator / denominator
    return factor, (numerator_slope - factor * denominator_slope) / denominator


def _fold(lens: Distortion) -> float:
    """r² at which the radial part stops growing, or infinity; beyond it two ideal points share a distorted one."""
    numerator = np.polynomial.Polynomial([1.0, lens.k1, lens.k2, lens.k3, lens.r8])
    denominator = np.polynomial.Polynomial([1.0, lens.k4, lens.k5, lens.k6])
    squared = np.polynomial.Polynomial([0.0, 1.0])
    # d/dr of r N(r²) / D(r²) has the sign of (N + 2 s N') D - 2 s N D', s = r².
    slope = (numerator + 2 * squared * numerator.deriv()) * denominator - 2 * squared * numerator * denominator.deriv()
    roots = np.concatenate([slope.trim().roots(), denominator.trim().roots()])
    real = roots[np.abs(roots.imag) < 1e-9 * np.maximum(1.0, np.abs(roots.real))].real
    return float(min(real[real > 0], default=np.inf))


def _valid(ideal: np.ndarray, jacobian: np.ndarray, lens: Distortion) -> np.ndarray:
    """Whether ideal points lie where the model can be inverted."""
    determinant = jacobian[..., 0, 0] * jacobian[..., 1, 1] - jacobian[..., 0, 1] ** 2
    return (determinant > 0) & ((ideal * ideal).sum(axis=-1) < _fold(lens))


def distort_normalised(points: np.ndarray, lens: Distortion) -> tuple[np.ndarray, np.ndarray]:
    """Where the lens puts ideal points.

    Args:
        points: [..., 2] ideal normalised coordinates.
        lens: Distortion coefficients.

    Returns:
        [..., 2] distorted normalised coordinates and their symmetric Jacobian [..., 2, 2].
    """
    x, y = points[..., 0], points[..., 1]
    squared = x * x + y * y
    factor, slope = _radial(squared, lens)
    distorted = np.stack(
        [
            x * factor + 2 * lens.p1 * x * y + lens.p2 * (squared + 2 * x * x),
            y * factor + lens.p1 * (squared + 2 * y * y) + 2 * lens.p2 * x * y,
        ],
        axis=-1,
    )
    cross = 2 * slope * x * y + 2 * lens.p1 * x + 2 * lens.p2 * y
    jacobian = np.empty((*points.shape[:-1], 2, 2))
    jacobian[..., 0, 0] = factor + 2 * slope * x * x + 2 * lens.p1 * y + 6 * lens.p2 * x
    jacobian[..., 0, 1] = jacobian[..., 1, 0] = cross
    jacobian[..., 1, 1] = factor + 2 * slope * y * y + 6 * lens.p1 * y + 2 * lens.p2 * x
    return distorted, jacobian


def undistort_normalised(points: np.ndarray, lens: Distortion) -> np.ndarray:
    """Ideal points of distorted ones, by Newton's method.

    Args:
        points: [..., 2] distorted normalised coordinates.
        lens: Distortion coefficients.

    Returns:
        [..., 2] ideal normalised coordinates; NaN where the model has no inverse (beyond the fold of a strong lens).
    """
    points = np.asarray(points, dtype=np.float64)
    if lens.is_zero:
        return points.copy()
    ideal = points.copy()
    for _ in range(_NEWTON_STEPS):
        distorted, jacobian = distort_normalised(ideal, lens)
        residual = distorted - points
        if np.nanmax(np.abs(residual), initial=0.0) < _NEWTON_TOLERANCE:
            break
        a, b, d = jacobian[..., 0, 0], jacobian[..., 0, 1], jacobian[..., 1, 1]
        determinant = a * d - b * b
        with np.errstate(divide="ignore", invalid="ignore"):
            step_x = (d * residual[..., 0] - b * residual[..., 1]) / determinant
            step_y = (a * residual[..., 1] - b * residual[..., 0]) / determinant
        ideal = ideal - np.stack([step_x, step_y], axis=-1)
    distorted, jacobian = distort_normalised(ideal, lens)
    good = (np.abs(distorted - points).max(axis=-1) < 1e-9) & _valid(ideal, jacobian, lens)
    return np.where(good[..., None], ideal, np.nan)


def _normalise(pixels: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(intrinsics)
    return pixels @ inverse[:2, :2].T + inverse[:2, 2]


def _to_pixels(normalised: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    return normalised @ intrinsics[:2, :2].T + intrinsics[:2, 2]


def distort_pixels(pixels: np.ndarray, intrinsics: np.ndarray, lens: Distortion) -> np.ndarray:
    """Pixels [..., 2] of the photograph as taken, for pixels of the pinhole picture with the same [3, 3] intrinsics."""
    if lens.is_zero:
        return np.array(pixels, dtype=np.float64)
    distorted, _ = distort_normalised(_normalise(np.asarray(pixels, dtype=np.float64), intrinsics), lens)
    return _to_pixels(distorted, intrinsics)


def undistort_pixels(pixels: np.ndarray, intrinsics: np.ndarray, lens: Distortion) -> np.ndarray:
    """Pixels [..., 2] of the pinhole picture with the same intrinsics, for pixels as taken; NaN beyond the fold."""
    if lens.is_zero:
        return np.array(pixels, dtype=np.float64)
    return _to_pixels(undistort_normalised(_normalise(pixels, intrinsics), lens), intrinsics)


def undistort_image(
    image: np.ndarray, intrinsics: np.ndarray, lens: Distortion, *, outside: str = "border"
) -> np.ndarray:
    """The picture that a pinhole camera with the same intrinsics and size would have taken.

    Args:
        image: [H, W, C] or [H, W] float32 in [0, 1], as taken.
        intrinsics: [3, 3], px, pixel centres at +0.5.
        lens: Distortion coefficients.
        outside: "border" repeats the edge where the lens saw nothing; "zeros" leaves it 0 (masks).

    Returns:
        float32 of the same shape, resampled with a bicubic kernel, clipped to [0, 1].
    """
    if lens.is_zero:
        return image
    height, width = image.shape[:2]
    planes = torch.from_numpy(np.ascontiguousarray(image.reshape(height, width, -1).transpose(2, 0, 1)))[None].float()
    straight = np.empty((height, width, planes.shape[1]), dtype=np.float32)
    for top in range(0, height, _BAND_ROWS):
        rows = np.arange(top, min(top + _BAND_ROWS, height))
        grid = torch.from_numpy(_source_grid(rows, (height, width), intrinsics, lens))[None]
        band = torch.nn.functional.grid_sample(planes, grid, mode="bicubic", padding_mode=outside, align_corners=False)
        straight[rows] = band[0].clamp(0, 1).numpy().transpose(1, 2, 0)
    return straight.reshape(image.shape)


def _source_grid(rows: np.ndarray, size: tuple[int, int], intrinsics: np.ndarray, lens: Distortion) -> np.ndarray:
    """[len(rows), W, 2] float32: where the lens put each pixel of these rows, in [-1, 1] from edge to edge."""
    height, width = size
    columns, lines = np.meshgrid(np.arange(width) + 0.5, rows + 0.5)
    ideal = _normalise(np.stack([columns, lines], axis=-1), intrinsics)
    distorted, jacobian = distort_normalised(ideal, lens)
    grid = _to_pixels(distorted, intrinsics) / (width, height) * 2 - 1
    grid[~_valid(ideal, jacobian, lens)] = -2.0  # a folded model would show mirrored content there
    return grid.astype(np.float32)

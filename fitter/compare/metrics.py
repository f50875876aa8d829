"""What a comparison counts: distances, normal angles, completeness."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from fitter.compare.align import Similarity
from fitter.compare.distances import angles_between, root_mean_square
from fitter.compare.surface import Surface


@dataclass(frozen=True)
class SurfaceScore:
    """Distances of scan vertices to the closest points of a fitted surface, under one alignment."""

    count: int
    """Scan vertices counted."""
    median: float
    """mm."""
    mean: float
    """mm."""
    rms: float
    """mm."""
    p90: float
    """mm, 90th percentile."""
    p95: float
    """mm, 95th percentile."""
    normal_median: float
    """Degrees between the scan's vertex normal and the fit's interpolated one at the closest point."""
    normal_mean: float
    """Degrees."""
    within_1mm: float
    """Completeness: share of the scan's crop with the fit within 1 mm."""
    within_2mm: float
    """Share within 2 mm."""

    def record(self) -> dict[str, float]:
        """As a plain dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class PointErrors:
    """The numbers behind a `SurfaceScore`, per scan vertex."""

    distances: np.ndarray
    """[P] mm."""
    angles: np.ndarray
    """[P] degrees."""


def point_errors(points: np.ndarray, normals: np.ndarray, surface: Surface, pose: Similarity) -> PointErrors:
    """Distance and normal angle of scan points [P, 3] with normals [P, 3] to `surface` moved by `pose`."""
    found = surface.closest(pose.inverse()(points))
    fitted = surface.normals_at(found) @ pose.rotation.T
    return PointErrors(found.distances * pose.scale, angles_between(fitted, normals))


def summarise(errors: PointErrors) -> SurfaceScore:
    """The score of per-point errors."""
    distances, angles = errors.distances, errors.angles
    p90, p95 = np.percentile(distances, [90, 95])
    return SurfaceScore(
        count=len(distances),
        median=float(np.median(distances)),
        mean=float(distances.mean()),
        rms=root_mean_square(distances),
        p90=float(p90),
        p95=float(p95),
        normal_median=float(np.median(angles)),
        normal_mean=float(angles.mean()),
        within_1mm=float((distances <= 1.0).mean()),
        within_2mm=float((distances <= 2.0).mean()),
    )


def score_points(
    points: np.ndarray, normals: np.ndarray, surface: Surface, pose: Similarity | None = None
) -> SurfaceScore:
    """Score scan points [P, 3] (mm) with unit normals [P, 3] against a fitted surface moved by `pose`."""
    return summarise(point_errors(points, normals, surface, pose or Similarity.identity()))

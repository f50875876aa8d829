"""Alignments: closed-form Procrustes, and ICP that minimises the trimmed distance to a surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.compare.surface import ClosestPoints, Surface


@dataclass(frozen=True)
class IcpStage:
    """One stage of ICP."""

    points: int
    """Points used at most, evenly picked in their order."""
    keep: float
    """Share of the pairs that count; far pairs are hair, ears and holes before they are error."""
    steps: int
    """Most steps."""
    tolerance: float
    """Movement in mm below which the stage ends."""


COARSE_TO_FINE = (IcpStage(1500, 0.7, 25, 1e-3), IcpStage(4000, 0.9, 20, 1e-3), IcpStage(6000, 0.95, 40, 1e-5))

LEAST_ALIKE = 0.25
"""Share of the pairs whose normals must agree before normals are believed: a scan may be inside out."""


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation."""

    scale: float
    rotation: np.ndarray
    """[3, 3]."""
    translation: np.ndarray
    """[3] mm."""

    @classmethod
    def identity(cls) -> Similarity:
        """The transform that changes nothing."""
        return cls(1.0, np.eye(3), np.zeros(3))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Transform points [..., 3]."""
        return self.scale * points @ self.rotation.T + self.translation

    def inverse(self) -> Similarity:
        """The transform back."""
        return Similarity(1 / self.scale, self.rotation.T, -self.rotation.T @ self.translation / self.scale)

    def after(self, first: Similarity) -> Similarity:
        """This transform after another one."""
        return Similarity(self.scale * first.scale, self.rotation @ first.rotation, self(first.translation))

    def matrix(self) -> np.ndarray:
        """[4, 4]."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.scale * self.rotation, self.translation
        return matrix


def thinned(points: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the points, evenly picked in their order (no chance involved)."""
    if len(points) <= count:
        return points
    return points[np.linspace(0, len(points) - 1, count).astype(int)]


def procrustes(source: np.ndarray, target: np.ndarray, *, scale: bool) -> Similarity:
    """Least-squares transform of `source` [P, 3] onto `target` [P, 3] (Umeyama 1991, eq. 39-42), never a reflection."""
    source_mean, target_mean = source.mean(0), target.mean(0)
    source, target = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(target.T @ source)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
    rotation = (u * sign) @ vt
    factor = float((singular * sign).sum() / (source**2).sum()) if scale else 1.0
    return Similarity(factor, rotation, target_mean - factor * rotation @ source_mean)


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """Rotation matrix of an axis times angle in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@dataclass(frozen=True)
class Linearised:
    """Distances of points to a moved surface and how they change with its pose."""

    residual: np.ndarray
    """[P] mm, signed along the direction of the derivative; its magnitude is the distance."""
    jacobian: np.ndarray
    """[P, 6 or 7] change of the residual with a turn (times `reach`), a shift and, if wanted, growth (times reach)."""
    centre: np.ndarray
    """[3] mm, what is turned and scaled about."""
    reach: float
    """Root mean square distance of the pairs from the centre, mm; it brings turns and shifts to one unit."""


def linearise(
    points: np.ndarray, surface: Surface, pose: Similarity, found: ClosestPoints, *, scale: bool
) -> Linearised:
    """The exact derivative of point-to-surface distances by the surface's pose, at closest points that were just found.

    The residual of a pair is its distance, and its derivative is taken along the unit vector between the pair (the face
    normal where they touch).

    Args:
        points: [P, 3] mm.
        surface: What is moved.
        pose: Its transform into the points' frame.
        found: Closest points of the points, in the surface's frame.
        scale: Whether the pose may grow or shrink.
    """
    on_surface = pose(found.points)
    offset = points - on_surface
    length = (found.distances * pose.scale)[:, None]
    normals = surface.face_normals(found.triangles) @ pose.rotation.T
    direction = np.where(length > 1e-9, offset / np.where(length > 1e-9, length, 1.0), normals)
    centre = on_surface.mean(0)
    arm = on_surface - centre
    reach = float(np.sqrt((arm**2).sum(1).mean()))
    columns = [np.cross(arm, direction) / reach, direction]
    if scale:
        columns.append((arm * direction).sum(1, keepdims=True) / reach)
    return Linearised((direction * offset).sum(1), np.concatenate(columns, 1), centre, reach)


def updated(pose: Similarity, update: np.ndarray, about: Linearised) -> tuple[Similarity, float]:
    """The pose after a step in the units of `Linearised`, and how far (mm) it moves; wild steps are shortened."""
    reach, centre = about.reach, about.centre
    turn, shift = update[:3] / reach, update[3:6]
    angle = np.linalg.norm(turn)
    if angle > 0.3:
        turn = turn * (0.3 / angle)
    growth = float(np.clip(1.0 + update[6] / reach, 0.8, 1.25)) if len(update) > 6 else 1.0
    rotation = rotation_from_vector(turn)
    change = Similarity(growth, rotation, centre + shift - growth * rotation @ centre)
    moved = float(np.abs(update[:6]).max()) + abs(growth - 1.0) * reach
    return change.after(pose), moved


def _step(
    points: np.ndarray, normals: np.ndarray | None, surface: Surface, pose: Similarity, keep: float, scale: bool
) -> tuple[Similarity, float]:
    """One damped Gauss-Newton step on the trimmed, robustly weighted distances, and how far (mm) it moves.

    At a fixed point that is the exact gradient of the robust summed distance, and on the way it slides along the
    surface as point-to-plane does, and converges in tens of steps, not hundreds.
    """
    found = surface.closest(pose.inverse()(points))
    distances = found.distances * pose.scale
    kept = distances <= np.quantile(distances, keep)
    if normals is not None:
        # The inside of a cheek lies near the scan, too, and would draw the face onto itself.
        alike = ((surface.face_normals(found.triangles) @ pose.rotation.T) * normals).sum(1) > 0.0
        if (kept & alike).sum() >= LEAST_ALIKE * kept.sum():
            kept &= alike
    system = linearise(points[kept], surface, pose, found[kept], scale=scale)
    # Geman-McClure weights at three robust standard deviations: what does not belong (an eyelid, hair) must not pull
    # the rest away from where it fits.
    length = distances[kept, None]
    width = max(3 * 1.4826 * float(np.median(length)), 1e-6)
    weighted = system.jacobian / (1 + (length / width) ** 2) ** 2
    normal_matrix = weighted.T @ system.jacobian
    # A little damping: a sphere or a plane leaves directions open, and those are then left alone.
    normal_matrix += 1e-6 * np.trace(normal_matrix) / len(normal_matrix) * np.eye(len(normal_matrix))
    update = np.linalg.solve(normal_matrix, weighted.T @ system.residual)
    return updated(pose, update, system)


def icp(
    points: np.ndarray,
    surface: Surface,
    start: Similarity | None = None,
    *,
    normals: np.ndarray | None = None,
    scale: bool = False,
    schedule: tuple[IcpStage, ...] = COARSE_TO_FINE,
) -> Similarity:
    """Transform `surface` so that `points` lie on it: trimmed ICP, coarse to fine.

    Args:
        points: [P, 3] mm, where the surface is to go (the scan).
        surface: What is moved (the fit).
        start: Transform of the surface to begin with.
        normals: [P, 3] the points' normals; pairs whose normals oppose each other are then left out (Rusinkiewicz and
            Levoy 2001, section 3.4).
        scale: Whether the surface may grow or shrink (similarity) or not (rigid).
        schedule: The stages, coarse to fine.

    Returns:
        Transform of the surface, into the points' frame.
    """
    pose = start or Similarity.identity()
    for stage in schedule:
        sample = thinned(points, stage.points)
        facing = None if normals is None else thinned(normals, stage.points)
        for _ in range(stage.steps):
            pose, moved = _step(sample, facing, surface, pose, stage.keep, scale)
            if moved < stage.tolerance:
                break
    return pose


def trimmed_distance(points: np.ndarray, surface: Surface, pose: Similarity, keep: float = 0.8) -> float:
    """Mean distance (mm) of the closest share `keep` of `points` to the moved surface."""
    distances = np.sort(surface.closest(pose.inverse()(points)).distances) * pose.scale
    return float(distances[: max(1, int(keep * len(distances)))].mean())

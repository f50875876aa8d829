"""Many rigid poses at once: x -> rotation @ x + translation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation


@dataclass(frozen=True, eq=False)
class Poses:
    """A batch of B rigid transforms from the template's frame into the scan's."""

    rotations: np.ndarray
    """[B, 3, 3]."""
    translations: np.ndarray
    """[B, 3] mm; where the template's origin, its nose tip, goes."""

    def __len__(self) -> int:
        return len(self.rotations)

    def __getitem__(self, rows) -> Poses:
        """The poses of some rows (an index array, a mask or a slice)."""
        return Poses(self.rotations[rows], self.translations[rows])

    def points(self, points: np.ndarray) -> np.ndarray:
        """Move points [P, 3] or [B, P, 3]: [B, P, 3] mm."""
        return points @ self.rotations.swapaxes(1, 2) + self.translations[:, None]

    def directions(self, directions: np.ndarray) -> np.ndarray:
        """Turn directions [P, 3] or [B, P, 3]: [B, P, 3]."""
        return directions @ self.rotations.swapaxes(1, 2)

    def back(self, row: int, points: np.ndarray) -> np.ndarray:
        """Points [P, 3] of the scan in the template's frame by one of the poses: [P, 3] mm."""
        return (points - self.translations[row]) @ self.rotations[row]

    def matrix(self, row: int) -> np.ndarray:
        """[4, 4] of one pose."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotations[row], self.translations[row]
        return matrix

    @classmethod
    def of_matrix(cls, matrix: np.ndarray) -> Poses:
        """A batch of one from a rigid [4, 4]."""
        return cls(matrix[None, :3, :3].copy(), matrix[None, :3, 3].copy())

    @classmethod
    def joined(cls, parts: list[Poses]) -> Poses:
        """Batches one after the other."""
        return cls(np.concatenate([p.rotations for p in parts]), np.concatenate([p.translations for p in parts]))

    def moved(self, centres: np.ndarray, turns: np.ndarray, shifts: np.ndarray) -> Poses:
        """Each pose followed by a turn about its centre and a shift.

        Args:
            centres: [B, 3] mm, in the scan's frame.
            turns: [B, 3] axis times angle, radians.
            shifts: [B, 3] mm.
        """
        change = Rotation.from_rotvec(turns).as_matrix()
        arms = self.translations - centres
        return Poses(change @ self.rotations, np.einsum("bij,bj->bi", change, arms) + centres + shifts)


def angles_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle in degrees of the rotation between rotation matrices [..., 3, 3]; the batches broadcast."""
    trace = (first * second).sum((-1, -2))
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1.0, 1.0)))


def different(poses: Poses, other: Poses, degrees: float, distance: float) -> np.ndarray:
    """[B] bool: poses more than `degrees` or `distance` (mm, of the nose tip) away from the one pose `other`."""
    far = np.linalg.norm(poses.translations - other.translations[0], axis=1) > distance
    return far | (angles_between(poses.rotations, other.rotations[0]) > degrees)


def distinct(poses: Poses, scores: np.ndarray, degrees: float, distance: float, count: int) -> np.ndarray:
    """Rows of the best poses, best first, no two of which are alike.

    Args:
        poses: B poses.
        scores: [B], lower is better.
        degrees: Poses that differ by less than this …
        distance: … and whose nose tips are less than this apart (mm) are alike.
        count: Most rows.
    """
    order = np.argsort(scores, kind="stable")
    kept: list[int] = []
    while len(order) and len(kept) < count:
        best = order[0]
        kept.append(int(best))
        order = order[different(poses[order], poses[best : best + 1], degrees, distance)]
    return np.array(kept, int)

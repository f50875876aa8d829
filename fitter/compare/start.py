"""Where ICP begins: the fit as it lies, landmarks, or a search over poses when the fit is somewhere else altogether."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.compare.align import IcpStage, Similarity, icp, procrustes, thinned, trimmed_distance
from fitter.compare.scan import FaceFrame, Scan
from fitter.compare.surface import Surface
from fitter.mesh_normals import crossed_edges, lengths

IN_PLACE_MM = 10.0
"""Trimmed mean distance up to which a fit counts as lying in the scan's frame already."""
INNER_LANDMARKS = slice(17, 68)
"""Without the jaw line, which slides with the view."""
ROLLS = 12
SEARCH_POINTS, REFINE_POINTS = 250, 1500
SEARCH_SCHEDULE = (IcpStage(SEARCH_POINTS, 0.7, 8, 0.1),)
REFINE_SCHEDULE = (IcpStage(REFINE_POINTS, 0.7, 30, 1e-2),)
REFINED = 6
"""How many of the best starts are refined."""


@dataclass(frozen=True)
class FitFace:
    """What a fit knows about its own face, mm in its world."""

    points: np.ndarray
    """[P, 3] vertices of M1 around the nose that face forward."""
    landmarks: np.ndarray
    """[68, 3] on M1."""
    frame: FaceFrame
    """Nose tip, and the model's +z axis in the world."""


def initial_alignment(fit: FitFace, scan: Scan, scan_landmarks: np.ndarray | None) -> tuple[Similarity, str]:
    """Rigid transform that brings the fit roughly onto the scan, and how it was found.

    In turn: the fit as it lies, if it is near the scan; landmarks on both; a search.

    Returns:
        The transform, and `in place`, `landmarks` or `search`.
    """
    target = Surface(scan.vertices, scan.triangles)
    face = thinned(fit.points, REFINE_POINTS)
    if _distance(face, target, Similarity.identity()) <= IN_PLACE_MM and _agrees(fit, scan, scan_landmarks):
        return Similarity.identity(), "in place"
    if scan_landmarks is not None:
        return procrustes(fit.landmarks[INNER_LANDMARKS], scan_landmarks[INNER_LANDMARKS], scale=False), "landmarks"
    return _search(fit, scan, target), "search"


def _agrees(fit: FitFace, scan: Scan, scan_landmarks: np.ndarray | None) -> bool:
    """Whether a fit that is near the scan also looks the same way (a face turned around is near it, too)."""
    if scan_landmarks is not None:
        return bool(
            np.median(np.linalg.norm(fit.landmarks - scan_landmarks, axis=1)[INNER_LANDMARKS]) <= 3 * IN_PLACE_MM
        )
    nearest = np.linalg.norm(scan.vertices - fit.frame.nose_tip, axis=1).argmin()
    return bool(scan.normals[nearest] @ fit.frame.forward > 0.3)


def _distance(face: np.ndarray, target: Surface, pose: Similarity) -> float:
    """Trimmed mean distance of the fit's face, moved by `pose`, to the scan."""
    return trimmed_distance(face, target, pose.inverse())


def _refined(face: np.ndarray, target: Surface, pose: Similarity, schedule) -> Similarity:
    """ICP of the fit's face points onto the whole scan; `icp` moves surfaces, so it is asked for the inverse."""
    return icp(face, target, pose.inverse(), schedule=schedule).inverse()


def _search(fit: FitFace, scan: Scan, target: Surface) -> Similarity:
    """Try nose-like places, directions and rolls; refine the best few; keep the best.

    A good score alone can lie (a forehead fits many round things), so the face's own points, with nose and eye sockets,
    are the ones that have to find a place on the scan.
    """
    face = thinned(fit.points, SEARCH_POINTS)
    scored = []
    for start in _starts(fit, scan):
        pose = _refined(face, target, start, SEARCH_SCHEDULE)
        scored.append((_distance(face, target, pose), len(scored), pose))
    scored.sort(key=lambda entry: entry[:2])
    face = thinned(fit.points, REFINE_POINTS)
    refined = [_refined(face, target, pose, REFINE_SCHEDULE) for _, _, pose in scored[:REFINED]]
    return min(refined, key=lambda pose: _distance(face, target, pose))


def _directions(scan: Scan) -> list[np.ndarray]:
    """Where the scanned face may look: along its mean normal if it has one, else along any principal axis."""
    crossed = crossed_edges(scan.vertices, scan.triangles)
    total = lengths(crossed).sum()
    mean = crossed.sum(0)
    # A face or a mask is open behind and its normals add up; a closed head's cancel.
    if np.linalg.norm(mean) > 0.25 * total:
        return [mean / np.linalg.norm(mean)]
    axes = np.linalg.svd(thinned(scan.vertices, 5000) - scan.vertices.mean(0), full_matrices=False)[2]
    return [sign * axis for axis in axes for sign in (1.0, -1.0)]


def _starts(fit: FitFace, scan: Scan) -> list[Similarity]:
    """Poses to try: each direction with twelve rolls, at the scan's foremost point and at its middle."""
    fit_basis = _basis(fit.frame.forward, 0.0)
    starts = []
    for direction in _directions(scan):
        seen = scan.vertices[scan.normals @ direction > 0.3]
        if len(seen) == 0:
            continue
        foremost = seen[(seen @ direction).argmax()]
        middle = seen.mean(0)
        # The fit's nose stands before the middle of its own face by about as much as the scan's does.
        depth = fit.frame.forward @ (fit.frame.nose_tip - fit.points.mean(0))
        for place in (foremost, middle + depth * direction):
            for roll in range(ROLLS):
                rotation = _basis(direction, 2 * np.pi * roll / ROLLS) @ fit_basis.T
                starts.append(Similarity(1.0, rotation, place - rotation @ fit.frame.nose_tip))
    return starts


def _basis(forward: np.ndarray, roll: float) -> np.ndarray:
    """Orthonormal columns (right, up, forward), turned by `roll` radians around `forward`."""
    helper = np.eye(3)[np.abs(forward).argmin()]
    right = np.cross(helper, forward)
    right /= np.linalg.norm(right)
    up = np.cross(forward, right)
    cosine, sine = np.cos(roll), np.sin(roll)
    return np.stack([cosine * right + sine * up, -sine * right + cosine * up, forward], 1)

"""`hrn compare` without the command line: read a fit folder, align each level in three ways, measure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fitter.compare.align import Similarity, icp
from fitter.compare.metrics import PointErrors, SurfaceScore, point_errors, summarise
from fitter.compare.scan import NOSE_TIP, FaceFrame, Scan, crop, face_frame
from fitter.compare.start import FitFace, initial_alignment
from fitter.compare.surface import Surface
from fitter.errors import InputError
from fitter.mesh_normals import vertex_normals
from fitter.obj import read_obj

LEVELS = (("M0", "m0.obj"), ("M1", "face.obj"), ("M2", "dense.obj"))
ALIGNMENTS = ("raw", "rigid", "similarity")


@dataclass(frozen=True)
class FitFolder:
    """What a comparison needs of a fit, in world millimetres."""

    surfaces: dict[str, Surface]
    """Level -> surface, for the levels that are there."""
    face: FitFace
    metric: bool


@dataclass(frozen=True)
class Measurement:
    """One level under one alignment."""

    level: str
    alignment: str
    score: SurfaceScore
    pose: Similarity
    """Transform of the fit into the scan's frame."""
    errors: PointErrors


@dataclass(frozen=True)
class Comparison:
    """All levels under all alignments."""

    measurements: tuple[Measurement, ...]
    points: np.ndarray
    """Numbers of the scan's vertices that were counted."""
    scan: Scan
    frame: FaceFrame
    """Nose tip and forward direction on the scan."""
    up: np.ndarray
    """[3] the fit's up direction in the scan's frame, for pictures."""
    start: str
    """How the alignment began: `in place`, `landmarks` or `search`."""
    radius: float
    metric: bool

    def get(self, level: str, alignment: str) -> Measurement:
        """One of the measurements."""
        return next(m for m in self.measurements if (m.level, m.alignment) == (level, alignment))

    def record(self) -> dict[str, Any]:
        """The content of compare.json."""
        levels: dict[str, Any] = {}
        for entry in self.measurements:
            scores = entry.score.record()
            scores["scale"] = entry.pose.scale
            scores["scan_from_fit_mm"] = entry.pose.matrix().tolist()
            levels.setdefault(entry.level, {})[entry.alignment] = scores
        return {
            "format": "hrn-compare-1",
            "unit": "mm; normals in degrees",
            "counted": "scan vertices within the radius of the nose tip whose normal points forward, "
            "to the closest point of the fit",
            "radius_mm": self.radius,
            "vertices": len(self.points),
            "nose_tip": self.frame.nose_tip.tolist(),
            "forward": self.frame.forward.tolist(),
            "alignment_started_from": self.start,
            "fit_is_metric": self.metric,
            "levels": levels,
        }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        remedy = "Give the folder that `hrn fit` wrote."
        raise InputError(path, "no readable record", "a file of a fit's result folder", remedy) from error


def load_fit(folder: str | Path) -> FitFolder:
    """Read a result folder's meshes and landmarks, in world millimetres.

    Raises:
        InputError: The folder is no result, or a file of it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "a result folder", "Give the folder that `hrn fit` wrote.")
    record = _read_json(folder / "fit.json")
    points = _read_json(folder / "landmarks3d.json")
    try:
        mm_per_unit = float(record["mm_per_unit"])
        axes = np.array(record["world_from_model"], np.float64)[:3, :3]
        landmarks = np.array(points["m1"], np.float64).reshape(68, 3) * mm_per_unit
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            folder / "fit.json", "a record without unit, pose or landmarks", "a result of this version"
        ) from error
    surfaces = {}
    for level, name in LEVELS:
        if (folder / name).is_file():
            mesh = read_obj(folder / name)
            surfaces[level] = Surface(mesh.vertices * mm_per_unit, mesh.triangles)
    if "M1" not in surfaces:
        raise InputError(
            folder / "face.obj", "no such file", "the fitted mesh", "Give the folder that `hrn fit` wrote."
        )
    frame = FaceFrame(landmarks[NOSE_TIP], axes[:, 2] / np.linalg.norm(axes[:, 2]))
    face = FitFace(_face_points(surfaces["M1"], frame), landmarks, frame)
    return FitFolder(surfaces, face, bool(record.get("metric", True)))


def _face_points(surface: Surface, frame: FaceFrame, radius: float = 75.0) -> np.ndarray:
    """Vertices of the fit around its nose tip that face forward."""
    near = np.linalg.norm(surface.vertices - frame.nose_tip, axis=1) <= radius
    facing = vertex_normals(surface.vertices, surface.triangles) @ frame.forward > 0.3
    return surface.vertices[near & facing]


def _scan_frame(fit: FitFolder, scan: Scan, landmarks: np.ndarray | None, start: Similarity) -> FaceFrame:
    """Nose tip and forward direction on the scan: from its landmarks, else from the roughly placed fit.

    Without landmarks the nose tip is the scan vertex nearest to the fit's, and forward is the model's +z axis as the
    fit turned it; both hardly move with a small change of the fit.
    """
    if landmarks is not None:
        return face_frame(landmarks)
    tip = start(fit.face.frame.nose_tip)
    nearest = scan.vertices[np.linalg.norm(scan.vertices - tip, axis=1).argmin()]
    return FaceFrame(nearest, start.rotation @ fit.face.frame.forward)


def compare_fit(
    fit: FitFolder, scan: Scan, *, radius: float = 80.0, scan_landmarks: np.ndarray | None = None
) -> Comparison:
    """Measure every level of a fit against a scan, raw and after rigid and similarity alignment.

    Args:
        fit: From `load_fit`.
        scan: From `load_scan`.
        radius: Scan vertices further than this (mm) from the nose tip do not count.
        scan_landmarks: [68, 3] iBUG landmarks on the scan (mm), or None.

    Raises:
        InputError: Nothing of the scan is near the nose tip.
    """
    start, how = initial_alignment(fit.face, scan, scan_landmarks)
    frame = _scan_frame(fit, scan, scan_landmarks, start)
    chosen = crop(scan, frame, radius)
    if len(chosen) < 50:
        found = f"{len(chosen)} scan vertices within {radius:g} mm of the nose tip that face forward"
        raise InputError("the scan", found, "a face", "Give --scan-landmarks, check --unit, or enlarge --radius.")
    points, normals = scan.vertices[chosen], scan.normals[chosen]
    measurements = []
    for level, surface in fit.surfaces.items():
        rigid = icp(points, surface, start, normals=normals)
        poses = (Similarity.identity(), rigid, icp(points, surface, rigid, normals=normals, scale=True))
        for alignment, pose in zip(ALIGNMENTS, poses, strict=True):
            errors = point_errors(points, normals, surface, pose)
            measurements.append(Measurement(level, alignment, summarise(errors), pose, errors))
    brows, chin = fit.face.landmarks[17:27].mean(0), fit.face.landmarks[8]
    up = start.rotation @ (brows - chin)
    up -= (up @ frame.forward) * frame.forward
    return Comparison(tuple(measurements), chosen, scan, frame, up / np.linalg.norm(up), how, radius, fit.metric)

"""What a fit of a capture is measured against: points of the true surface that count."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitter.capture.scan.read import read_mesh
from fitter.compare.scan import FaceFrame, Scan, crop, face_frame, load_scan, load_scan_landmarks
from fitter.errors import InputError
from fitter.mesh_normals import vertex_normals

RADIUS_MM = 80.0
POINTS = 20_000


@dataclass(frozen=True, eq=False)
class Truth:
    """Counted points of the true surface, in the capture's world, mm."""

    points: np.ndarray
    """[P, 3]."""
    normals: np.ndarray
    """[P, 3] unit."""
    landmarks: np.ndarray
    """[68, 3] iBUG."""
    frame: FaceFrame
    """Nose tip and forward direction."""
    tone: int | None
    """Index of the skin tone, 0 very light … 6 very dark, where the subject was generated."""
    scan: Scan
    """The whole surface, for pictures."""
    chosen: np.ndarray
    """[P] rows of the scan's vertices that the points are."""


def load_truth(capture: Path, scan: Path | None = None, landmarks: Path | None = None) -> Truth:
    """The truth of a generated capture, or of a real one by its scan (mm) with 68 landmarks on it.

    Counted are vertices within 80 mm of the nose tip whose normal points forward, as `hrn compare` counts them; of a
    generated capture also without eyes, lids' inside, nostrils, inside of the mouth, ears and neck, which are known.

    Raises:
        InputError: Files are missing, or the scan has no landmarks.
    """
    if scan is not None:
        if landmarks is None:
            raise InputError(scan, "no landmarks", "68 landmarks on a real scan", "Give --scan-landmarks FILE.")
        whole, marks = load_scan(scan, "mm"), load_scan_landmarks(landmarks, "mm")
        return _truth(whole, marks, np.ones(len(whole.vertices), bool), None)
    mesh = read_mesh(capture / "scan.ply")
    with np.load(capture / "truth.npz", allow_pickle=False) as file:
        counted = file["counted"]
    if len(counted) != len(mesh.vertices):
        raise InputError(capture / "truth.npz", f"{len(counted)} vertices", f"{len(mesh.vertices)}, as scan.ply has")
    whole = Scan(mesh.vertices, mesh.triangles, vertex_normals(mesh.vertices, mesh.triangles))
    tone = json.loads((capture / "subject.json").read_text("utf-8"))["skin_tone"]
    return _truth(whole, np.loadtxt(capture / "scan_ibug68.txt"), counted, tone)


def _truth(scan: Scan, landmarks: np.ndarray, counted: np.ndarray, tone: int | None) -> Truth:
    frame = face_frame(landmarks)
    near = crop(scan, frame, RADIUS_MM)
    near = np.random.default_rng(0).permutation(near[counted[near]])[:POINTS]
    return Truth(scan.vertices[near], scan.normals[near], landmarks, frame, tone, scan, near)

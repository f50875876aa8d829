"""What a capture session is, once loaded: photographs, landmarks, masks and cameras in the engine's conventions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from fitter.camera import Camera


@dataclass(frozen=True)
class Landmarks:
    """Detected points of one photograph."""

    points: np.ndarray
    """[L, 2] float64 px of the (undistorted) photograph; (0.5, 0.5) = centre of the top-left pixel."""
    confidence: np.ndarray
    """[L] in [0, 1]; 0 drops a point."""
    scheme: Literal["ibug68", "mediapipe478"]


@dataclass(frozen=True)
class View:
    """One photograph of a session."""

    name: str
    """File stem, unique in the session."""
    path: Path
    image: np.ndarray
    """[H, W, 3] float32, sRGB-encoded, in [0, 1], upright (EXIF applied), lens distortion removed."""
    landmarks: Landmarks | None
    mask: np.ndarray | None
    """[H, W] float32 in [0, 1], 1 = the subject's face (given by the user), or None."""
    camera: Camera | None
    """Pinhole camera in float64, world in mm, or None where it is to be found."""
    focal_guess: float | None
    """Focal length from EXIF, px, or None."""


@dataclass(frozen=True)
class ScanLandmarks:
    """Points on a scan that somebody set or a detector found."""

    points: np.ndarray
    """[L, 3] float64 mm, in the scan's frame."""
    indices: np.ndarray
    """[L] iBUG-68 numbers (0 to 67) of the points; those that are not given are left out."""
    source: str
    """Where they come from, for the report: a file name, or `photographs`."""
    marked: bool = True
    """Whether a person set them; a detector's points in photographs lie a few millimetres elsewhere."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A scanned surface, cleaned, in millimetres."""

    name: str
    path: Path
    vertices: np.ndarray
    """[V, 3] float64 mm, in the scan's own frame."""
    triangles: np.ndarray
    """[F, 3] int64, oriented alike; isolated pieces and empty triangles are gone."""
    unit: str
    """`mm`, `cm` or `m`: the unit of the file."""
    mm_per_unit: float
    """Millimetres per unit of the file; exports divide by it."""
    noise_mm: float
    """Estimated standard deviation of the vertices along the normal."""
    edge_mm: float
    """Median edge length of the file's mesh, before any reduction."""
    landmarks: ScanLandmarks | None = None
    warnings: tuple[str, ...] = field(default=())
    """Plain sentences for the report."""


@dataclass(frozen=True)
class Session:
    """Photographs of one person, a scan, or both; with cameras, all in one world frame."""

    name: str
    views: tuple[View, ...]
    kind: Literal["rig", "casual"]
    """rig: one instant, one expression and pose; casual: each view its own."""
    unit: str | None
    """World unit of the cameras (`mm`, `cm`, `m`), or None where it is not known."""
    mm_per_unit: float | None
    """Millimetres per world unit that was applied to the cameras, or None: to be solved by the fit."""
    warnings: tuple[str, ...] = field(default=())
    """Plain sentences for the report."""
    skipped: tuple[tuple[str, str], ...] = field(default=())
    """(file name, reason) of the images that could not be used."""
    scan: Scan | None = None
    """The subject's scan, in the frame of the cameras where both are given."""

    @property
    def calibrated(self) -> bool:
        """Whether every view brought its camera."""
        return all(view.camera is not None for view in self.views)

"""Small inputs that the capture tests write: photographs, landmarks, camera files in their true formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CAPTURES = Path(__file__).resolve().parents[2] / "shared" / "captures"
needs_captures = pytest.mark.skipif(not CAPTURES.is_dir(), reason="the sample captures are not beside the repository")


def picture(height: int = 80, width: int = 120, seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8 noise: every pixel different, so that a shift or a flip shows."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_picture(path: Path, height: int = 80, width: int = 120, seed: int = 0, **options) -> Path:
    Image.fromarray(picture(height, width, seed)).save(path, **options)
    return path


def face_points(height: int = 80, width: int = 120) -> np.ndarray:
    """[68, 2] pixel indices well inside a picture."""
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    return np.stack([width / 2 + width / 4 * np.cos(angle), height / 2 + height / 4 * np.sin(angle)], axis=1)


def write_pts(path: Path, points: np.ndarray) -> Path:
    rows = "\n".join(f"{x:.6f} {y:.6f}" for x, y in points)
    path.write_text(f"version: 1\nn_points: {len(points)}\n{{\n{rows}\n}}\n")
    return path


def yaw(degrees: float, distance: float = 1000.0) -> np.ndarray:
    """[4, 4] camera-to-world, OpenGL axes, looking at the origin from the given yaw about +y."""
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = rotation @ [0, 0, distance]
    return matrix


def write_transforms(path: Path, frames: dict[str, np.ndarray], **shared) -> Path:
    """A `transforms.json` for photographs of 120 x 80 px."""
    values = {"fl_x": 200.0, "fl_y": 200.0, "cx": 60.0, "cy": 40.0, "w": 120, "h": 80} | shared
    listed = [{"file_path": name, "transform_matrix": matrix.tolist()} for name, matrix in frames.items()]
    values = {key: value for key, value in values.items() if value is not None}
    path.write_text(json.dumps({**values, "frames": listed}))
    return path


def calibrated_folder(folder: Path, yaws: dict[str, float]) -> Path:
    """A folder with photographs, landmarks and cameras at the given yaw angles."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(yaws):
        write_picture(folder / f"{name}.png", seed=seed)
        write_pts(folder / f"{name}.pts", face_points())
    write_transforms(folder / "transforms.json", {f"{name}.png": yaw(angle) for name, angle in yaws.items()})
    return folder

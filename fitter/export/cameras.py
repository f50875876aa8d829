"""Cameras as files: plain OpenCV matrices, and nerfstudio's `transforms.json`; both in the session's unit."""

from __future__ import annotations

from typing import Any

import numpy as np

from fitter.result.types import FitResult, ViewResult

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
"""Camera axes of nerfstudio (x right, y up, z backward) from OpenCV's (x right, y down, z forward); its own inverse."""


def cam_from_world_in_units(view: ViewResult, mm_per_unit: float) -> np.ndarray:
    """[4, 4] rigid transform of a view with its translation in session units."""
    matrix = np.array(view.cam_from_world, np.float64)
    matrix[:3, 3] /= mm_per_unit
    return matrix


def camera_records(result: FitResult) -> dict[str, Any]:
    """The content of cameras.json."""
    cameras = []
    for view in result.views:
        cameras.append(
            {
                "name": view.name,
                "height": int(view.size[0]),
                "width": int(view.size[1]),
                "intrinsics": np.asarray(view.intrinsics, np.float64).tolist(),
                "cam_from_world": cam_from_world_in_units(view, result.mm_per_unit).tolist(),
            }
        )
    return {
        "convention": "OpenCV axes: x right, y down, z forward; pixel (0.5, 0.5) is the centre of the top-left pixel; "
        "the photographs with their lens distortion removed",
        "unit": unit_name(result),
        "mm_per_unit": result.mm_per_unit,
        "cameras": cameras,
    }


def nerfstudio_record(result: FitResult) -> dict[str, Any]:
    """The content of transforms.json: camera to world, OpenGL camera axes, as nerfstudio reads it."""
    files = {view.name: view.path.name for view in result.session.views}
    frames = []
    for view in result.views:
        world_from_cam = np.linalg.inv(cam_from_world_in_units(view, result.mm_per_unit))
        intrinsics = np.asarray(view.intrinsics, np.float64)
        frames.append(
            {
                "file_path": files.get(view.name, view.name),
                "w": int(view.size[1]),
                "h": int(view.size[0]),
                "fl_x": float(intrinsics[0, 0]),
                "fl_y": float(intrinsics[1, 1]),
                "cx": float(intrinsics[0, 2]),
                "cy": float(intrinsics[1, 2]),
                "transform_matrix": (world_from_cam @ OPENGL_FROM_OPENCV).tolist(),
            }
        )
    return {"camera_model": "PINHOLE", "frames": frames}


def unit_name(result: FitResult) -> str:
    """The session's unit in a word: mm, cm, m, or `session` where it is not known."""
    return result.session.unit or ("mm" if result.mm_per_unit == 1.0 else "session")

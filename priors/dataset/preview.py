"""Small pictures of a sample, made while the photograph is at hand."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from fitter.camera import Camera
from fitter.export.colour import srgb_decode, to_bytes
from fitter.export.meshes import whole_head
from fitter.export.report.clay import BACKGROUND, Figure, draw, figure, studio_camera, to_pixels
from fitter.result.types import FitResult, ViewResult

SIZE = 240
"""Side of a picture, px."""
MARGIN = 1.45
"""Side of the window in sizes of the face."""
SCAN_MARGIN = 1.75
"""The same for a scan alone, which has no frame of its own: with room for the ears."""
DOT = (64, 214, 255)
"""sRGB of the fitted landmarks."""


def session_figure(result: FitResult) -> Figure:
    """M2 and the eyes, ready to be drawn."""
    head = whole_head(result)
    return figure(head.vertices, head.triangles, head.normals)


def view_preview(result: FitResult, view: int, subject: Figure) -> Tensor:
    """Pictures uint8 [2, P, P, 3]: the photograph around the face with the fitted landmarks, and M2 before it."""
    found = result.views[view]
    left, top, side = _window(result, found)
    photograph = to_bytes(result.session.views[view].image)
    crop = Image.fromarray(photograph).crop((left, top, left + side, top + side))
    crop = crop.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    factor = SIZE / side
    intrinsics = np.array(found.intrinsics, np.float64)
    intrinsics[:2, 2] -= (left, top)
    intrinsics[:2] *= factor
    pose = torch.from_numpy(np.array(found.cam_from_world, np.float64))
    camera = Camera(torch.from_numpy(intrinsics), pose, (SIZE, SIZE))
    behind = srgb_decode(np.asarray(crop) / 255.0)
    clay = to_pixels(draw(subject, camera).over(behind))
    if found.landmarks_fitted is not None:
        pen = ImageDraw.Draw(crop)
        for x, y in (found.landmarks_fitted - (left, top)) * factor:
            pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=DOT)
    return torch.from_numpy(np.stack([np.asarray(crop), clay]))


def scan_preview(result: FitResult, subject: Figure) -> Tensor:
    """Pictures uint8 [2, P, P, 3] of a scan without photographs: M2 in clay, half from the side and from the front."""
    linear = result.world_from_model[:3, :3]
    axes = linear / np.linalg.norm(linear, axis=0)
    face = result.vertices_m1[result.model.regions["face"].cpu().numpy()]
    span = SCAN_MARGIN * float((face @ axes).max(0)[1] - (face @ axes).min(0)[1])
    middle = 0.5 * (face.min(0) + face.max(0))
    pictures = []
    for yaw in (45.0, 0.0):
        camera = studio_camera(middle, axes[:, 2], axes[:, 1], yaw, span, SIZE)
        pictures.append(to_pixels(draw(subject, camera).over(BACKGROUND)))
    return torch.from_numpy(np.stack(pictures))


def _window(result: FitResult, found: ViewResult) -> tuple[int, int, int]:
    """Left, top and side, px, of the square around the face in the photograph; it may reach over its edges."""
    face = found.vertices_m1[result.model.regions["face"].cpu().numpy()]
    matrix = np.asarray(found.cam_from_world, np.float64)
    pixels = (face @ matrix[:3, :3].T + matrix[:3, 3]) @ np.asarray(found.intrinsics, np.float64).T
    pixels = pixels[:, :2] / np.maximum(pixels[:, 2:], 1e-6)
    low, high = pixels.min(0), pixels.max(0)
    side = max(2, round(MARGIN * float((high - low).max())))
    left, top = np.round(0.5 * (low + high) - 0.5 * side).astype(int)
    return int(left), int(top), side

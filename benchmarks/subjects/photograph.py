"""Generated captures: photographs of a subject from calibrated cameras, in a folder that `hrn fit` reads (unit mm)."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from benchmarks.sensor import SENSORS, Sensor
from benchmarks.subjects.cameras import camera_ring, detected_landmarks, pixels
from benchmarks.subjects.degrade import decimated, random_pose
from benchmarks.subjects.geometry import generate_subject
from benchmarks.subjects.lights import random_lighting
from benchmarks.subjects.mitsuba_scene import PathTracer
from benchmarks.subjects.quick import QuickRenderer
from benchmarks.subjects.radiance import kept_radiance
from benchmarks.subjects.skin import Look, look_of, skin_of
from benchmarks.subjects.subject import Mesh, Subject
from fitter.camera import Camera
from fitter.export.colour import srgb_encode

RECIPE = 4
"""Raise this when the pictures of the same settings change, so that they are made again."""
RADIANCE = "radiance"
"""Folder beside the captures: the rendered light."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True)
class CaptureSettings:
    """Everything that decides a generated capture."""

    seed: int
    """The person."""
    renderer: Literal["mitsuba", "quick"] = "mitsuba"
    """Path tracing, or this project's own rasterizer (without shadows; for tests of code, not of accuracy)."""
    views: int = 5
    """Spread over yaw -60 … 60°."""
    size: int = 640
    """Height and width, px."""
    samples: int = 121
    """Paths per pixel: the square of a prime number."""
    sensor: Literal["studio", "small"] = "studio"
    """Whose noise the photographs have; see `benchmarks.sensor`."""
    edge_mm: float = 0.4
    """The subject's edges in the face."""
    expression: str = "neutral"
    tone: int | None = None
    """Index of `pigment.TONES`; None: by seed, through all."""
    stubble: float | None = None
    posed: bool = False
    """Whether the world is a random frame instead of the model's."""
    scan_edge_mm: float | None = None
    """Edges of scan.ply; None writes the truth itself."""

    @property
    def name(self) -> str:
        """Folder name: the seed, the renderer, and a hash of everything."""
        return self._name(asdict(self))

    @property
    def radiance_name(self) -> str:
        """File name of the rendered light: as `name`, whatever the sensor and the scan are."""
        return self._name({k: v for k, v in asdict(self).items() if k not in ("sensor", "scan_edge_mm")}) + ".npz"

    def _name(self, settings: dict) -> str:
        record = json.dumps(settings | {"recipe": RECIPE}, sort_keys=True)
        return f"subject-{self.seed:03d}-{self.renderer}-{hashlib.sha256(record.encode()).hexdigest()[:10]}"


def capture(folder: str | Path, settings: CaptureSettings) -> Path:
    """Make a capture, or find it: a folder in `folder` with everything that a fit and its score need.

    view_k.png (sRGB, 8 bits), view_k.pts (as from a detector), transforms.json (nerfstudio, mm), scan.ply and
    scan_ibug68.txt (the truth, mm), subject.json (settings), truth.npz: true landmarks `landmarks_2d` [K, 68, 2] px and
    `landmarks_visible` [K, 68], and for each vertex of scan.ply (unless that is decimated) `counted`, `detail`,
    `furrow_detail` and `deformed` as in `Subject`.
    """
    target = Path(folder) / settings.name
    if target.is_dir():
        return target
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    temporary.mkdir(parents=True)
    try:
        _write(temporary, settings)
        temporary.rename(target)
    except OSError:
        # Another process was first; its folder is as good.
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _write(folder: Path, settings: CaptureSettings) -> None:
    began = time.perf_counter()
    subject = generate_subject(settings.seed, edge_mm=settings.edge_mm, expression=settings.expression)
    if settings.posed:
        subject = subject.moved(random_pose(settings.seed))
    skin = skin_of(subject, settings.tone, settings.stubble)
    look = look_of(subject, skin)
    random = np.random.default_rng([settings.seed, 51])
    lighting = random_lighting(random)
    cameras, yaws = camera_ring(subject, settings.views, settings.size, random)
    made = time.perf_counter()

    def render() -> list[np.ndarray]:
        renderer = (
            PathTracer(subject, look, lighting, settings.samples, seed=1000 * settings.seed)
            if settings.renderer == "mitsuba"
            else QuickRenderer(subject, look, lighting)
        )
        return [renderer.photograph(camera) for camera in cameras]

    kept = folder.parent / RADIANCE / settings.radiance_name
    images = kept_radiance(kept, render) if settings.renderer == "mitsuba" else render()
    rendered = time.perf_counter()
    front = int(np.abs(yaws).argmin())
    factor = exposure(images[front], cameras[front], subject, look)
    true, visible = [], []
    for number, (image, camera) in enumerate(zip(images, cameras, strict=True)):
        Image.fromarray(developed(image * factor, SENSORS[settings.sensor], random)).save(folder / f"view_{number}.png")
        found, seen = detected_landmarks(subject, camera, random)
        (folder / f"view_{number}.pts").write_text(_pts(found), "ascii")
        true.append(pixels(camera, subject.landmarks))
        visible.append(seen)
    (folder / "transforms.json").write_text(json.dumps(_transforms(cameras, yaws), indent=1), "utf-8")
    _write_truth(folder, subject, settings, np.array(true), np.array(visible))
    record = asdict(settings) | {
        "recipe": RECIPE,
        "age": subject.age,
        "skin_tone": skin.tone,
        "median_albedo": np.median(look.albedo[~subject.left_out], 0).round(4).tolist(),
        "world_from_model": subject.world_from_model.tolist(),
        "seconds": {"subject": round(made - began, 1), "rendering": round(rendered - made, 1)},
    }
    (folder / "subject.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def exposure(image: np.ndarray, camera: Camera, subject: Subject, look: Look) -> float:
    """Factor that a camera's automatic would choose: dark skin is shown brighter than it is, but still dark."""
    left, top = pixels(camera, subject.landmarks).min(0).astype(int).clip(0)
    right, bottom = pixels(camera, subject.landmarks).max(0).astype(int)
    face = np.median(image[top:bottom, left:right] @ LUMINANCE)
    own = np.median(look.albedo[~subject.left_out] @ LUMINANCE)
    return float(0.40 * (own / 0.35) ** 0.55 / face)


def developed(linear: np.ndarray, sensor: Sensor, random: np.random.Generator) -> np.ndarray:
    """Linear RGB [H, W, 3] through a sensor with noise, clipped and encoded: uint8 sRGB."""
    return np.round(srgb_encode(sensor.expose(linear, random)) * 255.0).astype(np.uint8)


def _pts(points: np.ndarray) -> str:
    """iBUG's text; coordinate 0 is the middle of the first pixel."""
    rows = "\n".join(f"{x - 0.5:.3f} {y - 0.5:.3f}" for x, y in points)
    return f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n"


def _transforms(cameras: list[Camera], yaws: list[float]) -> dict:
    """nerfstudio's transforms.json: OpenGL axes, world from camera."""
    focal, size = float(cameras[0].focal), cameras[0].size[0]
    frames = []
    for number, (camera, yaw) in enumerate(zip(cameras, yaws, strict=True)):
        pose = np.linalg.inv(camera.cam_from_world.double().numpy()) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": f"view_{number}.png", "transform_matrix": pose.tolist(), "yaw": yaw})
    half = size / 2.0
    shared = {"w": size, "h": size, "fl_x": focal, "fl_y": focal, "cx": half, "cy": half}
    return {"camera_model": "PINHOLE", **shared, "frames": frames}


def _write_truth(
    folder: Path, subject: Subject, settings: CaptureSettings, points: np.ndarray, visible: np.ndarray
) -> None:
    mesh, used = subject.scan(radius_mm=150.0)
    layers = {
        "counted": ~subject.left_out[used],
        "detail": subject.detail[used].astype(np.float32),
        "furrow_detail": subject.furrow_detail[used].astype(np.float32),
        "deformed": subject.deformed[used].astype(np.float32),
    }
    if settings.scan_edge_mm is not None:
        mesh, layers = decimated(mesh, settings.scan_edge_mm), {}
    write_ply(folder / "scan.ply", mesh)
    np.savetxt(folder / "scan_ibug68.txt", subject.landmarks, fmt="%.4f")
    np.savez_compressed(folder / "truth.npz", **layers, landmarks_2d=points, landmarks_visible=visible)


def write_ply(path: Path, mesh: Mesh) -> None:
    """Binary PLY of a mesh, mm."""
    faces = np.zeros(len(mesh.triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.triangles
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment generated subject, mm\n"
        f"element vertex {len(mesh.vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    path.write_bytes(header.encode("ascii") + mesh.vertices.astype("<f4").tobytes() + faces.tobytes())

"""A face that is known: the open model with random coefficients and a smooth map, textured, lit, and photographed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import igl
import numpy as np
import torch
from PIL import Image

from fitter.camera import Camera, project, transform_points
from fitter.capture.types import Landmarks, Session, View
from fitter.hierarchy.face import FaceState, initial_state, m1_vertices
from fitter.model.morphable import MorphableModel
from fitter.render import Appearance, MeshTopology, render_face

YAWS = (-28.0, 0.0, 28.0)
DISTANCE = 650.0
SCANNED_MM = 110.0
"""A scan ends so far from the nose tip."""


@dataclass(frozen=True)
class KnownFace:
    """What was photographed, and the photographs."""

    state: FaceState
    session: Session
    vertices: torch.Tensor
    """[V, 3] world mm, the true M1."""


def look_at_origin(yaw_degrees: float, size: int, focal: float) -> Camera:
    """A camera on a circle around the head, OpenCV axes."""
    angle = np.radians(yaw_degrees)
    forward = np.array([-np.sin(angle), 0.0, -np.cos(angle)])
    down = np.array([0.0, -1.0, 0.0])
    rotation = np.stack([np.cross(down, forward), down, forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, rotation @ forward * DISTANCE
    intrinsics = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    return Camera(torch.from_numpy(intrinsics), torch.from_numpy(matrix), (size, size))


def _smooth_map(resolution: int, amplitude: float, random: np.random.Generator) -> torch.Tensor:
    """[3, R, R] mm: a few long waves, fading at the border."""
    centre = (np.arange(resolution) + 0.5) / resolution
    v, u = np.meshgrid(centre, centre, indexing="ij")
    waves = np.zeros((3, resolution, resolution))
    for _ in range(10):
        frequency = random.normal(0.0, 9.0, 2)
        waves += random.normal(size=(3, 1, 1)) * np.cos(frequency[0] * u + frequency[1] * v + random.uniform(0, 6.3))
    edge = np.clip(np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) / 0.15, 0, 1)
    waves *= edge
    return torch.from_numpy(waves * amplitude / np.sqrt((waves**2).sum(0).mean())).float()


def _noise_texture(resolution: int, random: np.random.Generator) -> torch.Tensor:
    """[1, T, T, 3] linear RGB: skin with structure of every size, as pores, spots and blood give it."""
    total = torch.zeros(1, 1, resolution, resolution)
    for cells in (12, 32, 80, 200):
        noise = torch.from_numpy(random.normal(size=(1, 1, cells, cells))).float()
        total += torch.nn.functional.interpolate(noise, size=(resolution, resolution), mode="bicubic")
    skin = torch.tensor([0.42, 0.27, 0.2])
    return (skin * torch.exp(0.16 * total[0, 0, :, :, None]))[None]


def encode_srgb(linear: torch.Tensor) -> torch.Tensor:
    """sRGB encoding, written out (IEC 61966-2-1)."""
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055)


def known_face(
    model: MorphableModel, *, size: int = 320, seed: int = 11, yaws: tuple[float, ...] = YAWS, amplitude: float = 1.0
) -> KnownFace:
    """Photograph a known face.

    Args:
        model: The open model.
        size: Side of the square photographs, px.
        seed: Of everything random.
        yaws: One photograph from each of these directions, degrees.
        amplitude: Root-mean-square length of the deformation map, mm.
    """
    random = np.random.default_rng(seed)
    cameras = [look_at_origin(yaw, size, 1.9 * size) for yaw in yaws]
    intrinsics = torch.stack([c.intrinsics for c in cameras]).float()
    poses = torch.stack([c.cam_from_world for c in cameras]).float()
    state = initial_state(model, intrinsics, poses, 1, (64, 256))
    placed = torch.eye(4)
    tilt = torch.tensor(random.normal(0.0, 0.06, 3)).float()
    placed[:3, :3] = torch.linalg.matrix_exp(torch.linalg.cross(torch.eye(3), tilt.expand(3, 3)))
    placed[:3, 3] = torch.tensor([3.0, 12.0, -20.0])
    state = replace(
        state,
        identity=torch.from_numpy(random.normal(0.0, 0.7, state.identity.shape)).float(),
        world_from_model=placed,
        deformation=_smooth_map(64, amplitude, random),
    )
    vertices = m1_vertices(model, state)
    images = _photographs(model, vertices, state, size, random)
    views = []
    for index, camera in enumerate(cameras):
        seen = transform_points(poses[index], model.landmarks(vertices))
        points = project(seen, intrinsics[index]).double().numpy() + random.normal(0.0, 1.0, (68, 2))
        landmarks = Landmarks(points, np.ones(68), "ibug68")
        name = f"view{index}"
        views.append(View(name, Path(f"{name}.png"), images[index], landmarks, None, camera, None))
    return KnownFace(state, Session("known", tuple(views), "rig", "mm", 1.0), vertices)


def _photographs(
    model: MorphableModel, vertices: torch.Tensor, state: FaceState, size: int, random: np.random.Generator
) -> list[np.ndarray]:
    """[H, W, 3] sRGB-encoded float32, rendered at twice the size and averaged."""
    lighting = torch.zeros(1, 9, 3)
    lighting[:, 0], lighting[:, 2], lighting[:, 3], lighting[:, 1] = 2.6, 0.5, 0.25, 0.2
    topology = MeshTopology.from_triangles(model.triangles, model.vertex_count)
    appearance = Appearance(texture=_noise_texture(768, random), uv=model.atlas_uv, lighting=lighting)
    double = state.intrinsics * torch.tensor([2.0, 2.0, 1.0])[:, None]
    with torch.no_grad():
        render = render_face(
            vertices[None],
            topology,
            double,
            state.cam_from_world,
            (2 * size, 2 * size),
            appearance,
            background=torch.tensor([0.05, 0.06, 0.07]),
        )
        linear = torch.nn.functional.avg_pool2d(render.colour.permute(0, 3, 1, 2), 2)
        noise = torch.from_numpy(random.normal(0.0, 0.004, linear.shape)).float()
        encoded = (encode_srgb(linear) + noise).clamp(0, 1).permute(0, 2, 3, 1)
    return [image.contiguous().numpy() for image in encoded]


def as_scanned(face: KnownFace, model: MorphableModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [V, 3] mm and triangles of the face as a scanner would see it; and the 68 landmarks, mm."""
    vertices = face.vertices.double().numpy()
    landmarks = model.landmarks(face.vertices).double().numpy()
    seen = (model.regions["skin"] & ~model.regions["mouth_inside"] & ~model.regions["sockets"]).numpy()
    seen &= np.linalg.norm(vertices - landmarks[30], axis=1) < SCANNED_MM
    triangles = model.triangles.numpy()
    triangles = triangles[seen[triangles].all(1)]
    used, flat = np.unique(triangles, return_inverse=True)
    return vertices[used], flat.reshape(-1, 3), landmarks


def write_session(face: KnownFace, folder: Path) -> Path:
    """Write photographs, landmarks and `transforms.json` as a user would have them."""
    folder.mkdir(parents=True)
    frames = []
    for view in face.session.views:
        Image.fromarray(np.round(view.image * 255).astype(np.uint8)).save(folder / f"{view.name}.png")
        # Written as pixel indices, whose origin is the centre of the first pixel.
        rows = "\n".join(f"{x - 0.5:.6f} {y - 0.5:.6f}" for x, y in view.landmarks.points)
        (folder / f"{view.name}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
        # transforms.json holds OpenGL camera axes.
        world_from_cam = np.linalg.inv(view.camera.cam_from_world.numpy()) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": f"{view.name}.png", "transform_matrix": world_from_cam.tolist()})
    size = face.session.views[0].image.shape[0]
    focal = float(face.session.views[0].camera.focal)
    shared = {"fl_x": focal, "fl_y": focal, "cx": size / 2, "cy": size / 2, "w": size, "h": size}
    (folder / "transforms.json").write_text(json.dumps({**shared, "frames": frames}))
    return folder


def surface_error(model: MorphableModel, truth: torch.Tensor, fitted: torch.Tensor) -> np.ndarray:
    """Distances, mm, from the true face's vertices to the fitted surface (no alignment)."""
    face = model.regions["face"].numpy()
    points = truth.double().numpy()[face]
    squared = igl.point_mesh_squared_distance(points, fitted.double().numpy(), model.triangles.numpy())[0]
    return np.sqrt(squared)

"""Calibrated cameras around a face, and the landmarks that a detector would find in their pictures."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.subjects.subject import Subject
from fitter.camera import Camera, project, transform_points
from fitter.kernels.topology import MeshTopology
from fitter.render import visible_depth

JAW = range(17)
CHEEK_FROM = 20.0
"""mm beside the nose tip."""
DISTANCE = 1050.0
"""mm from the face."""
SPAN = 300.0
"""mm that a picture shows at the face."""
DETECTOR_NOISE = 1.3 / 640.0
"""Standard deviation of a detected landmark per axis, share of the picture's width."""
HIDDEN_FACTOR = 3.0
"""How much worse a detector is where it cannot see."""


def camera_ring(
    subject: Subject, count: int, size: int, random: np.random.Generator
) -> tuple[list[Camera], list[float]]:
    """Cameras spread evenly over yaw -60 … 60° (one camera: in front), each a little off its place.

    Args:
        subject: Who stands in the middle.
        count: Number of cameras.
        size: Height and width of the pictures, px.
        random: Source of the places' jitter.

    Returns:
        Cameras in the world, and each one's nominal yaw in degrees (positive to the subject's left).
    """
    back = np.linalg.inv(subject.world_from_model)
    marks = subject.landmarks @ back[:3, :3].T + back[:3, 3]
    target = marks[27:].mean(0) + np.array([0.0, 8.0, -40.0])
    yaws = np.linspace(-60.0, 60.0, count) if count > 1 else np.zeros(1)
    cameras = []
    for yaw in yaws:
        turn, lift = np.deg2rad(yaw + random.uniform(-4.0, 4.0)), np.deg2rad(random.uniform(-9.0, 9.0))
        towards = np.array([np.sin(turn) * np.cos(lift), np.sin(lift), np.cos(turn) * np.cos(lift)])
        centre = target + towards * DISTANCE * random.uniform(0.93, 1.07)
        aim = target + random.uniform(-8.0, 8.0, 3)
        cameras.append(_looking(centre, aim, size, roll=np.deg2rad(random.uniform(-3.0, 3.0)), move=back))
    return cameras, [float(yaw) for yaw in yaws]


def _looking(centre: np.ndarray, aim: np.ndarray, size: int, roll: float, move: np.ndarray) -> Camera:
    """A camera at `centre` that looks at `aim` (mm, model frame); `move` [4, 4] is model from world."""
    forward = (aim - centre) / np.linalg.norm(aim - centre)
    right = np.cross(forward, [np.sin(roll), np.cos(roll), 0.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ centre
    focal = size * DISTANCE / SPAN
    intrinsics = np.array([[focal, 0.0, size / 2.0], [0.0, focal, size / 2.0], [0.0, 0.0, 1.0]])
    return Camera(torch.from_numpy(intrinsics), torch.from_numpy(matrix @ move), (size, size))


def pixels(camera: Camera, points: np.ndarray) -> np.ndarray:
    """[N, 2] px of world points [N, 3] mm."""
    return project(transform_points(camera.cam_from_world, torch.from_numpy(points)), camera.intrinsics).numpy()


def visible_landmarks(subject: Subject, camera: Camera, tolerance_mm: float = 3.0) -> np.ndarray:
    """[68] bool: landmarks that the camera sees."""
    mesh, _ = subject.scan(margin_mm=1.0)
    topology = MeshTopology.from_triangles(torch.from_numpy(mesh.triangles), len(mesh.vertices))
    vertices = torch.from_numpy(mesh.vertices).float()[None]
    depth = visible_depth(
        vertices, topology, camera.intrinsics.float()[None], camera.cam_from_world.float()[None], camera.size
    )[0].numpy()
    place = pixels(camera, subject.landmarks)
    column, row = np.floor(place).astype(int).clip(0, camera.size[0] - 1).T
    own = transform_points(camera.cam_from_world, torch.from_numpy(subject.landmarks))[:, 2].numpy()
    return own <= depth[row, column] + tolerance_mm


def detected_landmarks(subject: Subject, camera: Camera, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What a detector of 68 points would give.

    Args:
        subject: Who is in the picture.
        camera: The camera.
        random: Source of the noise.

    Returns:
        Pixels [68, 2] with noise, and whether each landmark is visible [68]. A jaw point that the face hides is put on
        the face's outline at its height, as annotators do; what else is hidden is guessed with more noise.
    """
    true = pixels(camera, subject.landmarks)
    visible = visible_landmarks(subject, camera)
    found = true.copy()
    # The subject's right (jaw points 0 … 7) is the left of the picture; nose and lips are no outline of the cheek.
    sideways = subject.rest[:, 0] - subject.rest_landmarks[30, 0]
    for side, jaw in ((-1.0, JAW[:8]), (1.0, JAW[9:])):
        outline = pixels(camera, subject.vertices[subject.mask("face") & (side * sideways > CHEEK_FROM)])
        for number in jaw:
            beside = outline[np.abs(outline[:, 1] - true[number, 1]) < 2.0, 0]
            if not visible[number] and len(beside):
                found[number, 0] = side * (side * beside).max()
    sigma = DETECTOR_NOISE * camera.size[1] * np.where(visible | np.isin(np.arange(68), JAW), 1.0, HIDDEN_FACTOR)
    return found + random.normal(size=(68, 2)) * sigma[:, None], visible

"""Small scenes for the renderer's tests."""

from __future__ import annotations

import pytest
import torch
import trimesh
from torch import Tensor

from fitter.camera import clip_from_camera
from fitter.kernels import available_backends
from fitter.render import MeshTopology

CPU_BACKENDS = [
    pytest.param(name, marks=pytest.mark.skipif(name not in available_backends(), reason=f"{name} is not installed"))
    for name in ("numba_cpu", "torch_reference", "warp_cuda")
]
KERNEL_BACKENDS = [entry for entry in CPU_BACKENDS if entry.values[0] != "torch_reference"]


def sphere(subdivisions: int = 3, radius: float = 1.0) -> tuple[Tensor, MeshTopology]:
    """Icosphere: vertices [V, 3] and topology."""
    mesh = trimesh.creation.icosphere(subdivisions, radius)
    vertices = torch.tensor(mesh.vertices.copy(), dtype=torch.float32)
    return vertices, MeshTopology.from_triangles(torch.tensor(mesh.faces.copy()), len(vertices))


def pinhole(size: tuple[int, int], focal: float) -> Tensor:
    """[3, 3] intrinsics with the principal point in the middle."""
    height, width = size
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def to_clip(camera_points: Tensor, size: tuple[int, int], focal: float) -> Tensor:
    """[1, V, 4] clip positions of camera-frame points [V, 3], mm."""
    matrix = clip_from_camera(pinhole(size, focal), size).to(camera_points)
    return (camera_points @ matrix[:, :3].T + matrix[:, 3])[None]


def pixel_clip(pixels: Tensor, size: tuple[int, int], z: float = 0.0) -> Tensor:
    """[1, V, 4] clip positions with w = 1 at pixel coordinates [V, 2]."""
    extent = pixels.new_tensor([size[1], size[0]])
    flat = pixels / extent * 2.0 - 1.0
    return torch.cat([flat, torch.full_like(flat[:, :1], z), torch.ones_like(flat[:, :1])], dim=1)[None]


def sphere_scene(size: int = 64, subdivisions: int = 3) -> tuple[Tensor, Tensor, MeshTopology]:
    """A sphere of 60 mm, off centre, 300 mm away: camera-frame vertices [V, 3], clip [1, V, 4] and topology."""
    vertices, topology = sphere(subdivisions, 60.0)
    camera = vertices + torch.tensor([3.3, -2.1, 300.0])
    return camera, to_clip(camera, (size, size), 1.8 * size), topology


def relative(one: Tensor, other: Tensor) -> float:
    """Norm of the difference over the norm of the second."""
    return float(((one - other).norm() / other.norm()).detach())

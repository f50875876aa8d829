"""The scene that the renderer's benchmarks draw: a face-like mesh as fine as the Basel model, its texture, a camera."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fitter.camera import clip_from_camera
from fitter.kernels.topology import MeshTopology

GRID = 189
TEXTURE = 512
DISTANCE_MM = 1000.0


def face_like_mesh(grid: int = GRID) -> tuple[Tensor, Tensor, Tensor]:
    """An open ellipsoid with nose, eye sockets, lips and fine relief.

    Args:
        grid: Vertices per side; 189 gives 35,721 vertices and 70,688 triangles, like the Basel model.

    Returns:
        Vertices [V, 3] in mm (y up, z out of the face), triangles [F, 3] counter-clockwise from outside, uv [V, 2].
    """
    line = torch.linspace(0.0, 1.0, grid)
    v, u = torch.meshgrid(line, line, indexing="ij")
    longitude, latitude = (u - 0.5) * math.radians(230.0), (v - 0.5) * math.radians(150.0)

    def bump(at_u: float, at_v: float, width_u: float, width_v: float, height: float) -> Tensor:
        return height * torch.exp(-(((u - at_u) / width_u) ** 2) - ((v - at_v) / width_v) ** 2)

    relief = bump(0.5, 0.48, 0.028, 0.06, 22.0) + bump(0.5, 0.36, 0.06, 0.016, 6.0)
    relief = relief + bump(0.42, 0.6, 0.04, 0.03, -7.0) + bump(0.58, 0.6, 0.04, 0.03, -7.0)
    relief = relief + 0.4 * torch.sin(55.0 * u) * torch.sin(47.0 * v)
    direction = torch.stack(
        [longitude.sin() * latitude.cos(), latitude.sin(), longitude.cos() * latitude.cos()], dim=-1
    )
    vertices = direction * (torch.tensor([75.0, 110.0, 90.0]) + relief[..., None])
    number = torch.arange(grid * grid).reshape(grid, grid)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    triangles = torch.stack([torch.stack([a, b, d], -1), torch.stack([a, d, c], -1)], dim=2)
    return vertices.reshape(-1, 3), triangles.reshape(-1, 3), torch.stack([u, v], -1).reshape(-1, 2)


class RenderScene:
    """The mesh, its texture and a camera that turns the face by 0.2 rad."""

    def __init__(self, size: int, device: str = "cpu") -> None:
        vertices, triangles, uv = face_like_mesh()
        generator = torch.Generator().manual_seed(0)
        yaw = torch.tensor(0.2)
        turn = torch.eye(3)
        turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = yaw.cos(), yaw.sin(), -yaw.sin(), yaw.cos()
        flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        self.size = size
        self.intrinsics = torch.tensor([[4.0 * size, 0.0, size / 2], [0.0, 4.0 * size, size / 2], [0.0, 0.0, 1.0]])
        self.rotation = (flip @ turn).to(device)
        self.vertices = vertices.to(device)
        self.triangles, self.uv = triangles, uv.to(device)
        self.topology = MeshTopology.from_triangles(triangles, len(vertices)).to(device)
        self.texture = torch.rand((1, TEXTURE, TEXTURE, 3), generator=generator).to(device)
        self.target = torch.rand((1, size, size, 3), generator=generator).to(device)
        self.clip_matrix = clip_from_camera(self.intrinsics, (size, size)).to(device)

    def clip(self, vertices: Tensor) -> Tensor:
        """[1, V, 4] clip positions of [V, 3] vertices."""
        camera = vertices @ self.rotation.T
        camera = camera + camera.new_tensor([0.0, 0.0, DISTANCE_MM])
        return (camera @ self.clip_matrix[:, :3].T + self.clip_matrix[:, 3])[None]

"""Connectivity of a triangle mesh, computed once and shared by every rendering call."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MeshTopology:
    """Triangles with the tables that the kernels gather through.

    Build it with `MeshTopology.from_triangles`, once per mesh; it holds no positions. Texture coordinates with seams
    have a topology of their own: the same number of triangles in the same order, over the UV vertices.
    """

    triangles: Tensor
    """[F, 3] int32 vertex numbers, counter-clockwise seen from outside."""
    neighbours: Tensor
    """[F, 3] int32 triangle across edge k, which runs from corner k to corner (k + 1) % 3; -1 on the boundary."""
    corner_offsets: Tensor
    """[V + 1] int32: the corners of vertex v are `corners[corner_offsets[v]:corner_offsets[v + 1]]`."""
    corners: Tensor
    """[3 F] int32 corner numbers (3 * triangle + corner), grouped by vertex, ascending within a vertex."""

    @property
    def n_triangles(self) -> int:
        """Number of triangles."""
        return self.triangles.shape[0]

    @property
    def n_vertices(self) -> int:
        """Number of vertices, those that no triangle uses included."""
        return self.corner_offsets.shape[0] - 1

    @classmethod
    def from_triangles(cls, triangles: Tensor, n_vertices: int | None = None) -> MeshTopology:
        """Build the tables.

        Args:
            triangles: [F, 3] integer vertex numbers.
            n_vertices: Number of vertices; the largest number used + 1 if not given.

        Raises:
            ValueError: If the triangles are not [F, 3] integers within the vertices.
        """
        if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.is_floating_point():
            raise ValueError(f"triangles must be [F, 3] integers, got {tuple(triangles.shape)} {triangles.dtype}")
        triangles = triangles.detach().long()
        largest = int(triangles.max()) if triangles.numel() else -1
        n_vertices = largest + 1 if n_vertices is None else n_vertices
        if largest >= n_vertices or (triangles.numel() and int(triangles.min()) < 0):
            raise ValueError(f"triangles use vertices {int(triangles.min())} to {largest} of only {n_vertices}")
        corner_vertex = triangles.reshape(-1)
        corners = torch.sort(corner_vertex, stable=True).indices
        offsets = torch.zeros(n_vertices + 1, dtype=torch.int64, device=triangles.device)
        offsets[1:] = torch.bincount(corner_vertex, minlength=n_vertices).cumsum(0)
        return cls(
            triangles=triangles.int().contiguous(),
            neighbours=_edge_neighbours(triangles, n_vertices),
            corner_offsets=offsets.int(),
            corners=corners.int(),
        )

    def to(self, device: torch.device | str) -> MeshTopology:
        """The same tables on another device."""
        return replace(
            self,
            triangles=self.triangles.to(device),
            neighbours=self.neighbours.to(device),
            corner_offsets=self.corner_offsets.to(device),
            corners=self.corners.to(device),
        )


def _edge_neighbours(triangles: Tensor, n_vertices: int) -> Tensor:
    """[F, 3] int32 neighbour across each edge; edges of one, or of more than two, triangles count as boundary."""
    start, end = triangles, triangles.roll(-1, dims=1)
    key = (torch.minimum(start, end) * n_vertices + torch.maximum(start, end)).reshape(-1)
    sorted_key, order = torch.sort(key, stable=True)
    _, run_length = torch.unique_consecutive(sorted_key, return_counts=True)
    first = run_length.cumsum(0) - run_length
    pair_start = first[run_length == 2]
    one, other = order[pair_start], order[pair_start + 1]
    neighbours = torch.full((key.numel(),), -1, dtype=torch.int32, device=triangles.device)
    neighbours[one] = (other // 3).int()
    neighbours[other] = (one // 3).int()
    return neighbours.reshape(-1, 3)

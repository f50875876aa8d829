"""Connectivity of a triangle mesh, computed once and shared by every rendering call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from fitter.mesh_edges import corners_by_vertex, edge_table


@dataclass(frozen=True, eq=False)
class MeshTopology:
    """Triangles with the tables that the kernels gather through.

    Build it with `MeshTopology.from_triangles`, once per mesh; it holds no positions. Texture coordinates with seams
    have a topology of their own: the same number of triangles in the same order, over the UV vertices.
    """

    triangles: Tensor
    """[F, 3] int32 vertex numbers, counter-clockwise seen from outside."""
    corner_offsets: Tensor
    """[V + 1] int32: the corners of vertex v are `corners[corner_offsets[v]:corner_offsets[v + 1]]`."""
    corners: Tensor
    """[3 F] int32 corner numbers (3 * triangle + corner), grouped by vertex, ascending within a vertex."""

    @cached_property
    def neighbours(self) -> Tensor:
        """[F, 3] int32 triangle across edge k, which runs from corner k to corner (k + 1) % 3; -1 on the boundary.

        Edges of more than two triangles count as boundary. Made when it is first asked for: only antialiasing needs it.
        """
        table = edge_table(self.triangles.cpu().numpy(), self.n_vertices).neighbours
        return torch.from_numpy(table).to(self.triangles.device)

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
        triangles, device = triangles.detach(), triangles.device
        least, largest = (int(triangles.min()), int(triangles.max())) if triangles.numel() else (0, -1)
        n_vertices = largest + 1 if n_vertices is None else n_vertices
        if largest >= n_vertices or least < 0:
            raise ValueError(f"triangles use vertices {least} to {largest} of only {n_vertices}")
        # On the CPU whatever the device: once per mesh, and in time linear in its triangles.
        rows = triangles.int().contiguous().cpu()
        offsets, corners = corners_by_vertex(rows.numpy(), n_vertices)
        return cls(*(torch.as_tensor(table).to(device) for table in (rows, offsets, corners)))

    def to(self, device: torch.device | str) -> MeshTopology:
        """The same tables on another device."""
        return replace(
            self,
            triangles=self.triangles.to(device),
            corner_offsets=self.corner_offsets.to(device),
            corners=self.corners.to(device),
        )

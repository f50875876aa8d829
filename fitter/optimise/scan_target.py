"""The scan as the solvers see it: tensors, a hierarchy to ask for closest points and rays, samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fitter.kernels.mesh_queries import MeshPoints, MeshQueries
from fitter.model.morphable import LandmarkEmbedding

COARSE_EDGE_MM = 3.0
"""A mesh with longer edges holds no wave below 6 mm, and longer ones are the deformation map's (texels of 3.5 mm)."""

FINE_EDGE_MM = 1.2
"""M1 subdivided once has edges of about this length: a finer scan holds waves that only a finer mesh can carry."""


@dataclass(frozen=True, eq=False)
class ScanTarget:
    """The part of a scan that a face is fitted to: what is seen from the front of the face, in world mm."""

    vertices: Tensor
    """[V, 3]."""
    triangles: Tensor
    """[F, 3] int64."""
    normals: Tensor
    """[V, 3] unit vertex normals."""
    boundary: Tensor
    """[V] bool: on an edge with one triangle, where the scan ends."""
    points: Tensor
    """[P, 3] samples of equal area in random order: the first k of them are a sparser sample."""
    point_normals: Tensor
    """[P, 3]."""
    landmarks: Tensor
    """[L, 3] points on the scan that belong to the model's landmarks; L may be 0."""
    landmark_indices: Tensor
    """[L] int64 iBUG-68 numbers."""
    landmark_embedding: LandmarkEmbedding
    """[L] where the model has them."""
    world_from_model: Tensor
    """[4, 4] rigid: where the search or the landmarks found the face."""
    alignment: dict[str, Any]
    """How the face was found, for the record: method, score, runner-up, whether that is certain."""
    noise_mm: float
    """Standard deviation of the vertices along the normal."""
    edge_mm: float
    """Median edge length."""
    queries: MeshQueries
    marked: bool = True
    """Whether people set the landmarks on the scan, and no detector in photographs."""
    _face: list[MeshQueries] = field(default_factory=list, repr=False)

    def face_at(self, vertices: Tensor, triangles: Tensor, *, afresh: bool) -> MeshQueries:
        """The fitted face to be asked for closest points; from step to step it moves little and is only refitted.

        Args:
            vertices: [V, 3] mm, where the face lies now.
            triangles: [F, 3].
            afresh: Whether to build it anew: at the start of a stage, so that a run that is taken up there again finds
                the same of two equally close points.
        """
        if afresh or not (self._face and self._face[0].move(vertices)):
            self._face[:] = [MeshQueries(vertices, triangles)]
        return self._face[0]

    @property
    def detailed(self) -> bool:
        """Whether the scan holds anything that only the displacement map can take up."""
        return self.edge_mm <= COARSE_EDGE_MM

    def subdivisions(self, most: int) -> int:
        """How often M1 is subdivided so that M2 carries what the scan holds, `most` times at most."""
        if not self.detailed:
            return 0
        levels = 1
        while levels < most and self.edge_mm <= FINE_EDGE_MM / 2 ** (levels - 1):
            levels += 1
        return min(levels, most)

    def ends_at(self, at: MeshPoints) -> Tensor:
        """[K] bool: answers that lie where the scan ends, which say only that the surface goes on elsewhere."""
        corners = self.boundary[self.triangles[at.triangle]].to(at.weights.dtype)
        return (corners * at.weights).sum(-1) > 0.999

    def normals_at(self, at: MeshPoints) -> Tensor:
        """[K, 3] unit normals at answers."""
        return torch.nn.functional.normalize(self.queries.interpolate(self.normals, at), dim=-1)

"""A generated subject: a fine surface with everything that is known about it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.subjects.furrows import Furrow
from benchmarks.subjects.relief import Relief


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh in millimetres."""

    vertices: np.ndarray
    """[V, 3]."""
    triangles: np.ndarray
    """[F, 3] counter-clockwise from outside."""


@dataclass(frozen=True)
class SurfacePoints:
    """Points that stay on the surface whatever it does: barycentric."""

    vertices: np.ndarray
    """[L, 3] vertex numbers."""
    weights: np.ndarray
    """[L, 3], each row sums to 1."""

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values [L, C] at the points, of vertex values [V, C]."""
        return (values[self.vertices] * self.weights[..., None]).sum(1)


@dataclass(frozen=True, eq=False)
class Subject:
    """A face with known truth, in the model's frame (mm; +y up, +z out of the face) moved by `world_from_model`."""

    name: str
    seed: int
    age: float
    """In [0, 1]: how deep the furrows are, not years."""
    vertices: np.ndarray
    """[V, 3] mm: deformed + detail along the deformed surface's normals."""
    triangles: np.ndarray
    """[F, 3], the whole head, counter-clockwise from outside."""
    normals: np.ndarray
    """[V, 3] unit, of `vertices`."""
    rest: np.ndarray
    """[V, 3] mm without expression and detail, in the model's frame: where functions of position (skin colour) live."""
    base: np.ndarray
    """[V, 3] mm: the model's own shape."""
    deformed: np.ndarray
    """[V, 3] mm: base + what the model cannot span, smooth."""
    deformed_normals: np.ndarray
    """[V, 3] unit, of `deformed`: the direction of the detail."""
    detail: np.ndarray
    """[V] mm along `deformed_normals`, positive outwards: `furrow_detail` + pores, fine lines, moles."""
    furrow_detail: np.ndarray
    """[V] mm, the furrows' share of `detail`."""
    landmark_points: SurfacePoints
    """iBUG-68."""
    rest_landmarks: np.ndarray
    """[68, 3] mm on `rest`."""
    regions: dict[str, np.ndarray]
    """[V] share in [0, 1]: skin, face, eyes, lips, mouth_inside, sockets, nostrils, tongue, ears."""
    hidden_depth: np.ndarray
    """[V] mm along the surface behind the opening of a lid or of the mouth; 0 on the outside."""
    wanted_edge: np.ndarray
    """[V] mm: longest edge there. Finer relief fades out where it grows."""
    furrows: tuple[Furrow, ...]
    """In the rest shape."""
    relief: Relief
    """In the rest shape."""
    expression: str
    world_from_model: np.ndarray
    """[4, 4] rigid, mm."""

    @property
    def landmarks(self) -> np.ndarray:
        """[68, 3] mm, true landmarks on the surface."""
        return self.landmark_points(self.vertices)

    def mask(self, name: str) -> np.ndarray:
        """[V] bool of a region."""
        return self.regions[name] > 0.5

    @property
    def left_out(self) -> np.ndarray:
        """[V] bool: eyes, lids' inside, nostrils, inside of the mouth, ears and neck: what scores should not count."""
        hidden = self.mask("eyes") | self.mask("sockets") | self.mask("mouth_inside") | self.mask("tongue")
        return hidden | self.mask("nostrils") | ~self.mask("face")

    def scan(self, radius_mm: float | None = None, margin_mm: float = 2.5) -> tuple[Mesh, np.ndarray]:
        """What a scanner would see: the outside, with the eyeballs, without inner sheets.

        Args:
            radius_mm: Keep triangles so near to the nose tip; None keeps the head.
            margin_mm: How far the skin goes on behind lids and lips.

        Returns:
            The mesh and the vertex number [K] in the subject of each of its vertices.
        """
        keep = (self.hidden_depth < margin_mm) & (self.regions["tongue"] < 0.5)
        # Eyeballs: only the part that looks out.
        looks_back = self.mask("eyes") & (self.deformed_normals @ self.world_from_model[:3, 2] < 0.3)
        keep &= ~looks_back
        if radius_mm is not None:
            keep &= np.linalg.norm(self.vertices - self.landmarks[30], axis=1) < radius_mm
        return submesh(self.vertices, self.triangles, keep)

    def moved(self, transform: np.ndarray) -> Subject:
        """The subject in another place; `transform` [4, 4] is rigid, mm."""
        turn, shift = transform[:3, :3], transform[:3, 3]
        return replace(
            self,
            vertices=self.vertices @ turn.T + shift,
            normals=self.normals @ turn.T,
            base=self.base @ turn.T + shift,
            deformed=self.deformed @ turn.T + shift,
            deformed_normals=self.deformed_normals @ turn.T,
            world_from_model=transform @ self.world_from_model,
        )


def submesh(vertices: np.ndarray, triangles: np.ndarray, keep: np.ndarray) -> tuple[Mesh, np.ndarray]:
    """The triangles all of whose vertices are kept [V] bool, and the old numbers [K] of the vertices left."""
    of_part = triangles[keep[triangles].all(1)]
    used, renumbered = np.unique(of_part, return_inverse=True)
    return Mesh(vertices[used], renumbered.reshape(-1, 3)), used

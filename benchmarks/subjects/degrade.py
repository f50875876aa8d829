"""From the truth to what a scanner delivers: fewer triangles, noise, any pose."""

from __future__ import annotations

import igl
import numpy as np

from benchmarks.subjects.refine import smooth_normals
from benchmarks.subjects.subject import Mesh, Subject


def decimated(surface: Subject | Mesh, edge_mm: float, radius_mm: float | None = None) -> Mesh:
    """The surface with triangles of about one size.

    Edges are collapsed to their middles, shortest first (libigl's `decimate`), so that the triangles stay even, as a
    scanner's are, instead of following the curvature; what is finer than the edges is lost.

    Args:
        surface: A subject, of which a scanner's view is taken, or a mesh.
        edge_mm: Median edge length of the result; longer edges of the surface stay as they are.
        radius_mm: Keep what is so near to the nose tip (of a subject); None keeps all.
    """
    mesh = surface.scan(radius_mm)[0] if isinstance(surface, Subject) else surface
    wanted_area = edge_mm**2 * np.sqrt(3.0) / 4.0
    corners = mesh.vertices[mesh.triangles]
    areas = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    count = int(np.minimum(areas / wanted_area, 1.0).sum())
    if count >= len(mesh.triangles):
        return mesh
    # Where a cut leaves two fans that share a vertex only, libigl refuses to work: each fan gets its own vertex.
    split, origin = igl.split_nonmanifold(np.asfortranarray(mesh.triangles.astype(np.int64)))
    vertices, triangles, *_ = igl.decimate(
        np.asfortranarray(mesh.vertices[origin]), np.asfortranarray(split.astype(np.int32)), count
    )
    return Mesh(np.ascontiguousarray(vertices), np.ascontiguousarray(triangles).astype(np.int64))


def noisy(mesh: Mesh, sigma_mm: float, seed: int) -> Mesh:
    """The mesh with independent Gaussian noise of `sigma_mm` along its vertex normals."""
    if sigma_mm == 0.0:
        return mesh
    noise = np.random.default_rng([seed, 71]).normal(0.0, sigma_mm, len(mesh.vertices))
    return Mesh(mesh.vertices + noise[:, None] * smooth_normals(mesh.vertices, mesh.triangles), mesh.triangles)


def random_pose(seed: int, shift_mm: float = 300.0) -> np.ndarray:
    """[4, 4] rigid: any rotation with the same probability, then a shift of up to `shift_mm` along each axis."""
    random = np.random.default_rng([seed, 72])
    w, x, y, z = (part := random.normal(size=4)) / np.linalg.norm(part)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = random.uniform(-shift_mm, shift_mm, 3)
    return pose


def posed(mesh: Mesh, seed: int) -> tuple[Mesh, np.ndarray]:
    """The mesh in a random pose, and that pose [4, 4] (`Subject.moved` does the same to a subject)."""
    pose = random_pose(seed)
    return Mesh(mesh.vertices @ pose[:3, :3].T + pose[:3, 3], mesh.triangles), pose

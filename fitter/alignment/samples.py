"""A scan as evenly spread, smoothed points with normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import cKDTree

from fitter.errors import InputError
from fitter.mesh_edges import edge_table
from fitter.mesh_normals import crossed_edges, lengths

AREA_PER_SAMPLE = 5.0
"""mm² per sample that are aimed at: about 2 mm between neighbours."""
SAMPLES = (20_000, 60_000)
"""Fewest and most samples."""
NEIGHBOURS = 24
"""Samples whose normals are averaged, and onto whose plane each is projected: normals of noisy triangles are noise."""
SCATTERED = 0.85
"""Median length of the neighbours' mean normal below which triangles are too noisy for their normals to be averaged."""
SMALLEST = 50.0
"""mm across, below which a scan is no face, or is in another unit."""
VOXEL = 4.0
"""mm, of the field that answers coarse closest-point queries."""
MOST_VOXELS = 1_500_000
REACH = 40.0
"""mm around the scan that the field covers."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Points on a scan."""

    points: np.ndarray
    """[S, 3] mm; in random order, so that any prefix is a coarser sample."""
    normals: np.ndarray
    """[S, 3] unit, outwards if the scan's triangles are oriented so."""
    border: np.ndarray
    """[S] bool: next to an edge that only one triangle has; what lies beyond is unknown."""
    tree: cKDTree
    outwards: bool | None = None
    """Whether the triangles of a closed surface face outwards; None for an open one, which nobody can say of."""

    def flipped(self) -> Samples:
        """The same points with opposite normals."""
        return Samples(self.points, -self.normals, self.border, self.tree)

    def near(self, centre: np.ndarray, radius: float) -> Samples:
        """The samples within `radius` (mm) of a point."""
        kept = np.linalg.norm(self.points - centre, axis=1) < radius
        return Samples(self.points[kept], self.normals[kept], self.border[kept], cKDTree(self.points[kept]))


def sample_scan(vertices: np.ndarray, triangles: np.ndarray, seed: int) -> Samples:
    """Area-uniform, smoothed samples of a scan; they depend on its triangles' areas and order, not on its pose.

    Args:
        vertices: [V, 3] mm.
        triangles: [F, 3].
        seed: Of the random numbers.

    Raises:
        InputError: The scan has no surface, or is far too small.
    """
    crossed = crossed_edges(vertices, triangles)
    double_areas = lengths(crossed)
    total = double_areas.sum() / 2
    if not np.isfinite(total) or total <= 0:
        raise InputError("scan", "no triangle with an area, or coordinates that are no numbers", "a surface")
    middles = _middles(vertices, triangles)
    span = 2 * float(lengths(middles - middles.mean(0)).max())
    if span < SMALLEST:
        raise InputError(
            "scan",
            f"a surface of {span:.3g} mm in all, which is nothing that resembles a face",
            f"at least {SMALLEST:.0f} mm",
            "Check its unit.",
        )
    random = np.random.default_rng(seed)
    count = int(np.clip(total / AREA_PER_SAMPLE, *SAMPLES))
    # Rounded so that the last digits of a turned scan's areas cannot move a sample to another triangle.
    cumulative = np.round(np.cumsum(double_areas) / (2 * total), 9)
    chosen = np.minimum(np.searchsorted(cumulative, random.random(count), side="right"), len(triangles) - 1)
    first, second = random.random((2, count, 1))
    outside = first + second > 1
    first, second = np.where(outside, 1 - first, first), np.where(outside, 1 - second, second)
    a, b, c = (vertices[triangles[chosen, corner]] for corner in range(3))
    points = a + first * (b - a) + second * (c - a)
    normals = crossed[chosen] / np.maximum(double_areas[chosen, None], 1e-300)
    spacing = np.sqrt(total / count)
    border = _near_border(points, vertices, triangles, reach=max(2.5, 1.2 * spacing))
    points, normals = _smoothed(points, normals)
    volume = float(np.einsum("tk,tk->", middles - vertices.mean(0), crossed)) / 6
    return Samples(points, normals, border, cKDTree(points), None if border.any() else volume > 0)


def _middles(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[F, 3] middles of the triangles."""
    return (vertices[triangles[:, 0]] + vertices[triangles[:, 1]] + vertices[triangles[:, 2]]) / 3


def _smoothed(points: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normals of the neighbourhoods, and the points on their neighbourhoods' planes."""
    neighbours = cKDTree(points).query(points, NEIGHBOURS, workers=torch.get_num_threads())[1]
    around = normals[neighbours]
    # The other side of a thin sheet (a lip, the inside of a cheek) is near but is another surface.
    alike = np.einsum("pnk,pk->pn", around, normals) > -0.2
    mean = _unit(np.einsum("pnk,pn->pk", around, alike.astype(np.float64)))
    alike &= np.einsum("pnk,pk->pn", around, mean) > 0
    share = alike / np.maximum(alike.sum(1, keepdims=True), 1)
    middle = np.einsum("pnk,pn->pk", points[neighbours], share)
    summed = np.einsum("pnk,pn->pk", around, share)
    if np.median(np.linalg.norm(summed, axis=1)) < SCATTERED:
        mean = _plane_normals(points[neighbours] - middle[:, None], share, mean)
    return points + ((middle - points) * mean).sum(1, keepdims=True) * mean, mean


def _plane_normals(offsets: np.ndarray, share: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Normals [P, 3] of the planes through weighted neighbours [P, N, 3], on the side of the given normals.

    Where noise is as large as the triangles, places tell more than the triangles' normals.
    """
    spread = (offsets * share[..., None]).swapaxes(1, 2) @ offsets
    plane = np.linalg.eigh(spread)[1][:, :, 0]
    return plane * np.where((plane * side).sum(1, keepdims=True) < 0, -1.0, 1.0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _near_border(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, reach: float) -> np.ndarray:
    """[P] bool: points within `reach` (mm) of an edge with one triangle."""
    single = edge_table(triangles, len(vertices)).uses == 1
    ends = np.stack([triangles[single], np.roll(triangles, -1, axis=1)[single]], -1)
    # Equal corners count as one vertex: a soup of triangles must not look like nothing but border.
    used, places = np.unique(ends, return_inverse=True)
    _, same = np.unique(vertices[used], axis=0, return_inverse=True)
    joined = np.sort(same.reshape(-1)[places.reshape(ends.shape)], axis=1)
    _, first, counts = np.unique(joined, axis=0, return_index=True, return_counts=True)
    ends = ends[first[counts == 1]]
    if len(ends) == 0:
        return np.zeros(len(points), bool)
    start, along = vertices[ends[:, 0]], vertices[ends[:, 1]] - vertices[ends[:, 0]]
    steps = max(2, min(12, int(np.ceil(np.median(np.linalg.norm(along, axis=1)) / reach)) + 1))
    rim = (start[:, None] + along[:, None] * np.linspace(0, 1, steps)[None, :, None]).reshape(-1, 3)
    return np.isfinite(cKDTree(rim).query(points, distance_upper_bound=reach)[0])


@dataclass(frozen=True, eq=False)
class NearestField:
    """Rows of the about-nearest sample on a grid: a closest-point query is one look-up, true to about a voxel."""

    rows: np.ndarray
    """[X, Y, Z] int32 rows of the samples."""
    origin: np.ndarray
    """[3] mm."""
    voxel: float
    """mm."""

    @classmethod
    def of_points(cls, points: np.ndarray) -> NearestField:
        """The field of points [P, 3], mm."""
        low, high = points.min(0) - REACH, points.max(0) + REACH
        voxel = max(VOXEL, float(np.prod(high - low) / MOST_VOXELS) ** (1 / 3))
        shape = np.ceil((high - low) / voxel).astype(int) + 1
        holder = np.full(shape, -1, np.int32)
        cell = ((points - low) / voxel).astype(int)
        holder[tuple(cell.T)] = np.arange(len(points), dtype=np.int32)
        nearest = ndimage.distance_transform_edt(holder < 0, return_distances=False, return_indices=True)
        return cls(holder[tuple(nearest)], low, voxel)

    def __call__(self, points: np.ndarray, reach: float = np.inf) -> np.ndarray:
        """Rows [...] of samples near points [..., 3], whatever the reach; points outside get those of the rim."""
        cell = ((points - self.origin) / self.voxel).astype(int)
        cell = np.clip(cell, 0, np.array(self.rows.shape) - 1)
        return self.rows[cell[..., 0], cell[..., 1], cell[..., 2]]

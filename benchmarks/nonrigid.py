"""Non-rigid ICP as REALY's evaluation runs it: a scan's region is bent onto its closest points on the prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

STIFFNESS, FIRST_STIFFNESS = 50.0, 150.0
KEYPOINT_WEIGHT = 50.0
MOST_STEPS = 11
"""In a stage with keypoints; without keypoints the original has no limit."""
UNLIMITED = 200
SYMMETRIC = {"SymmetricMode": True}
ANCHOR = 1e-6
"""Pull to the identity; it only keeps parts without a single pair from being undetermined."""


@dataclass(frozen=True)
class Keypoints:
    """Points of the region that are to go to known places."""

    rows: np.ndarray
    """[K] vertices of the region."""
    targets: np.ndarray
    """[K, 3]."""


def edges_of(triangles: np.ndarray) -> np.ndarray:
    """[E, 2] each edge once."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0)


class _System:
    """The quadratic of Amberg et al. 2007: an affine map per vertex, stiff along edges."""

    def __init__(self, triangles: np.ndarray, count: int) -> None:
        edges = edges_of(triangles)
        row = np.repeat(np.arange(len(edges)), 2)
        signs = np.tile([1.0, -1.0], len(edges))
        incidence = sparse.csr_matrix((signs, (row, edges.ravel())), shape=(len(edges), count))
        self.laplacian = (incidence.T @ incidence).tocsc()
        self.count = count
        # One ordering of the vertices serves every step: each vertex is a block of four unknowns.
        shifted = self.laplacian + sparse.identity(count, format="csc")
        order = np.argsort(splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=SYMMETRIC).perm_c)
        self.order = (4 * order[:, None] + np.arange(4)).ravel()

    def solve(self, vertices: np.ndarray, stiffness: np.ndarray, terms: list[tuple[np.ndarray, np.ndarray]]):
        """Affine maps [4N, 3] that minimise stiffness and weighted distances of the moved vertices to targets.

        Args:
            vertices: [N, 3] where they are now; the maps start from here, each step anew.
            stiffness: [4] along the rows of a map, alpha included.
            terms: (weights [N], targets [N, 3]).
        """
        homogeneous = np.concatenate([vertices, np.ones((self.count, 1))], 1)
        weight = sum(weights**2 for weights, _ in terms)
        pull = sum(weights[:, None] ** 2 * targets for weights, targets in terms)
        blocks = weight[:, None, None] * homogeneous[:, :, None] * homogeneous[:, None, :]
        data = sparse.bsr_matrix(
            (blocks, np.arange(self.count), np.arange(self.count + 1)), shape=(4 * self.count, 4 * self.count)
        )
        anchor = ANCHOR**2 * sparse.identity(4 * self.count)
        matrix = sparse.kron(self.laplacian, np.diag(stiffness**2)) + data + anchor
        identity = np.tile(np.eye(4)[:, :3], (self.count, 1))
        right = (homogeneous[:, :, None] * pull[:, None, :]).reshape(-1, 3) + ANCHOR**2 * identity
        matrix = matrix.tocsr()[self.order][:, self.order].tocsc()
        maps = np.empty_like(right)
        # The matrix is positive definite: without pivoting the ordering, and with it the sparsity, stays.
        factor = splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=0.0, options=SYMMETRIC)
        maps[self.order] = factor.solve(right[self.order])
        moved = np.einsum("ni,nij->nj", homogeneous, maps.reshape(self.count, 4, 3))
        return maps, moved


def bend_region(
    vertices: np.ndarray, triangles: np.ndarray, targets: np.ndarray, keypoints: Keypoints | None
) -> np.ndarray:
    """REALY's bICP deformation (Chai et al. 2022; REALY:utils/NICP.py, eval.py): the region's vertices, bent.

    With keypoints: one step on keypoints alone (stiffness 150, the maps' rows weighted 2, 2, 3, 2), then three stages
    with stiffness 50, 30.3 and 18.4 on the nearest of the target points, keypoints fading by exp(-0.9) each step.
    Without: the three stages. Pairs further apart than twice the mean, or than 1 unit if that is more, do not count.

    Args:
        vertices: [N, 3] of the scan's region, in REALY's unit (about 9 mm).
        triangles: [F, 3].
        targets: [N, 3] closest points on the prediction; only these points are aimed at, not the surface.
        keypoints: None for the cheek.

    Returns:
        [N, 3].
    """
    system, tree, count = _System(triangles, len(vertices)), cKDTree(targets), len(vertices)
    stages = [(STIFFNESS * np.exp(-0.5 * k), 0.5**k, UNLIMITED) for k in range(3)]
    weight = np.zeros(count)
    goals = np.zeros((count, 3))
    moved, steps = vertices, 0
    before, maps = np.zeros((4 * count, 3)), np.ones((4 * count, 3))
    if keypoints is not None:
        stages = [(alpha, limit, MOST_STEPS) for alpha, limit, _ in stages]
        weight[keypoints.rows] = 1.0
        goals[keypoints.rows] = keypoints.targets
        stiffness = FIRST_STIFFNESS * np.array([2.0, 2.0, 3.0, 2.0])
        before = maps
        maps, moved = system.solve(moved, stiffness, [(KEYPOINT_WEIGHT * weight, goals)])
        steps = 1
    for alpha, limit, most in stages:
        taken = 0
        while np.linalg.norm(maps - before) > limit and taken < most:
            before = maps
            distance, row = tree.query(moved)
            counted = (distance < max(2 * distance.mean(), 1.0)).astype(np.float64)
            terms = [(counted, targets[row])]
            if keypoints is not None:
                terms.append((KEYPOINT_WEIGHT * np.exp(-0.9 * steps) / 10 * weight, goals))
            maps, moved = system.solve(moved, np.full(4, alpha), terms)
            taken, steps = taken + 1, steps + 1
    return moved

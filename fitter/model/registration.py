"""A template model laid onto another head: pose and identity by Gauss-Newton, then a smooth free deformation.

The other head is in our frame and in millimetres, so the pose is nearly known; its topology is arbitrary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu
from scipy.spatial.transform import Rotation

from fitter.mesh_edges import boundary_vertices
from fitter.mesh_normals import vertex_normals
from fitter.model.morphable import LandmarkEmbedding, MorphableModel

NOSE_TIP = 30
REACH_MM = 135.0
"""Template vertices up to this far from the nose tip take part: the face to the ears, not the hair or neck."""
MAX_SAMPLES = 4000
POSE_STEPS, SHAPE_STEPS = 8, 16
STIFFNESS = (30.0, 30.0, 10.0, 10.0, 3.0, 3.0, 1.0, 1.0, 0.5)
"""Weight of a squared difference between neighbours against a squared distance, per step of the free deformation."""
ANCHOR_SIGMA_MM = 2.0
HIDDEN = ("sockets", "mouth_inside", "tongue")


@dataclass(frozen=True)
class Closest:
    """Closest points on a surface."""

    points: np.ndarray
    """[P, 3] mm."""
    distances: np.ndarray
    """[P] mm."""
    vertices: np.ndarray
    """[P, 3] vertex numbers of the triangles they lie in."""
    weights: np.ndarray
    """[P, 3] barycentric, rows sum to 1."""


@dataclass(frozen=True, eq=False)
class SearchSurface:
    """A triangle mesh with a search tree (libigl's AABB tree; exact)."""

    vertices: np.ndarray
    triangles: np.ndarray
    _tree: object = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import igl  # late: reading a cached model does not need it

        object.__setattr__(self, "vertices", np.ascontiguousarray(self.vertices, np.float64))
        object.__setattr__(self, "triangles", np.ascontiguousarray(self.triangles, np.int64))
        tree = igl.AABB()
        tree.init(self.vertices, self.triangles)
        object.__setattr__(self, "_tree", tree)

    def closest(self, points: np.ndarray) -> Closest:
        """Closest surface points of `points` [P, 3], mm."""
        points = np.ascontiguousarray(points, np.float64)
        squared, rows, found = self._tree.squared_distance(self.vertices, self.triangles, points)
        corners = self.triangles[rows.ravel()]
        return Closest(found, np.sqrt(np.maximum(squared, 0.0)), corners, _barycentric(found, self.vertices[corners]))


def _barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Weights [P, 3] of points in their triangles [P, 3, 3]; an empty triangle gives its first corner."""
    edges = corners[:, 1:] - corners[:, :1]
    gram = edges @ edges.transpose(0, 2, 1)
    right = (edges @ (points - corners[:, 0])[..., None])[..., 0]
    determinant = gram[:, 0, 0] * gram[:, 1, 1] - gram[:, 0, 1] ** 2
    good = determinant > 1e-12 * np.maximum(gram[:, 0, 0] * gram[:, 1, 1], 1e-30)
    divisor = np.where(good, determinant, 1.0)
    v = (gram[:, 1, 1] * right[:, 0] - gram[:, 0, 1] * right[:, 1]) / divisor * good
    w = (gram[:, 0, 0] * right[:, 1] - gram[:, 0, 1] * right[:, 0]) / divisor * good
    weights = np.stack([1 - v - w, v, w], 1).clip(0.0, 1.0)
    return weights / weights.sum(1, keepdims=True)


def place(embedding: LandmarkEmbedding, vertices: np.ndarray) -> np.ndarray:
    """Positions [L, 3] of embedded points on numpy vertices."""
    corners, weights = embedding.vertices.numpy(), embedding.weights.double().numpy()
    return (vertices[corners] * weights[..., None]).sum(1)


@dataclass(frozen=True)
class _Target:
    """The head to reach."""

    surface: SearchSurface
    normals: np.ndarray
    rim: np.ndarray
    """Boolean [V]: vertices on an open border. What is closest to a border has no partner on the surface."""
    anchor_rows: np.ndarray
    """[K] iBUG numbers of known landmarks."""
    anchors: np.ndarray
    """[K, 3] mm."""

    def match(self, points: np.ndarray, normals: np.ndarray, gate: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Closest points, their normals, and weights in {0, 1}: near enough and facing alike."""
        at = self.surface.closest(points)
        facing = (self.normals[at.vertices] * at.weights[..., None]).sum(1)
        facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-9)
        on_rim = (self.rim[at.vertices] | (at.weights < 1e-6)).all(1)
        good = (at.distances < gate) & ((facing * normals).sum(1) > 0.5) & ~on_rim
        return at.points, facing, good.astype(float)


@dataclass
class _Pose:
    """Similarity and identity: p = scale · rotation · (mean + basis · identity) + translation."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray
    identity: np.ndarray

    def __call__(self, mean: np.ndarray, basis: np.ndarray) -> np.ndarray:
        return self.scale * (mean + basis @ self.identity) @ self.rotation.T + self.translation


def _similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Least-squares similarity between paired points (Umeyama 1991)."""
    mu_source, mu_target = source.mean(0), target.mean(0)
    centred = source - mu_source
    u, singular, vt = np.linalg.svd((target - mu_target).T @ centred)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / (centred**2).sum())
    return scale, rotation, mu_target - scale * rotation @ mu_source


def _initial_pose(points: np.ndarray, target: _Target, modes: int) -> _Pose:
    """From four known landmarks or more, else nose tip on foremost point; `points` are the 68 of the mean."""
    if len(target.anchor_rows) >= 4:
        return _Pose(*_similarity(points[target.anchor_rows], target.anchors), np.zeros(modes))
    used = target.surface.vertices[np.unique(target.surface.triangles)]
    foremost = used[used[:, 2].argmax()]
    return _Pose(1.0, np.eye(3), foremost - points[NOSE_TIP], np.zeros(modes))


def _pose_rows(pose: _Pose, mean: np.ndarray, basis: np.ndarray, free_identity: bool) -> tuple[np.ndarray, np.ndarray]:
    """Points [P, 3] and their derivatives [P, 3, 7 + I] by rotation vector, translation, log scale, identity."""
    points = pose(mean, basis)
    arm = points - pose.translation
    rows = np.zeros((len(points), 3, 7 + basis.shape[-1]))
    for axis in range(3):
        rows[:, :, axis] = np.cross(np.eye(3)[axis], arm)
        rows[:, axis, 3 + axis] = 1.0
    rows[:, :, 6] = arm
    if free_identity:
        rows[:, :, 7:] = pose.scale * np.einsum("ij,pjk->pik", pose.rotation, basis)
    return points, rows


def _gauss_newton_step(
    pose: _Pose,
    samples: tuple[np.ndarray, ...],
    known: tuple[np.ndarray, ...],
    target: _Target,
    sigma: float,
    free: bool,
) -> _Pose:
    """One step: distances along the normals (and a tenth of them in full) to the surface, known landmarks, priors."""
    mean, basis, normals = samples
    points, rows = _pose_rows(pose, mean, basis, free)
    at, facing, weight = target.match(points, normals @ pose.rotation.T, 8.0 * sigma)
    offset = points - at
    distance = (offset * facing).sum(1)
    weight = weight / (1.0 + (distance / (2.0 * sigma)) ** 2) ** 2
    # As if 400 independent points were seen, whatever the mesh's density.
    weight *= 400.0 / max(len(points), 1) / sigma**2
    along = np.einsum("pi,pik->pk", facing, rows)
    system = along.T @ (along * weight[:, None])
    right = along.T @ (weight * distance)
    flat, in_full = rows.reshape(-1, rows.shape[-1]), np.repeat(0.1 * weight, 3)
    system += flat.T @ (flat * in_full[:, None])
    right += flat.T @ (in_full * offset.ravel())
    if len(target.anchors):
        points, rows = _pose_rows(pose, *known, free)
        flat = rows.reshape(-1, rows.shape[-1]) / ANCHOR_SIGMA_MM
        system += flat.T @ flat
        right += flat.T @ ((points - target.anchors).ravel() / ANCHOR_SIGMA_MM)
    prior = np.concatenate([np.full(6, 1e-6), [100.0], np.ones(len(pose.identity))])
    right += prior * np.concatenate([np.zeros(6), [np.log(pose.scale)], pose.identity])
    step = -np.linalg.solve(system + np.diag(prior), right)
    turn = Rotation.from_rotvec(step[:3]).as_matrix()
    return _Pose(
        pose.scale * np.exp(step[6]), turn @ pose.rotation, pose.translation + step[3:6], pose.identity + step[7:]
    )


def _free_deformation(
    start: np.ndarray, triangles: np.ndarray, active: np.ndarray, embedding: LandmarkEmbedding, target: _Target
) -> np.ndarray:
    """Vertices pulled to their closest points, neighbours held together ever less (after Amberg et al. 2007)."""
    count = len(start)
    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    neighbours = sp.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count)).tocsr()
    neighbours = (neighbours + neighbours.T > 0).astype(float)
    laplacian = sp.diags(np.asarray(neighbours.sum(1)).ravel()) - neighbours
    corners = embedding.vertices.numpy()[target.anchor_rows]
    values = embedding.weights.double().numpy()[target.anchor_rows]
    rows = np.repeat(np.arange(len(corners)), 3)
    pick = sp.csr_matrix((values.ravel(), (rows, corners.ravel())), shape=(len(corners), count))
    anchor_pull = 25.0 * pick.T @ (target.anchors - pick @ start) if len(corners) else np.zeros((count, 3))
    anchor_matrix = 25.0 * pick.T @ pick if len(corners) else sp.csr_matrix((count, count))
    points = start
    for stiffness in STIFFNESS:
        normals = vertex_normals(points, triangles)
        at, _, weight = target.match(points, normals, 12.0)
        weight *= active / (1.0 + (((points - at) ** 2).sum(1) / 3.0**2)) ** 2
        # The small last term keeps parts without any match (the tongue) where identity has put them.
        system = stiffness * laplacian + sp.diags(weight + 1e-4) + anchor_matrix
        right = weight[:, None] * (at - start) + anchor_pull
        points = start + _solve(system.tocsc(), right)
    return points


def _solve(system: sp.csc_matrix, right: np.ndarray) -> np.ndarray:
    """Solution [N, 3] of a symmetric positive system."""
    # Pivoting would spoil the symmetric ordering: without it the factorisation is many times as fast.
    options = {"SymmetricMode": True}
    return splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options).solve(right)


@dataclass(frozen=True)
class FittedTemplate:
    """A template laid onto a head."""

    vertices: np.ndarray
    """[T, 3] mm, float64."""
    misfit: float
    """Median distance (mm) from the template's face to the head before the free deformation."""


def fit_template(
    template: MorphableModel, vertices: np.ndarray, triangles: np.ndarray, anchors: dict[int, np.ndarray]
) -> FittedTemplate:
    """Lay the template onto a head.

    Args:
        template: Model whose mean and identity are used (CPU).
        vertices: [V, 3] mm, in our frame up to a moderate turn; the origin may be anywhere.
        triangles: [F, 3] counter-clockwise from outside.
        anchors: Known iBUG landmarks of the head, mm. The jaw line's are ignored, as it slides with the pose.

    Returns:
        The template on the head, and how well its pose and identity alone had reached it.
    """
    mean = template.mean.double().numpy()
    basis = template.identity_basis.double().numpy()
    own_triangles = template.triangles.numpy()
    points = place(template.landmarks, mean)
    rows = np.array([row for row in sorted(anchors) if row > 16 or row == 8], np.int64)
    known = np.array([anchors[row] for row in rows]).reshape(-1, 3)
    surface = SearchSurface(vertices, triangles)
    target = _Target(
        surface, vertex_normals(vertices, triangles), boundary_vertices(triangles, len(vertices)), rows, known
    )

    hidden = np.zeros(len(mean), bool)
    for name in HIDDEN:
        if name in template.regions:
            hidden |= template.regions[name].numpy()
    active = (np.linalg.norm(mean - points[NOSE_TIP], axis=1) < REACH_MM) & ~hidden
    chosen = np.flatnonzero(active)
    chosen = chosen[:: max(1, len(chosen) // MAX_SAMPLES)]
    samples = (mean[chosen], basis[chosen], vertex_normals(mean, own_triangles)[chosen])
    corners, weights = template.landmarks.vertices.numpy()[rows], template.landmarks.weights.double().numpy()[rows]
    landmark_rows = (points[rows], (basis[corners] * weights[..., None, None]).sum(1))

    pose = _initial_pose(points, target, basis.shape[-1])
    for step in range(POSE_STEPS + SHAPE_STEPS):
        sigma = 6.0 * (1.5 / 6.0) ** (step / (POSE_STEPS + SHAPE_STEPS - 1))
        pose = _gauss_newton_step(pose, samples, landmark_rows, target, sigma, step >= POSE_STEPS)
    misfit = float(np.median(surface.closest(pose(*samples[:2])).distances))
    laid = _free_deformation(pose(mean, basis), own_triangles, active, template.landmarks, target)
    return FittedTemplate(laid, misfit)

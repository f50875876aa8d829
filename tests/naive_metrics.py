"""Second implementations for tests of metrics and protocols: slow, plain, and written without the first ones."""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from tests.factories import area_weighted_normals


def closest_points(points, vertices, triangles):
    """Closest point [P, 3] and its triangle [P] by trying every triangle: its plane, then its three edges."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    normal = np.cross(b - a, c - a)
    area = np.maximum((normal**2).sum(1), 1e-30)
    best, which = [], []
    for block in np.array_split(points, max(1, len(points) * len(a) // 40000)):
        point = block[:, None]
        foot = point - (((point - a) * normal).sum(-1) / area)[..., None] * normal
        inside = np.ones(foot.shape[:2], bool)
        candidates = []
        for start, end in ((a, b), (b, c), (c, a)):
            edge = end - start
            inside &= (np.cross(edge, foot - start) * normal).sum(-1) >= 0
            share = ((point - start) * edge).sum(-1) / np.maximum((edge**2).sum(-1), 1e-30)
            candidates.append(start + np.clip(share, 0, 1)[..., None] * edge)
        candidates.append(np.where(inside[..., None], foot, np.inf))
        stacked = np.stack(candidates, 1)
        distance = np.linalg.norm(stacked - block[:, None, None], axis=-1).reshape(len(block), -1)
        row, (kind, triangle) = np.arange(len(block)), np.unravel_index(distance.argmin(1), stacked.shape[1:3])
        best.append(stacked[row, kind, triangle])
        which.append(triangle)
    return np.concatenate(best), np.concatenate(which)


def distances(points, vertices, triangles):
    """Distance [P] of points to a mesh."""
    return np.linalg.norm(points - closest_points(points, vertices, triangles)[0], axis=1)


def plane_distances(points, vertices, triangles):
    """Distance [P] of points to the tangent plane at their closest point; its normal is interpolated."""
    closest, which = closest_points(points, vertices, triangles)
    normals = area_weighted_normals(vertices, triangles)
    result = []
    for point, foot, face in zip(points, closest, triangles[which], strict=True):
        weights = np.linalg.lstsq(np.stack([vertices[corner] for corner in face], 1), foot, rcond=None)[0]
        normal = sum(weight * normals[corner] for weight, corner in zip(weights, face, strict=True))
        result.append(abs((point - foot) @ normal) / np.linalg.norm(normal))
    return np.array(result)


def horn(source, target, scale):
    """Scale, rotation and translation of `source` onto `target` by Horn's quaternions."""
    a, b = source - source.mean(0), target - target.mean(0)
    m = a.T @ b
    trace = np.trace(m)
    delta = np.array([m[1, 2] - m[2, 1], m[2, 0] - m[0, 2], m[0, 1] - m[1, 0]])
    n = np.zeros((4, 4))
    n[0, 0], n[0, 1:], n[1:, 0] = trace, delta, delta
    n[1:, 1:] = m + m.T - trace * np.eye(3)
    w, x, y, z = np.linalg.eigh(n)[1][:, -1]
    rotation = Rotation.from_quat([x, y, z, w]).as_matrix()
    factor = (b * (a @ rotation.T)).sum() / (a**2).sum() if scale else 1.0
    return factor, rotation, target.mean(0) - factor * rotation @ source.mean(0)


def moved(vertices, pose):
    """Vertices under (scale, rotation, translation)."""
    factor, rotation, shift = pose
    return factor * vertices @ rotation.T + shift


def minimise_distances(points, vertices, triangles, start, scale):
    """(scale, rotation, translation) with the least squared distances, by scipy's solver and its finite differences."""
    factor, rotation, shift = start
    middle = points.mean(0)

    def pose(x):
        turn = Rotation.from_rotvec(x[:3]).as_matrix()
        growth = np.exp(x[6]) if scale else 1.0
        return growth * factor, turn @ rotation, growth * turn @ (shift - middle) + middle + x[3:6]

    def residuals(x):
        return distances(points, moved(vertices, pose(x)), triangles)

    found = least_squares(residuals, np.zeros(7 if scale else 6), xtol=1e-7, ftol=1e-9, gtol=1e-9, x_scale="jac")
    return pose(found.x)


def alternating(points, vertices, triangles, partners, improvement):
    """GANFit's loop: similarity by norms, closest points, until the mean distance hardly improves."""
    mean = np.mean([np.linalg.norm(p - q) for p, q in zip(points, partners, strict=True)])
    while True:
        _, rotation, _ = horn(points, partners, False)
        spread = [np.sqrt(((x - x.mean(0)) ** 2).sum()) for x in (points, partners)]
        factor = spread[1] / spread[0]
        pose = factor, rotation, partners.mean(0) - factor * rotation @ points.mean(0)
        partners = closest_points(moved(points, pose), vertices, triangles)[0]
        before, mean = mean, np.linalg.norm(moved(points, pose) - partners, axis=1).mean()
        if before - mean <= improvement:
            return pose

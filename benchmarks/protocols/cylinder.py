"""FaceScape's cylinder maps: radii of a face seen from its axis, as meshes, and depth maps for its one free number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.compare.surface import Surface

SIDE = 256
HALF_HEIGHT = 150.0
"""mm above and below the head's centre."""
STEP = 2 * np.pi / 255
"""Radians between columns; the last column looks where the first does, as in the original."""
JUMP = 15.0
"""mm between neighbours beyond which there is no surface."""


@dataclass(frozen=True)
class CylinderMap:
    """What rays from the axis hit last."""

    radius: np.ndarray
    """[256, 256] mm; 0 where nothing was hit. Rows from +150 to -150 mm; column j looks at angle j · STEP from -z."""
    triangle: np.ndarray
    """[256, 256] the triangle hit; -1 where none was."""


def cylinder_map(vertices: np.ndarray, triangles: np.ndarray) -> CylinderMap:
    """Cast horizontal rays from the y axis and keep the outermost hit.

    After facescape:benchmark/code/evaluator.py (map_cyl), which keeps the hit that its ray tracer happens to name
    last; the outermost is what is seen from outside.

    Args:
        vertices: [V, 3] mm, head centre at the origin, y up, face towards +z.
        triangles: [F, 3].
    """
    corners = vertices[triangles]
    angle = np.mod(np.arctan2(-corners[..., 0], -corners[..., 2]), 2 * np.pi)
    # A triangle across the seam at angle 0, or around the axis, spans more than half a turn: it is tried everywhere.
    low, high = angle.min(1), angle.max(1)
    across = high - low > np.pi
    first = np.where(across, 0, np.floor(low / STEP)).astype(int)
    last = np.where(across, SIDE - 1, np.minimum(np.ceil(high / STEP), SIDE - 1)).astype(int)
    row_of = (HALF_HEIGHT - corners[..., 1]) * (SIDE - 1) / (2 * HALF_HEIGHT)
    top = np.clip(np.ceil(row_of.min(1) - 1e-9), 0, SIDE).astype(int)
    bottom = np.clip(np.floor(row_of.max(1) + 1e-9), -1, SIDE - 1).astype(int)
    wide, tall = last - first + 1, np.maximum(bottom - top + 1, 0)
    count = wide * tall
    owner = np.repeat(np.arange(len(triangles)), count)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row, column = top[owner] + place // wide[owner], first[owner] + place % wide[owner]
    reach = _hits(corners[owner], row, column)
    hit = reach > 0
    row, column, owner, reach = row[hit], column[hit], owner[hit], reach[hit]
    order = np.argsort(reach, kind="stable")
    radius, triangle = np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), -1)
    # Written from the inside out: the last one stays.
    radius[row[order], column[order]] = reach[order]
    triangle[row[order], column[order]] = owner[order]
    return CylinderMap(radius, triangle)


def _hits(corners: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Distance [P] from the axis at which each ray meets its triangle [P, 3, 3]; 0 where it misses."""
    y = HALF_HEIGHT - row * (2 * HALF_HEIGHT / (SIDE - 1))
    phi = column * STEP
    direction = np.stack([-np.sin(phi), np.zeros_like(phi), -np.cos(phi)], 1)
    origin = np.stack([np.zeros_like(y), y, np.zeros_like(y)], 1)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    cross = np.cross(direction, second)
    determinant = (first * cross).sum(1)
    flat = np.abs(determinant) < 1e-12
    inverse = 1.0 / np.where(flat, 1.0, determinant)
    offset = origin - corners[:, 0]
    u = (offset * cross).sum(1) * inverse
    other = np.cross(offset, first)
    v = (direction * other).sum(1) * inverse
    reach = (second * other).sum(1) * inverse
    inside = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1 + 1e-9) & ~flat
    return np.where(inside & (reach > 0), reach, 0.0)


def cylinder_mesh(radius: np.ndarray) -> Surface:
    """The surface of a cylinder map; quads with a jump of 15 mm or more, or without a radius, are left out."""
    row, column = np.mgrid[:SIDE, :SIDE]
    phi, y = column * STEP, HALF_HEIGHT - row * (2 * HALF_HEIGHT / (SIDE - 1))
    vertices = np.stack([-radius * np.sin(phi), y, -radius * np.cos(phi)], -1).reshape(-1, 3)
    jumps = [radius - np.roll(radius, shift, axis) for shift, axis in ((-1, 0), (-1, 1), ((-1, -1), (0, 1)))]
    valid = (np.abs(jumps).max(0) < JUMP) & (radius != 0)
    valid[-1], valid[:, -1] = False, False
    corner = (row * SIDE + column)[valid]
    triangles = np.concatenate(
        [
            np.stack([corner, corner + SIDE, corner + 1], 1),
            np.stack([corner + SIDE + 1, corner + 1, corner + SIDE], 1),
        ]
    )
    used, triangles = np.unique(triangles, return_inverse=True)
    return Surface(vertices[used], triangles.reshape(-1, 3))


def depth_map(clip: np.ndarray, depth: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """[256, 256] depth at pixel centres, NaN where nothing is seen.

    Args:
        clip: [V, 4] clip coordinates (docs/conventions.md).
        depth: [V] what is interpolated.
        triangles: [F, 3].
    """
    import torch

    from fitter.kernels.topology import MeshTopology
    from fitter.render.operations import interpolate, rasterize

    topology = MeshTopology.from_triangles(torch.from_numpy(np.ascontiguousarray(triangles, np.int64)), len(clip))
    fragments = rasterize(torch.from_numpy(clip.astype(np.float32))[None], topology, (SIDE, SIDE))
    # Float32 keeps a tenth of a micrometre only near zero.
    middle = float(depth.mean())
    values = torch.from_numpy((depth - middle).astype(np.float32))[None, :, None]
    image = interpolate(values, fragments, topology)[0, ..., 0].numpy().astype(np.float64) + middle
    return np.where(fragments.mask[0].numpy(), image, np.nan)

"""One step of ICP for many poses at once, with symmetric normals and soft weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fitter.alignment.poses import Poses
from fitter.alignment.samples import Samples
from fitter.alignment.template import FacePoints

Lookup = Callable[[np.ndarray, float], np.ndarray]
"""Points [..., 3] and a reach (mm) -> rows [...] of their (about) closest samples; any row where none is in reach."""
LARGEST_TURN = 0.4
"""Radians per step."""


@dataclass(frozen=True)
class Stage:
    """One stage of a search, coarse to fine."""

    points: int
    """Template points: the first of the farthest-point order."""
    steps: int
    gates: tuple[float, float]
    """mm at the first and the last step: pairs farther apart do not count."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Template points under each pose and their partners on the scan."""

    moved: np.ndarray
    """[B, N, 3] mm."""
    offsets: np.ndarray
    """[B, N, 3] mm, from the partner to the point."""
    directions: np.ndarray
    """[B, N, 3] unit: between both normals."""
    residuals: np.ndarray
    """[B, N] mm along `directions`."""
    weights: np.ndarray
    """[B, N] >= 0."""


def tree_lookup(samples: Samples) -> Lookup:
    """Exact closest samples; a short reach spares the tree most of its walk."""

    def lookup(points: np.ndarray, reach: float) -> np.ndarray:
        rows = samples.tree.query(points, distance_upper_bound=reach, workers=torch.get_num_threads())[1]
        return np.where(rows < len(samples.points), rows, 0)

    return lookup


def match(
    points: np.ndarray, normals: np.ndarray, samples: Samples, lookup: Lookup, poses: Poses, gate: float
) -> Pairs:
    """Partners and weights of template points under poses.

    Args:
        points: [N, 3] or [B, N, 3] mm, in the template's frame.
        normals: As `points`; unit.
        samples: The scan.
        lookup: Finds the partners.
        poses: B poses.
        gate: mm beyond which a pair does not count.
    """
    moved, turned = poses.points(points), poses.directions(normals)
    rows = lookup(moved, gate)
    partners = samples.normals[rows]
    offsets = moved - samples.points[rows]
    summed = turned + partners
    directions = summed / np.maximum(np.linalg.norm(summed, axis=-1, keepdims=True), 1e-6)
    residuals = (offsets * directions).sum(-1)
    cosine = np.clip((turned * partners).sum(-1), 0.0, 1.0)
    squared = (offsets**2).sum(-1)
    # Falls to zero at the gate instead of breaking off, so that a step ends where the last one did.
    inside = np.clip(1.0 - squared / gate**2, 0.0, 1.0)
    weights = cosine * inside / (1.0 + (residuals / (0.3 * gate)) ** 2)
    weights = np.where(samples.border[rows], 0.0, weights)
    return Pairs(moved, offsets, directions, residuals, weights)


def step(points: np.ndarray, normals: np.ndarray, samples: Samples, lookup: Lookup, poses: Poses, gate: float):
    """One damped Gauss-Newton step of every pose on its weighted symmetric point-to-plane distances.

    After Rusinkiewicz 2019 (A symmetric objective function for ICP): the plane between two surfaces is across the sum
    of their normals, which lets points slide along curved surfaces.

    Returns:
        The new poses, and how far (mm, [B]) each moved at most.
    """
    pairs = match(points, normals, samples, lookup, poses, gate)
    centres = pairs.moved.mean(1)
    arms = pairs.moved - centres[:, None]
    reach = np.sqrt((arms**2).sum(-1).mean(1)).clip(1e-6)
    jacobian = np.concatenate([np.cross(arms, pairs.directions) / reach[:, None, None], pairs.directions], -1)
    weighted = jacobian * pairs.weights[..., None]
    system = weighted.swapaxes(1, 2) @ jacobian
    gradient = (weighted * pairs.residuals[..., None]).sum(1)
    # A sphere or a plane leaves directions open; the damping leaves those alone.
    trace = np.trace(system, axis1=1, axis2=2)
    system += (1e-4 * trace / 6 + 1e-6)[:, None, None] * np.eye(6)
    update = -np.linalg.solve(system, gradient[..., None])[..., 0]
    turns, shifts = update[:, :3] / reach[:, None], update[:, 3:]
    angle = np.linalg.norm(turns, axis=1, keepdims=True)
    turns = turns * np.minimum(1.0, LARGEST_TURN / np.maximum(angle, 1e-12))
    length = np.linalg.norm(shifts, axis=1, keepdims=True)
    shifts = shifts * np.minimum(1.0, gate / np.maximum(length, 1e-12))
    return poses.moved(centres, turns, shifts), np.abs(update).max(1)


def run_stage(face: FacePoints, samples: Samples, lookup: Lookup, poses: Poses, stage: Stage) -> Poses:
    """All steps of one stage, the gate closing evenly."""
    points, normals = face.points[: stage.points], face.normals[: stage.points]
    for gate in np.linspace(*stage.gates, stage.steps):
        poses, _ = step(points, normals, samples, lookup, poses, gate)
    return poses

"""ICP that also lets a few identity modes move: the pose is the subject's own then, and what is no face stays apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fitter.alignment.icp import LARGEST_TURN, Pairs, match, tree_lookup
from fitter.alignment.poses import Poses
from fitter.alignment.samples import Samples
from fitter.alignment.template import Template

PRIOR = 0.03
"""mm² that one mode at one standard deviation costs, against the mean squared distance."""


@dataclass(frozen=True)
class Refinement:
    """How poses are refined."""

    points: int
    """Template points."""
    steps: int
    """Most steps."""
    gates: tuple[float, float]
    """mm; closes over the first two thirds of the steps, then stays."""
    tolerance: float = 0.0
    """mm that a pose may still move in the last step; 0 runs all steps."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Refined poses and the shapes that the modes took."""

    poses: Poses
    """Rigid poses of the mean face: where it lies best on the adjusted one."""
    shapes: np.ndarray
    """[B, N, 3] mm: the adjusted template, in the template's frame."""
    fitted: Poses
    """The poses of `shapes`."""
    coefficients: np.ndarray
    """[B, K] standard deviations."""
    pairs: Pairs
    """Partners of `shapes` after the last step."""
    moved: float
    """mm that the last step moved at most."""


def refine(template: Template, samples: Samples, poses: Poses, how: Refinement) -> Refined:
    """Refine poses jointly with the strongest identity modes.

    Gauss-Newton on the weighted symmetric point-to-plane distances of `icp.match`, with a ridge on the modes.

    Args:
        template: The face.
        samples: The scan.
        poses: B poses that are about right.
        how: Points, steps and gates.
    """
    count = how.points
    mean, normals = template.spread.points[:count], template.spread.normals[:count]
    modes = template.modes[:count]
    coefficients = np.zeros((len(poses), modes.shape[2]))
    lookup = tree_lookup(samples)
    closing = max(1, (2 * how.steps) // 3)
    for number in range(how.steps):
        gate = how.gates[0] + (how.gates[1] - how.gates[0]) * min(1.0, number / closing)
        shapes = mean + np.einsum("nkm,bm->bnk", modes, coefficients)
        pairs = match(shapes, normals, samples, lookup, poses, gate)
        poses, coefficients, moved = _joint_step(pairs, modes, poses, coefficients, gate)
        if moved < how.tolerance and number >= closing:
            break
    shapes = mean + np.einsum("nkm,bm->bnk", modes, coefficients)
    pairs = match(shapes, normals, samples, lookup, poses, how.gates[1])
    return Refined(_of_the_mean(mean, shapes, poses), shapes, poses, coefficients, pairs, moved)


def _joint_step(pairs: Pairs, modes: np.ndarray, poses: Poses, coefficients: np.ndarray, gate: float):
    """One step of pose and modes: the new ones, and the largest movement in mm."""
    centres = pairs.moved.mean(1)
    arms = pairs.moved - centres[:, None]
    reach = np.sqrt((arms**2).sum(-1).mean(1))
    turned_back = pairs.directions @ poses.rotations
    columns = [
        np.cross(arms, pairs.directions) / reach[:, None, None],
        pairs.directions,
        np.einsum("bnk,nkm->bnm", turned_back, modes),
    ]
    jacobian = np.concatenate(columns, -1)
    weighted = jacobian * pairs.weights[..., None]
    system = weighted.swapaxes(1, 2) @ jacobian
    gradient = (weighted * pairs.residuals[..., None]).sum(1)
    size = system.shape[-1]
    ridge = np.zeros((len(poses), size))
    ridge[:, :6] = (1e-4 * np.trace(system[:, :6, :6], axis1=1, axis2=2) / 6 + 1e-6)[:, None]
    ridge[:, 6:] = PRIOR * len(modes)
    gradient[:, 6:] += ridge[:, 6:] * coefficients
    system += ridge[:, :, None] * np.eye(size)
    update = -np.linalg.solve(system, gradient[..., None])[..., 0]
    turns, shifts = update[:, :3] / reach[:, None], update[:, 3:6]
    turns *= np.minimum(1.0, LARGEST_TURN / np.maximum(np.linalg.norm(turns, axis=1, keepdims=True), 1e-12))
    shifts *= np.minimum(1.0, gate / np.maximum(np.linalg.norm(shifts, axis=1, keepdims=True), 1e-12))
    return poses.moved(centres, turns, shifts), coefficients + update[:, 6:], float(np.abs(update).max())


def _of_the_mean(mean: np.ndarray, shapes: np.ndarray, poses: Poses) -> Poses:
    """Rigid poses that bring the mean points closest to the adjusted ones in the scan (Umeyama 1991, without scale).

    The modes can turn and shift a face a little, and a bigger face has its nose elsewhere: the pose that belongs to
    the mean is that of the points themselves.
    """
    target = poses.points(shapes)
    middle, goal = mean.mean(0), target.mean(1)
    u, _, vt = np.linalg.svd((target - goal[:, None]).swapaxes(1, 2) @ (mean - middle))
    sign = np.ones((len(poses), 3))
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    rotations = (u * sign[:, None]) @ vt
    return Poses(rotations, goal - rotations @ middle)

"""Where the person who set a scan's landmarks would set the others.

People differ in where they mark a nose wing or the end of a brow, but each does on one side of a face what he does on the
other, and along a brow what he does at its next point. So what the given landmarks are off by, from where the model has
them, tells something about their mirrored ones and their neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fitter.kernels.mesh_queries import MeshQueries
from fitter.model.morphable import LandmarkEmbedding

MIRRORED = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)
"""iBUG-68: the landmark at the same place on the other side."""
FIRST_INNER = 17
"""The jaw line before it has no fixed place on the skin."""
FEATURES = ((17, 22), (22, 27), (27, 31), (31, 36), (36, 42), (42, 48), (48, 60), (60, 68))
"""Runs of landmarks (first, one behind the last) that are set as one: brows, bridge and base of the nose, eyes, lips."""
LEAST_MM = 1e-3
"""Of a habit that moves a landmark."""
NEIGHBOURHOOD_MM = 10.0
"""How far along a feature habits are alike."""


def habit_offsets(offsets: Tensor, numbers: Tensor, places: Tensor) -> Tensor:
    """What a person's landmarks are off by, [68, 3], from those that are given.

    An offset is taken for the sum of a habit and of a deviation as large again, independent on every landmark. The habit
    is the same on both sides, and alike at neighbours along a brow, an eye, the nose's bridge or base, or the lips. The
    expected habit is then that of a Gaussian process (Rasmussen and Williams 2006, eq. 2.23), axis by axis: half of a
    single offset, a third of the sum of two on both sides.

    Args:
        offsets: [L, 3] from where the model has a landmark to where it was set, in the head's axes (x to its left).
        numbers: [L] int64 their numbers in iBUG-68.
        places: [68, 3] mm, where the model has all landmarks.
    """
    feature = torch.full((68,), -1, device=places.device)
    for number, (first, behind) in enumerate(FEATURES):
        feature[first:behind] = number
    alike = torch.exp(-0.5 * (torch.cdist(places, places) / NEIGHBOURHOOD_MM).square())
    alike = alike * ((feature[:, None] == feature) & (feature >= 0))
    mirrored = torch.tensor(MIRRORED, device=places.device)
    # No face is symmetric, and a covariance must be.
    alike = 0.5 * (alike + alike[mirrored][:, mirrored])
    habit = torch.zeros_like(places)
    for axis, sign in enumerate((-1.0, 1.0, 1.0)):
        # On the middle line a habit along y or z is its own mirror image, and there is none along x.
        covariance = alike + sign * alike[mirrored]
        spread = covariance.diagonal().clamp_min(0.0).sqrt()
        spread = torch.where(spread > 1e-3, spread, torch.ones_like(spread))
        covariance = covariance / spread[:, None] / spread
        given = covariance[numbers[:, None], numbers] + torch.eye(len(numbers)).to(places)
        habit[:, axis] = covariance[:, numbers] @ torch.linalg.solve(given, offsets[:, axis])
    habit[:FIRST_INNER] = 0.0
    return habit


def points_as_marked(
    embedding: LandmarkEmbedding,
    vertices: Tensor,
    triangles: Tensor,
    world_from_model: Tensor,
    landmarks: Tensor,
    numbers: Tensor,
) -> Tensor:
    """All landmarks [68, 3] on a fitted surface, where the person would set them who set some of them on the scan.

    Args:
        embedding: The model's landmarks (68).
        vertices: [V, 3] world mm, the fitted surface.
        triangles: [F, 3] on which landmarks lie.
        world_from_model: [4, 4] rigid.
        landmarks: [L, 3] world mm, those that were set.
        numbers: [L] int64 their numbers.
    """
    at = embedding(vertices)
    rotation = world_from_model[:3, :3]
    habit = habit_offsets((landmarks - at[numbers]) @ rotation, numbers, at @ rotation)
    queries = MeshQueries(vertices, triangles)
    wanted = at + habit @ rotation.T
    moved = queries.interpolate(vertices, queries.closest(wanted))
    return torch.where((habit.abs() > LEAST_MM).any(-1, keepdim=True), moved, at)

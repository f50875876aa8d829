"""Where the person who set a scan's landmarks would set the others.

People differ in where they mark a nose wing or the end of a brow, but each does on one side of a face what he does on the
other. So what the given landmarks are off by, from where the model has them, tells something about their mirrored ones.
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


def habit_offsets(offsets: Tensor, numbers: Tensor) -> Tensor:
    """What a person's landmarks are off by, [68, 3], from those that are given.

    An offset is taken for the sum of a habit, the same on both sides, and of a deviation as large again, independent on
    every landmark. The habit's mean is then the sum of what is known of it, over one more than how much is known: half
    of a single offset, a third of two.

    Args:
        offsets: [L, 3] from where the model has a landmark to where it was set, in the head's axes (x to its left).
        numbers: [L] int64 their numbers in iBUG-68.
    """
    total = offsets.new_zeros(68, 3)
    count = offsets.new_zeros(68, 1)
    flip = offsets.new_tensor([-1.0, 1.0, 1.0])
    mirrored = torch.tensor(MIRRORED, device=offsets.device)[numbers]
    for index, seen in ((numbers, offsets), (mirrored, offsets * flip)):
        total[index] += seen
        count[index] += 1.0
    # On the middle line both are the same point's.
    twice = mirrored == numbers
    total[numbers[twice]] *= 0.5
    count[numbers[twice]] = 1.0
    habit = total / (count + 1.0)
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
    habit = habit_offsets((landmarks - at[numbers]) @ rotation, numbers)
    queries = MeshQueries(vertices, triangles)
    wanted = at + habit @ rotation.T
    moved = queries.interpolate(vertices, queries.closest(wanted))
    return torch.where((habit != 0).any(-1, keepdim=True), moved, at)

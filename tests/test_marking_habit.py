"""What a person's landmarks on one side of a face tell about the other side."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fitter.result.marking_habit import FIRST_INNER, MIRRORED, habit_offsets, points_as_marked


def test_mirrored_numbers_are_on_the_other_side(open_model):
    """Of the open model's mean head, whose landmarks are symmetric to a few millimetres; and twice is back."""
    points = open_model.landmarks(open_model.mean).numpy()
    assert np.array_equal(np.asarray(MIRRORED)[list(MIRRORED)], np.arange(68))
    inner = slice(FIRST_INNER, 68)
    flipped = points[list(MIRRORED)] * [-1.0, 1.0, 1.0]
    assert np.linalg.norm(flipped - points, axis=1)[inner].max() < 3.0
    # No other numbering is as close.
    distance = np.linalg.norm(points[inner, None] * [-1.0, 1.0, 1.0] - points[None, inner], axis=-1)
    assert np.array_equal(distance.argmin(1) + FIRST_INNER, np.asarray(MIRRORED)[inner])


def test_habits_by_hand():
    """The outer ends of the brows (17, 26), one eye's corner (36 of 36, 45), a point of the middle line (27), the jaw."""
    numbers = torch.tensor([17, 26, 36, 27, 4])
    offsets = torch.tensor(
        [[3.0, 6.0, 0.0], [-9.0, 0.0, 3.0], [2.0, 4.0, -2.0], [1.0, 5.0, 2.0], [7.0, 7.0, 7.0]], dtype=torch.float64
    )
    habit = habit_offsets(offsets, numbers)
    assert habit[17].tolist() == pytest.approx([4.0, 2.0, 1.0]) and habit[26].tolist() == pytest.approx(
        [-4.0, 2.0, 1.0]
    )
    assert habit[36].tolist() == pytest.approx([1.0, 2.0, -1.0]) and habit[45].tolist() == pytest.approx(
        [-1.0, 2.0, -1.0]
    )
    # Nobody's habit leads off the middle line.
    assert habit[27].tolist() == pytest.approx([0.0, 2.5, 1.0])
    known = {17, 26, 36, 45, 27}
    assert all(float(habit[n].abs().max()) == 0.0 for n in range(68) if n not in known)


def test_a_habit_is_followed_on_the_side_that_was_not_marked(open_model):
    """A face marked on its right side only, every point 3 mm further down: half of it is expected on the left."""
    rotation = torch.linalg.matrix_exp(torch.linalg.cross(torch.eye(3), torch.tensor([0.2, -0.4, 0.1]).expand(3, 3)))
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, torch.tensor([5.0, -30.0, 400.0])
    vertices = open_model.mean @ rotation.T + pose[:3, 3]
    down = rotation @ torch.tensor([0.0, -3.0, 0.0])
    at = open_model.landmarks(vertices)
    numbers = torch.tensor([17, 18, 19, 20, 21, 31, 36, 39, 48])
    skin = open_model.triangles[open_model.regions["skin"][open_model.triangles].all(-1)]
    found = points_as_marked(open_model.landmarks, vertices, skin, pose, at[numbers] + down, numbers)
    left = torch.tensor(MIRRORED)[numbers]
    moved = (found - at) @ rotation
    # Along the skin, so a little less than half of the way down.
    assert float(moved[left, 1].median()) == pytest.approx(-1.5, abs=0.35)
    others = sorted(set(range(68)) - set(numbers.tolist()) - set(left.tolist()))
    assert float(moved[others].abs().max()) == 0.0

"""What a person's landmarks on one side of a face tell about the other side."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fitter.result.marking_habit import FIRST_INNER, MIRRORED, NEIGHBOURHOOD_MM, habit_offsets, points_as_marked


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
    # Far apart, nothing is a neighbour.
    places = 1000.0 * torch.arange(68, dtype=torch.float64)[:, None].expand(68, 3)
    habit = habit_offsets(offsets, numbers, places)
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


def test_neighbours_along_a_feature_share_a_habit():
    """A brow's point between two that are set 4 mm too high; against the mean of a Gaussian worked out by hand."""
    places = torch.zeros(68, 3, dtype=torch.float64)
    places[:, 0] = torch.arange(68) * 200.0
    places[17:22, 0] = torch.arange(5) * NEIGHBOURHOOD_MM
    places[22:27, 0] = -1000.0 + torch.arange(5) * NEIGHBOURHOOD_MM
    numbers = torch.tensor([18, 20])
    high = torch.tensor([[0.0, 4.0, 0.0]] * 2, dtype=torch.float64)
    habit = habit_offsets(high, numbers, places)
    near, far = np.exp(-0.5), np.exp(-2.0)
    assert float(habit[19, 1]) == pytest.approx(4.0 * 2 * near / (2 + far))
    assert float(habit[18, 1]) == pytest.approx(4.0 * (1 + far) / (2 + far))
    assert habit[24].tolist() == pytest.approx(habit[19].tolist())
    # Along the brow, not across to the eye beside it.
    places[36:42, 0] = places[17:18, 0] + 5.0
    assert float(habit_offsets(high, numbers, places)[36:48].abs().max()) == 0.0


def test_a_habit_is_followed_on_the_side_that_was_not_marked(open_model):
    """A face marked on its right side only, every point 3 mm further down: at least half of it is expected on the left."""
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
    # Along the skin, so a little less than expected: half of a lone point, more where neighbours say the same.
    assert float(moved[35, 1]) == pytest.approx(-1.5, abs=0.35) and float(moved[54, 1]) == pytest.approx(-1.5, abs=0.35)
    brow = moved[22:27, 1]
    assert float(brow.max()) < -1.3 and float(brow.min()) > -3.0 and float(brow.median()) < -1.7
    # The rest of the lips and eyes follows less the further it is, the bridge of the nose and the jaw not at all.
    assert abs(float(moved[57, 1])) < 0.1 and float(moved[left, 1].max()) < float(moved[50, 1])
    assert float(moved[[*range(17), *range(27, 31)]].abs().max()) == 0.0

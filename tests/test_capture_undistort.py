"""Lens distortion against hand-computed values, finite differences and its own inverse."""

from __future__ import annotations

import numpy as np
import pytest

from fitter.capture.undistort import (
    Distortion,
    distort_normalised,
    distort_pixels,
    undistort_image,
    undistort_pixels,
)

INTRINSICS = np.array([[4000.0, 2.0, 2010.0], [0, 3990.0, 1490.0], [0, 0, 1]])
LENSES = [
    Distortion(k1=-0.12, k2=0.05, p1=0.001, p2=-0.0015, k3=-0.01),
    Distortion(k1=0.2, k2=-0.1, k3=0.3, k4=0.15, k5=-0.05, k6=0.2, p1=-0.002, p2=0.003),
    Distortion(k1=-0.25, k2=0.1, r8=0.02),
]


def test_hand_computed_values():
    def at(x, y, **coefficients):
        return distort_normalised(np.array([x, y]), Distortion(**coefficients))[0].tolist()

    assert at(0.5, 0.0, k1=0.1) == pytest.approx([0.5 * 1.025, 0])
    assert at(0.6, 0.8, k1=0.1, k2=0.02, k3=0.003, r8=0.0004) == pytest.approx([0.6 * 1.1234, 0.8 * 1.1234])
    assert at(0.6, 0.8, k1=0.5, k4=0.25) == pytest.approx([0.6 * 1.2, 0.8 * 1.2])
    # r² = 0.2: x + 2 p1 x y = 0.2 + 0.02 * 0.08; y + p1 (r² + 2 y²) = 0.4 + 0.01 * 0.52
    assert at(0.2, 0.4, p1=0.01) == pytest.approx([0.2016, 0.4052])
    # x + p2 (r² + 2 x²) = 0.2 + 0.01 * 0.28; y + 2 p2 x y = 0.4 + 0.02 * 0.08
    assert at(0.2, 0.4, p2=0.01) == pytest.approx([0.2028, 0.4016])


@pytest.mark.parametrize("lens", LENSES)
def test_jacobian_by_finite_differences(lens):
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 2))
    _, jacobian = distort_normalised(points, lens)
    step = 1e-6
    for axis in range(2):
        offset = np.eye(2)[axis] * step
        numeric = (
            (distort_normalised(points + offset, lens)[0] - distort_normalised(points - offset, lens)[0]) / 2 / step
        )
        np.testing.assert_allclose(jacobian[..., axis], numeric, atol=1e-8)


@pytest.mark.parametrize("lens", LENSES)
def test_round_trip_is_exact(lens):
    pixels = np.random.default_rng(1).uniform((0, 0), (4000, 3000), (500, 2))
    there = distort_pixels(pixels, INTRINSICS, lens)
    assert np.abs(there - pixels).max() > 1
    assert np.abs(undistort_pixels(there, INTRINSICS, lens) - pixels).max() < 1e-6


def test_no_inverse_beyond_the_fold():
    # x (1 - 0.3 x²) has its maximum 0.7027 at x = 1.0541; 0.9 is never reached.
    intrinsics = np.array([[1000.0, 0, 0], [0, 1000.0, 0], [0, 0, 1]])
    result = undistort_pixels(np.array([[600.0, 0], [900.0, 0]]), intrinsics, Distortion(k1=-0.3))
    assert np.isfinite(result[0]).all()
    assert np.isnan(result[1]).all()


def test_turning_the_image_turns_the_lens():
    lens = LENSES[1]
    rotation = np.array([[0.0, -1], [1, 0]])
    points = np.random.default_rng(2).uniform(-0.4, 0.4, (20, 2))
    turned, _ = distort_normalised(points @ rotation.T, lens.turned(rotation))
    np.testing.assert_allclose(turned, distort_normalised(points, lens)[0] @ rotation.T, atol=1e-14)


@pytest.mark.parametrize("lens", [LENSES[0], Distortion(k1=0.15)])
def test_image_of_a_known_scene(lens):
    """A smooth scene seen through the lens, then undistorted, is the scene seen by a pinhole."""
    intrinsics = np.array([[150.0, 0, 82.0], [0, 150.0, 58.0], [0, 0, 1]])

    def scene(pixels):
        x, y = pixels[..., 0], pixels[..., 1]
        return 0.5 + 0.2 * np.sin(x / 9) * np.cos(y / 11) + 0.1 * np.sin((x + y) / 15)

    columns, rows = np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5)
    grid = np.stack([columns, rows], axis=-1)
    taken = scene(undistort_pixels(grid, intrinsics, lens)).astype(np.float32)
    straight = undistort_image(np.repeat(taken[..., None], 3, axis=2), intrinsics, lens)
    inside = np.s_[20:-20, 20:-20]
    assert straight.shape == (120, 160, 3)
    assert np.abs(straight[..., 1] - scene(grid))[inside].max() < 2e-3  # bicubic resampling of a smooth scene
    assert np.abs(taken - scene(grid))[inside].max() > 0.02  # the lens did something


def test_mask_is_zero_where_the_lens_saw_nothing():
    intrinsics = np.array([[150.0, 0, 80.0], [0, 150.0, 60.0], [0, 0, 1]])
    mask = undistort_image(np.ones((120, 160), np.float32), intrinsics, Distortion(k1=0.4), outside="zeros")
    assert mask[60, 80] == 1
    assert mask[0, 0] == 0

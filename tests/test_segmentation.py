"""The face mask: known boundaries are found, missing ones are not trusted."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from fitter.capture.segmentation import (
    COLOUR_NOISE,
    _best_columns,
    _fit_mixture,
    _log_density,
    _monomials,
    landmark_outline,
    polygon_mask,
    segment_face,
)

SIZE = (240, 220)
SKIN = np.array([0.78, 0.58, 0.48])
DARK_SKIN = np.array([0.30, 0.19, 0.14])
BACKGROUND = np.array([0.45, 0.50, 0.58])


def _ellipse(centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """Signed distance-like field [H, W], positive inside; its sign changes at the true, sub-pixel outline."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    radius = np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1])
    return (1.0 - radius) * min(radii)


def _photograph(face: np.ndarray, skin: np.ndarray, background: np.ndarray, noise: float = 0.02) -> np.ndarray:
    """Antialiased face with shading from one side, on a background, with noise."""
    cover = np.clip(face + 0.5, 0.0, 1.0)[..., None]
    shade = np.linspace(0.85, 1.1, SIZE[1])[None, :, None]
    image = cover * skin * shade + (1 - cover) * background
    return np.clip(image + noise * np.random.default_rng(0).standard_normal((*SIZE, 3)), 0, 1)


def _true_edges(face: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.flatnonzero((face > 0).any(1))
    inside = face > 0
    return rows, inside[rows].argmax(1), SIZE[1] - 1 - inside[rows][:, ::-1].argmax(1)


@pytest.mark.parametrize("skin", [SKIN, DARK_SKIN], ids=["light", "dark"])
def test_a_known_boundary_is_found_from_a_wrong_start(skin):
    face = _ellipse((110.0, 120.0), (60.0, 80.0))
    start = _ellipse((114.0, 117.0), (57.0, 83.0)) > 0
    result = segment_face(_photograph(face, skin, BACKGROUND), start, band=0.08)
    rows, left, right = _true_edges(face)
    sides = slice(15, -15)  # at the top and the bottom a row's end moves by much for a little
    found = result.mask > 0.5
    error_left = np.abs(found[rows[sides]].argmax(1) - left[sides])
    error_right = np.abs(SIZE[1] - 1 - found[rows[sides]][:, ::-1].argmax(1) - right[sides])
    assert error_left.max() < 1.5 and error_right.max() < 1.5
    before = np.abs(start[rows[sides]].argmax(1) - left[sides])
    assert before.max() > 5
    assert np.median(result.left_confidence[rows[sides]]) > 0.9
    assert np.median(result.right_confidence[rows[sides]]) > 0.9
    assert result.mask.dtype == np.float32 and result.mask.min() >= 0.0 and result.mask.max() <= 1.0


def test_no_contrast_is_no_confidence_and_the_model_stays():
    face = _ellipse((110.0, 120.0), (60.0, 80.0))
    start = face > 0
    image = _photograph(np.full(SIZE, -10.0), SKIN, SKIN)
    result = segment_face(image, start)
    rows, left, _ = _true_edges(face)
    assert result.left_confidence.max() < 0.2 and result.right_confidence.max() < 0.2
    found = result.mask > 0.5
    assert np.abs(found[rows[20:-20]].argmax(1) - left[20:-20]).max() < 8
    assert np.logical_xor(found, start).sum() < 0.05 * start.sum()


def test_a_gentle_slope_of_shading_is_not_an_edge():
    face = _ellipse((110.0, 120.0), (60.0, 80.0))
    blurred = ndimage.gaussian_filter((face > 0).astype(float), 14)[..., None]
    image = blurred * SKIN + (1 - blurred) * 0.75 * SKIN
    result = segment_face(image, face > 0)
    rows, _, _ = _true_edges(face)
    assert np.mean(result.left_confidence[rows]) < 0.3 and np.mean(result.right_confidence[rows]) < 0.3


def test_only_the_rows_with_a_neck_lose_confidence():
    face = _ellipse((110.0, 110.0), (60.0, 80.0))
    image = _photograph(face, SKIN, BACKGROUND)
    neck = image.copy()
    neck[150:] = _photograph(np.full(SIZE, 10.0), SKIN, BACKGROUND)[150:]
    result = segment_face(neck, face > 0)
    assert np.median(result.left_confidence[60:140]) > 0.9
    assert result.left_confidence[156:].max() < 0.3 and result.right_confidence[156:].max() < 0.3


def test_a_start_beyond_the_band_is_not_trusted():
    face = _ellipse((110.0, 120.0), (60.0, 80.0))
    start = _ellipse((110.0, 120.0), (38.0, 56.0)) > 0
    result = segment_face(_photograph(face, SKIN, BACKGROUND), start)
    assert np.median(result.left_confidence[90:150]) < 0.2


def test_empty_and_full_masks():
    image = np.full((20, 30, 3), 0.5)
    nothing = segment_face(image, np.zeros((20, 30), bool))
    assert nothing.mask.max() == 0.0 and nothing.left_confidence.max() == 0.0
    everything = segment_face(image, np.ones((20, 30), bool))
    assert everything.mask.min() > 0.9 and everything.right_confidence.max() == 0.0


def test_same_seed_same_mask():
    face = _ellipse((110.0, 120.0), (60.0, 80.0))
    image = _photograph(face, SKIN, BACKGROUND)
    first, second = (segment_face(image, face > 3) for _ in range(2))
    assert np.array_equal(first.mask, second.mask) and np.array_equal(first.left_confidence, second.left_confidence)


def test_polygon_and_landmark_outline():
    square = np.array([[2.0, 3.0], [7.0, 3.0], [7.0, 9.0], [2.0, 9.0]])
    mask = polygon_mask(square, (12, 10))
    assert mask.sum() == 30 and mask[3:9, 2:7].all()
    angles = np.linspace(np.pi, 0.0, 17)
    points = np.zeros((68, 2))
    points[:17] = np.stack([100 + 50 * np.cos(angles), 100 + 70 * np.sin(angles)], -1)
    points[17:27] = np.stack([np.linspace(60, 140, 10), np.full(10, 85.0)], -1)
    outline = landmark_outline(points)
    inside = polygon_mask(outline, (200, 200))
    assert outline.shape == (27, 2) and inside[100, 100] and inside[70, 100] and not inside[20, 100]
    assert not inside[180, 100] and 8000 < inside.sum() < 14000


def _naive_mixture(samples, means, covariances, shares, steps):
    """Expectation and maximisation, spelt out."""
    for _ in range(steps):
        density = np.stack(
            [
                np.log(share) + multivariate_normal(mean, covariance).logpdf(samples)
                for mean, covariance, share in zip(means, covariances, shares, strict=True)
            ],
            1,
        )
        member = np.exp(density - logsumexp(density, axis=1, keepdims=True))
        total = member.sum(0) + 1e-3
        shares, means = total / total.sum(), (member.T @ samples + 1e-3 * means) / total[:, None]
        offset = samples[:, None] - means
        covariances = np.einsum("nk,nki,nkj->kij", member, offset, offset) / total[:, None, None]
        covariances = covariances + np.eye(3) * COLOUR_NOISE**2
    return means, covariances, shares


def test_mixtures_are_those_of_the_textbook():
    random = np.random.default_rng(7)
    samples = np.concatenate([random.normal(size=(400, 3)) * [3, 1, 2] + [20, -5, 4], random.normal(size=(300, 3)) * 4])
    samples -= samples.mean(0)
    start = _fit_mixture(samples, 3, np.random.default_rng(0), steps=0)
    expected = _naive_mixture(samples, *start, steps=5)
    found = _fit_mixture(samples, 3, np.random.default_rng(0), steps=5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)
    density = _monomials(samples) @ _log_density(*found)
    for number, (mean, covariance, share) in enumerate(zip(*expected, strict=True)):
        truth = np.log(share) + multivariate_normal(mean, covariance).logpdf(samples)
        np.testing.assert_allclose(density[:, number], truth, rtol=1e-8, atol=1e-8)


def test_the_best_path_is_the_best_of_all():
    """Every path of a small table, twice around, tried."""
    score = np.random.default_rng(3).normal(size=(3, 4))
    bend = 0.3
    best = max(
        (start + np.cumsum([0, *moves]) for start in range(4) for moves in itertools.product((-1, 0, 1), repeat=5)),
        key=lambda path: (
            -np.inf
            if path.min() < 0 or path.max() > 3
            else sum(score[row % 3, column] for row, column in enumerate(path)) - bend * np.abs(np.diff(path)).sum()
        ),
    )
    assert _best_columns(score, bend).tolist() == best.tolist()

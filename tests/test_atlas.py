"""The atlas: no flips, little distortion, derivatives against finite differences, step length against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from fitter.model.atlas import (
    _distortion,
    _largest_step,
    _rest_shapes,
    atlas_quality,
    boundary_loop,
    build_atlas,
    signed_areas,
)


def _disc(rings: int = 6, spokes: int = 18) -> tuple[np.ndarray, np.ndarray]:
    """A flat unit disc [V, 3] facing +z."""
    angle = np.arange(spokes) / spokes * 2 * np.pi
    points = [np.zeros((1, 3))]
    triangles = []
    for ring in range(1, rings + 1):
        radius = ring / rings
        points.append(np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], 1))
    for s in range(spokes):
        t = (s + 1) % spokes
        triangles.append([0, 1 + s, 1 + t])
        for ring in range(rings - 1):
            inner, outer = 1 + ring * spokes, 1 + (ring + 1) * spokes
            triangles += [[inner + s, outer + s, outer + t], [inner + s, outer + t, inner + t]]
    return np.concatenate(points), np.array(triangles)


def _stretch(points: np.ndarray, triangles: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """[F, 2] singular values of each triangle's map from its plane to the atlas, one triangle at a time."""
    values = []
    for a, b, c in triangles:
        x = points[b] - points[a]
        length = np.linalg.norm(x)
        x = x / length
        other = points[c] - points[a]
        along = other @ x
        rest = np.array([[length, along], [0.0, np.linalg.norm(other - along * x)]])
        values.append(np.linalg.svd(np.stack([uv[b] - uv[a], uv[c] - uv[a]], 1) @ np.linalg.inv(rest))[1])
    return np.array(values)


def _small_case(seed: int = 3):
    points, triangles = _disc(2, 7)
    random = np.random.default_rng(seed)
    points = points * 40 + random.normal(0, 2.0, points.shape)
    uv = _disc(2, 7)[0][:, :2] * 0.4 + 0.5 + random.normal(0, 0.01, (len(points), 2))
    importance = random.uniform(0.3, 1.0, len(points))
    return uv, triangles, _rest_shapes(points, triangles, importance, 0.7)


def test_energy_gradient_is_that_of_finite_differences():
    uv, triangles, rest = _small_case()
    energy, gradient = _distortion(uv, triangles, rest)
    assert np.isfinite(energy)
    step = 1e-6
    for vertex in range(len(uv)):
        for axis in range(2):
            moved = [uv.copy(), uv.copy()]
            moved[0][vertex, axis] += step
            moved[1][vertex, axis] -= step
            up, down = (_distortion(m, triangles, rest)[0] for m in moved)
            assert gradient[vertex, axis] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-5)


def test_energy_is_least_for_an_isometry_and_infinite_for_a_flip():
    points, triangles = _disc(2, 7)
    area = signed_areas(points[:, :2], triangles).sum()
    rest = _rest_shapes(points, triangles, np.ones(len(points)), area)
    energy, gradient = _distortion(points[:, :2], triangles, rest)
    # |J|² + |J^-1|² of a rotation is 2 + 2, and the weights sum to one.
    assert energy == pytest.approx(4.0, abs=1e-12)
    assert np.abs(gradient).max() < 1e-12
    assert _distortion(points[:, :2] * [1.0, -1.0], triangles, rest)[0] == np.inf


def test_largest_step_is_where_the_first_triangle_loses_its_area():
    uv, triangles, _ = _small_case()
    random = np.random.default_rng(5)
    for _ in range(4):
        direction = random.normal(0, 0.2, uv.shape)
        found = _largest_step(uv, direction, triangles)
        steps = np.linspace(0.0, 1.0, 4_001)
        smallest = np.array([signed_areas(uv + t * direction, triangles).min() for t in steps])
        first = np.flatnonzero(smallest <= 0)
        assert len(first), "the case must flip something within the range"
        assert found == pytest.approx(steps[first[0]], abs=3e-4)


def test_a_move_as_one_piece_is_unlimited():
    uv, triangles, _ = _small_case()
    assert _largest_step(uv, np.full_like(uv, 0.3), triangles) == np.inf


def test_boundary_loop_of_a_disc_runs_around_it():
    points, triangles = _disc(3, 11)
    loop = boundary_loop(triangles)
    assert sorted(loop) == list(range(len(points) - 11, len(points)))
    x, y = points[loop, :2].T
    assert 0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0


def test_a_closed_surface_is_refused():
    with pytest.raises(ValueError, match="boundary"):
        boundary_loop(np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]))


def test_flat_disc_maps_nearly_to_itself():
    """Only the outline (a rounded square) differs from the disc: inside, stretch is even and alike in all ways."""
    points, triangles = _disc()
    uv = build_atlas(points, triangles, np.ones(len(points)))
    assert (signed_areas(uv, triangles) > 0).all()
    assert uv.min() > 0.0 and uv.max() < 1.0
    stretch = _stretch(points, triangles, uv)
    radius = np.linalg.norm(points[triangles].mean(1), axis=1)
    inside = stretch[radius < 0.7]
    assert (inside[:, 0] / inside[:, 1]).max() < 1.3
    assert inside.max() / inside.min() < 1.5


def test_relaxing_lowers_the_distortion():
    points, triangles = _disc()
    points = points * [1.0, 1.0, 0.0] + np.stack(
        [0 * points[:, 0], 0 * points[:, 0], 1.5 * (1 - (points**2).sum(1))], 1
    )
    start = build_atlas(points, triangles, np.ones(len(points)), iterations=0)
    relaxed = build_atlas(points, triangles, np.ones(len(points)))
    rest = _rest_shapes(points, triangles, np.ones(len(points)), signed_areas(start, triangles).sum())
    before, after = (_distortion(uv, triangles, rest)[0] for uv in (start, relaxed))
    assert after < 0.95 * before


def test_importance_gives_a_part_more_of_the_map():
    points, triangles = _disc()
    centre = np.linalg.norm(points[triangles].mean(1), axis=1) < 0.4
    plain = build_atlas(points, triangles, np.ones(len(points)))
    weighted = build_atlas(points, triangles, np.where(np.linalg.norm(points, axis=1) < 0.4, 2.0, 1.0))
    shares = [signed_areas(uv, triangles)[centre].sum() for uv in (plain, weighted)]
    assert shares[1] > 1.5 * shares[0]
    assert (signed_areas(weighted, triangles) > 0).all()


def test_quality_counts_flips_and_the_face():
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    quality = atlas_quality(uv, np.array([[0, 1, 2], [1, 2, 3]]), np.array([True, False]))
    assert quality.flipped == 1 and quality.face_share == pytest.approx(0.5)


def test_the_open_models_atlas(open_model):
    uv, triangles = open_model.atlas_uv.double().numpy(), open_model.atlas_triangles.numpy()
    face = open_model.regions["face"].numpy()[triangles].all(1)
    areas = signed_areas(uv, triangles)
    assert (areas > 0).all()
    assert areas[face].sum() >= 0.45
    # No triangle lies over another: the areas fill no more than the square.
    assert areas.sum() < 1.0
    used = np.unique(triangles)
    assert uv[used].min() > 0.0 and uv[used].max() < 1.0

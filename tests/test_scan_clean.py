"""Cleaning of scans: doubles, specks, winding; rims; what is seen from the front."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
import trimesh

from fitter.capture.scan import visibility
from fitter.capture.scan.clean import clean_mesh, merge_vertices
from fitter.capture.scan.orient import oriented
from fitter.capture.scan.visibility import visible_triangles
from fitter.mesh_edges import boundary_vertices, edge_table
from tests.scan_meshes import canonical, face_sheet, grid_triangles, joined, sphere

FACE = face_sheet(4.0)
FORWARD, UP = np.array([0.0, 0, 1]), np.array([0.0, 1, 0])


def _shuffled(triangles, share, seed=0):
    """Triangles in another order, with other first corners, and a share of them turned."""
    random = np.random.default_rng(seed)
    result = triangles[random.permutation(len(triangles))]
    result = result[np.arange(len(result))[:, None], (random.integers(0, 3, len(result))[:, None] + np.arange(3)) % 3]
    turned = random.random(len(result)) < share
    result[turned] = result[turned][:, ::-1]
    return result


def _naive_neighbours(triangles):
    """Edge -> triangles, in a dictionary."""
    owners = {}
    for number, triangle in enumerate(triangles.tolist()):
        for a, b in zip(triangle, triangle[1:] + triangle[:1], strict=True):
            owners.setdefault(frozenset((a, b)), []).append((number, (a, b)))
    return owners


def _naive_winding(triangles):
    """Flags of triangles to turn so that each agrees with the first of its patch: a queue and a dictionary."""
    owners = _naive_neighbours(triangles)
    turned, patch = [None] * len(triangles), [None] * len(triangles)
    for seed in range(len(triangles)):
        if turned[seed] is not None:
            continue
        turned[seed], patch[seed] = False, seed
        queue = deque([seed])
        while queue:
            number = queue.popleft()
            triangle = triangles[number].tolist()
            for a, b in zip(triangle, triangle[1:] + triangle[:1], strict=True):
                pair = owners[frozenset((a, b))]
                for other, way in pair:
                    if len(pair) == 2 and other != number and turned[other] is None:
                        turned[other] = turned[number] != (way == (a, b))
                        patch[other] = seed
                        queue.append(other)
    return np.array(turned), np.array(patch)


def test_edges_agree_with_a_dictionary():
    vertices, triangles = joined(FACE, sphere())
    triangles = _shuffled(np.concatenate([triangles, [[0, 1, 500]]]), 0.3)[: len(triangles) * 2 // 3]
    table = edge_table(triangles, len(vertices))
    owners = _naive_neighbours(triangles)
    for number, triangle in enumerate(triangles.tolist()):
        for edge, (a, b) in enumerate(zip(triangle, triangle[1:] + triangle[:1], strict=True)):
            pair = owners[frozenset((a, b))]
            assert table.uses[number, edge] == len(pair)
            others = [entry for entry in pair if entry[0] != number]
            expected = others[0][0] if len(pair) == 2 else -1
            assert table.neighbours[number, edge] == expected
            assert table.agrees[number, edge] == (len(pair) == 2 and others[0][1] == (b, a))
    rim = {v for edge, pair in owners.items() if len(pair) == 1 for v in edge}
    assert set(np.flatnonzero(boundary_vertices(triangles, len(vertices)))) == rim


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("mesh", ["face", "sphere", "half", "both"])
def test_winding_becomes_consistent_and_outward(mesh, share):
    ball = sphere()
    half = ball[0], ball[1][(ball[0][ball[1]][..., 1] < 40).all(1)]
    both = joined(FACE, sphere(25.0, centre=(300.0, 0, 0)))
    vertices, triangles = {"face": FACE, "sphere": ball, "half": half, "both": both}[mesh]
    mixed = _shuffled(triangles, share)
    result, turned = oriented(vertices, mixed)
    np.testing.assert_array_equal(canonical(vertices, result), canonical(vertices, triangles))
    np.testing.assert_array_equal(result, np.where(turned[:, None], mixed[:, ::-1], mixed))
    # The naive twin agrees up to one decision per patch.
    naive, patch = _naive_winding(mixed)
    for number in np.unique(patch):
        assert len(set((naive ^ turned)[patch == number])) == 1


def test_turned_triangles_are_reported():
    assert clean_mesh(*FACE).warnings == ()
    inside_out = clean_mesh(FACE[0], FACE[1][:, ::-1])
    assert any("inside out; " in line for line in inside_out.warnings)
    np.testing.assert_array_equal(canonical(inside_out.vertices, inside_out.triangles), canonical(*FACE))
    some = clean_mesh(FACE[0], _shuffled(FACE[1], 0.1))
    assert any("were inside out and were turned" in line for line in some.warnings)


def test_a_dent_with_a_rim_of_its_own_keeps_the_way_of_the_rest():
    """A hollow part that hangs on by edges of three triangles only: by itself it would look inside out."""
    x, y = np.meshgrid(np.linspace(-75, 75, 61), np.linspace(-75, 75, 61))
    away = np.hypot(x, y)
    z = 90 - away**2 / 150 - np.where(away < 12, 0.05 * (144 - away**2), 0)
    vertices, triangles = np.stack([x, y, z], -1).reshape(-1, 3), grid_triangles(61, 61)
    inside = (np.hypot(*vertices[triangles].mean(1)[:, :2].T)) < 12
    table = edge_table(triangles, len(vertices))
    number, edge = np.nonzero(inside[:, None] & ~inside[table.neighbours] & (table.neighbours >= 0))
    # A fin on every edge around the dent.
    ends = np.stack([triangles[number, edge], triangles[number, (edge + 1) % 3]], -1)
    fins = np.concatenate([ends, len(vertices) + np.arange(len(ends))[:, None]], 1)
    vertices = np.concatenate([vertices, vertices[ends].mean(1) + np.array([0, 0, 1.0])])
    result, _ = oriented(vertices, np.concatenate([triangles, fins])[:, ::-1])
    cross = np.cross(vertices[result[:, 1]] - vertices[result[:, 0]], vertices[result[:, 2]] - vertices[result[:, 0]])[
        : len(triangles), 2
    ]
    assert (cross > 0).all()


def test_edges_of_three_triangles_and_a_moebius_strip_break_nothing():
    vertices, triangles = sphere()
    wall = np.array([[5, 6, len(vertices)]])
    result, _ = oriented(np.concatenate([vertices, [[0, 0, 0.0]]]), np.concatenate([triangles, wall]))
    assert len(result) == len(triangles) + 1
    np.testing.assert_array_equal(canonical(vertices, result[:-1]), canonical(vertices, triangles))
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    side = np.stack([np.cos(turn / 2) * np.cos(turn), np.cos(turn / 2) * np.sin(turn), np.sin(turn / 2)], -1)
    middle = 4 * np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1)
    rail = np.arange(60)
    quads = np.stack([rail, np.roll(rail, -1), np.roll(rail, -1) + 60, rail + 60], -1)
    quads[-1] = [59, 60, 0, 119]
    strip = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    result, _ = oriented(np.concatenate([middle + side, middle - side]), strip)
    assert set(map(frozenset, result.tolist())) == set(map(frozenset, strip.tolist()))


def test_doubles_go_and_specks_go():
    speck, stray = sphere(1.5, 6, 8, (60, 0, 100.0)), (np.array([[0, 0, 300.0], [9, 0, 300], [0, 9, 300]]), [[0, 1, 2]])
    vertices, triangles = joined(FACE, speck, (stray[0], np.array(stray[1])))
    again = triangles[:40][:, [1, 2, 0]]
    upside_down = triangles[50:60][:, ::-1]
    empty = np.array([[0, 0, 1], [3, 3, 3]])
    line = np.array([[len(vertices), len(vertices) + 1, len(vertices) + 2]])
    vertices = np.concatenate([vertices, FACE[0][0] + np.array([[0.0, 0, 0], [-1, 0, 0], [-2, 0, 0]])])
    cleaned = clean_mesh(vertices, np.concatenate([triangles, again, upside_down, empty, line]))
    np.testing.assert_array_equal(canonical(cleaned.vertices, cleaned.triangles), canonical(*FACE))
    assert any("53 empty or repeated" in text for text in cleaned.warnings)
    assert any("2 isolated pieces" in text for text in cleaned.warnings)


def test_a_scan_of_many_small_pieces_keeps_them():
    pieces = [sphere(4.0, 6, 8, (12.0 * (i % 12), 12.0 * (i // 12), 0)) for i in range(144)]
    mesh = joined(*pieces)
    assert len(clean_mesh(*mesh).triangles) == len(mesh[1])


def test_vertices_of_one_place_are_joined_in_their_order():
    vertices, triangles = FACE
    soup, numbers = vertices[triangles].reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3)
    noisy = soup + np.random.default_rng(0).uniform(-6e-5, 6e-5, soup.shape)  # apart by up to 8e-7 of the extent
    for points in (soup, noisy):
        joint, faces = merge_vertices(points, numbers)
        assert len(joint) == len(vertices)
        assert faces.ravel()[:2].tolist() == [0, 1] and np.abs(joint[faces] - vertices[triangles]).max() < 1e-3
    same, kept = merge_vertices(vertices, triangles)
    assert same is vertices and kept is triangles
    near = np.concatenate([vertices, vertices[:1] + 0.01])  # a hundredth of a millimetre is another place
    assert len(merge_vertices(near, triangles)[0]) == len(near)


def test_rims_of_a_sheet_with_a_hole():
    vertices, triangles = face_sheet(5.0, half=50.0)
    side = 21
    hole = (triangles == 220).any(1)
    flags = boundary_vertices(triangles[~hole], len(vertices)).reshape(side, side)
    expected = np.zeros((side, side), bool)
    expected[[0, -1]] = expected[:, [0, -1]] = True
    around = np.unique(triangles[hole])
    expected.ravel()[around[around != 220]] = True
    np.testing.assert_array_equal(flags, expected)
    assert not boundary_vertices(sphere()[1], len(sphere()[0])).any()


def test_what_lies_behind_is_not_seen():
    bag = sphere(18.0, centre=(0.0, -40, 60))  # wholly behind the sheet
    ahead = sphere(6.0, centre=(30.0, 30, 115))
    vertices, triangles = joined(FACE, bag, ahead)
    seen = visible_triangles(vertices, triangles, FORWARD * 3, UP + FORWARD)
    skin, hidden, front = np.split(seen, [len(FACE[1]), len(FACE[1]) + len(bag[1])])
    assert skin.all() and not hidden.any()
    # The far side of the ball in front looks backwards.
    normals = vertices[triangles[len(FACE[1]) + len(bag[1]) :]].mean(1) - [30, 30, 115]
    assert front[normals[:, 2] > 0].all() and not front[normals[:, 2] < -5.5].any()
    # Inside out it is not seen, but for a few triangles where the nose is no thicker than the picture's accuracy.
    assert visible_triangles(vertices, triangles[:, ::-1], FORWARD, UP)[: len(FACE[1])].mean() < 0.005


def test_seen_through_an_opening_as_rays_see_it():
    """A pocket behind a hole, against a ray through every sample point."""
    vertices, triangles = joined(face_sheet(5.0, half=60.0), sphere(30.0, 14, 20, (0.0, -20, 75)))
    count = len(face_sheet(5.0, half=60.0)[1])
    middle = vertices[triangles].mean(1)
    keep = np.hypot(middle[:, 0], middle[:, 1] + 20) > 9
    keep[count:] = (middle[count:, 2] < 85) | (np.hypot(middle[count:, 0], middle[count:, 1] + 20) > 8)
    # The pocket's inner side is its outside, as a mouth's is.
    triangles = np.concatenate([triangles[:count], triangles[count:, ::-1]])[keep]
    seen = visible_triangles(vertices, triangles, FORWARD, UP)
    truth = _seen_by_rays(vertices, triangles)
    assert 0.1 < (~truth).mean() < 0.9 and 10 < truth[keep[:count].sum() :].sum()
    assert (seen == truth).mean() > 0.98


@np.errstate(divide="ignore", invalid="ignore")
def _seen_by_rays(vertices, triangles):
    from fitter.capture.scan.visibility import _frames

    corners = vertices[triangles]
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(one, two)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    seen = np.zeros(len(triangles), bool)
    for frame in _frames(FORWARD, UP, 35):
        towards = frame[2]
        p = np.cross(towards, two)
        determinant = np.einsum("fk,fk->f", p, one)
        for number in np.flatnonzero(~seen & (normal @ towards > 0.2)):
            for weights in ((1 / 3, 1 / 3, 1 / 3), (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)):
                offset = weights @ corners[number] + 1e-3 * towards - corners[:, 0]
                q = np.cross(offset, one)
                u, v = np.einsum("fk,fk->f", offset, p) / determinant, q @ towards / determinant
                ahead = np.einsum("fk,fk->f", q, two) / determinant
                seen[number] |= not ((u >= 0) & (v >= 0) & (u + v <= 1) & (ahead > 0)).any()
    return seen


def test_directions_fill_the_cap_evenly():
    from fitter.capture.scan.visibility import _frames

    frames = _frames(np.array([1.0, 2, 2]), UP, 35)
    np.testing.assert_allclose(frames @ frames.transpose(0, 2, 1), np.tile(np.eye(3), (35, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(frames), 1.0)
    angle = np.degrees(np.arccos(np.clip(frames[:, 2] @ np.array([1.0, 2, 2]) / 3, -1, 1)))
    assert angle[0] == pytest.approx(0, abs=1e-5) and angle.max() == pytest.approx(60)
    assert np.median(angle) == pytest.approx(np.degrees(np.arccos(0.75)), abs=2)


def test_leaving_out_tiles_changes_nothing():
    """Seen from all directions one after another is seen from any of them alone, when every triangle is still wanted."""
    random = np.random.default_rng(5)
    vertices, triangles = sphere()
    vertices = vertices * (1.0 + 0.3 * random.random((len(vertices), 1)))
    count, size = len(vertices), np.ptp(vertices)
    # A closed ball in a crumpled one; and one in a box, whose triangles are larger than a tile.
    box = trimesh.creation.box(extents=np.full(3, 2.0 * size))
    aside = np.array([3.0 * size, 0.0, 0.0])
    inner, boxed = 0.6 * vertices + [0.1 * size, 0.0, 0.0], vertices + aside
    vertices = np.concatenate([vertices, inner, boxed, box.vertices + aside])
    balls = [triangles + number * count for number in range(3)]
    triangles = np.concatenate([*balls, np.asarray(box.faces) + 3 * count])
    frames = visibility._frames(np.array([0.0, 0.2, 1.0]), np.array([0.0, 1.0, 0.0]), 12)
    points = vertices - vertices.mean(0)
    extent = 2 * np.linalg.norm(points, axis=1).max()

    def look(chosen):
        seen = np.zeros(len(triangles), bool)
        visibility._look(points, triangles, chosen, extent / 512, 512, seen)
        return seen

    together = look(frames)
    alone = np.any([look(frames[number : number + 1]) for number in range(len(frames))], axis=0)
    np.testing.assert_array_equal(together, alone)
    in_the_box = together[2 * len(balls[0]) : 3 * len(balls[0])]
    assert 0.1 < together[: len(balls[0])].mean() < 0.9 and not in_the_box.any()

"""Landmarks of scans: every format, numbers, units, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fitter.capture.scan.landmarks import find_scan_landmarks, read_scan_landmarks
from fitter.errors import InputError

POINTS = np.random.default_rng(0).normal(0, 50, (68, 3)).round(4)
SEVEN = [36, 39, 42, 45, 33, 48, 54]


def _picked(entries, doctype="<!DOCTYPE PickedPoints>\n") -> str:
    """A file as MeshLab writes it; entries are (name, point, active)."""
    lines = [
        "<PickedPoints>",
        " <DocumentData>",
        '  <DateTime date="2020-05-05" time="12:00:00"/>',
        '  <User name="somebody"/>',
        '  <DataFileName name="scan.ply"/>',
        '  <templateName name=""/>',
        " </DocumentData>",
    ]
    for name, (x, y, z), active in entries:
        lines.append(f' <point y="{y}" name="{name}" active="{active}" x="{x}" z="{z}"/>')
    return doctype + "\n".join([*lines, "</PickedPoints>", ""])


def _all(points=POINTS) -> dict[str, bytes | str]:
    rows = points.tolist()
    return {
        "plain.txt": "\n".join(f"{x} {y} {z}" for x, y, z in rows),
        "bom.txt": "\ufeff# x y z\n" + "\n".join(f"{x}\t{y}\t{z}  # point" for x, y, z in rows) + "\n\n",
        "commas.csv": "\r\n".join(f"{x}, {y}, {z}" for x, y, z in rows),
        "list.json": json.dumps(rows),
        "named.json": json.dumps({str(i): row for i, row in reversed(list(enumerate(rows)))}),
        "object.json": json.dumps({"indices": list(range(68))[::-1], "points": rows[::-1]}),
        "meshlab.pp": _picked([(i, row, 1) for i, row in enumerate(rows)]),
        "one_based.pp": _picked([(i + 1, row, 1) for i, row in reversed(list(enumerate(rows)))]),
    }


@pytest.mark.parametrize("name", sorted(_all()))
def test_all_points_in_every_format(tmp_path, name):
    (tmp_path / name).write_text(_all()[name], encoding="utf-8")
    landmarks = read_scan_landmarks(tmp_path / name, 10.0)
    np.testing.assert_allclose(landmarks.points, 10 * POINTS)
    assert landmarks.indices.tolist() == list(range(68)) and landmarks.source == name
    assert landmarks.points.dtype == np.float64 and landmarks.indices.dtype == np.int64


def test_arrays(tmp_path):
    for count, indices in ((68, list(range(68))), (51, list(range(17, 68))), (7, sorted(SEVEN))):
        np.save(tmp_path / "a.npy", POINTS[:count].astype(np.float32))
        landmarks = read_scan_landmarks(tmp_path / "a.npy")
        assert landmarks.indices.tolist() == indices
        expected = POINTS[:count] if count != 7 else POINTS[:7][np.argsort(SEVEN)]
        np.testing.assert_allclose(landmarks.points, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["inner.txt", "inner.pp"])
def test_the_inner_points(tmp_path, name):
    text = "\n".join(f"{x} {y} {z}" for x, y, z in POINTS[17:])
    picked = _picked([(i, row, 1) for i, row in enumerate(POINTS[17:])])
    (tmp_path / name).write_text(picked if name.endswith("pp") else text)
    landmarks = read_scan_landmarks(tmp_path / name)
    assert landmarks.indices.tolist() == list(range(17, 68))
    np.testing.assert_allclose(landmarks.points, POINTS[17:])


def test_points_that_were_not_set_are_left_out(tmp_path):
    gaps = POINTS.copy()
    gaps[[3, 40]] = np.nan
    kept = [i for i in range(68) if i not in (3, 40)]
    np.save(tmp_path / "a.npy", gaps)
    np.savetxt(tmp_path / "b.txt", gaps)
    (tmp_path / "c.json").write_text(
        json.dumps([None if i in (3, 40) else row for i, row in enumerate(POINTS.tolist())])
    )
    (tmp_path / "d.pp").write_text(_picked([(i, row, int(i in kept)) for i, row in enumerate(POINTS)]))
    (tmp_path / "e.json").write_text(json.dumps({str(i): POINTS[i].tolist() for i in kept}))
    for name in ("a.npy", "b.txt", "c.json", "d.pp", "e.json"):
        landmarks = read_scan_landmarks(tmp_path / name)
        assert landmarks.indices.tolist() == kept, name
        np.testing.assert_allclose(landmarks.points, POINTS[kept])


def test_picked_points_with_ibug_numbers(tmp_path):
    (tmp_path / "a.pp").write_text(_picked([(45, POINTS[45], 1), (36, POINTS[36], 1), (30, POINTS[30], 0)]))
    landmarks = read_scan_landmarks(tmp_path / "a.pp")
    assert landmarks.indices.tolist() == [36, 45]
    np.testing.assert_allclose(landmarks.points, POINTS[[36, 45]])


@pytest.mark.parametrize("start", [0, 1])
def test_seven_picked_points_in_running_order_are_those_of_now(tmp_path, start):
    entries = [(i + start, POINTS[number], int(number != 33)) for i, number in enumerate(SEVEN)]
    (tmp_path / "a.pp").write_text(_picked(entries[::-1]))
    landmarks = read_scan_landmarks(tmp_path / "a.pp")
    assert landmarks.indices.tolist() == [36, 39, 42, 45, 48, 54]
    np.testing.assert_allclose(landmarks.points, POINTS[landmarks.indices])


@pytest.mark.parametrize("numbered", [True, False])
def test_lnd_of_fg2018(tmp_path, numbered):
    rows = POINTS[SEVEN]
    lines = [f"{i + 1} {x} {y} {z}" if numbered else f"{x} {y} {z}" for i, (x, y, z) in enumerate(rows)]
    (tmp_path / "F1001_N.lnd").write_text("\n".join(lines) + "\n")
    landmarks = read_scan_landmarks(tmp_path / "F1001_N.lnd")
    assert landmarks.indices.tolist() == sorted(SEVEN)
    np.testing.assert_allclose(landmarks.points, POINTS[sorted(SEVEN)])
    (tmp_path / "F1001_N.lnd").write_text("\n".join(lines[1:]))
    if numbered:
        assert read_scan_landmarks(tmp_path / "F1001_N.lnd").indices.tolist() == sorted(SEVEN[1:])
    else:
        with pytest.raises(InputError, match="6 lines"):
            read_scan_landmarks(tmp_path / "F1001_N.lnd")


BOMB = '<!DOCTYPE PickedPoints [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n'
OUTSIDE = '<!DOCTYPE PickedPoints SYSTEM "file:///etc/hostname">\n'
ONE = [(30, POINTS[30], 1)]
BAD = {
    "two.txt": ("1 2 3\n4 5 6\n", "2 points"),
    "words.txt": ("nose tip here\n", "could not convert"),
    "ragged.txt": ("1 2 3\n4 5\n", "different lengths"),
    "flat.txt": ("1 2\n" * 68, r"shape \(68, 2\)"),
    "empty.txt": ("", "no lines"),
    "nothing.txt": ("nan nan nan\n" * 68, "no point"),
    "cut.json": ("{", "cannot be read"),
    "number.json": ("3", "neither"),
    "ragged.json": ("[[1, 2, 3], [4, 5]]", "three numbers"),
    "names.json": ('{"nose": [1, 2, 3]}', "nose"),
    "large.json": ('{"68": [1, 2, 3]}', "0 to 67"),
    "below.json": ('{"-1": [1, 2, 3]}', "0 to 67"),
    "twice.json": ('{"indices": [3, 3], "points": [[1, 2, 3], [4, 5, 6]]}', "two points"),
    "half.json": ('{"indices": [3.5], "points": [[1, 2, 3]]}', "not whole"),
    "lengths.json": ('{"indices": [3, 4], "points": [[1, 2, 3]]}', "2 numbers for 1"),
    "bomb.pp": (_picked(ONE, BOMB), "document type"),
    "outside.pp": (_picked(ONE, OUTSIDE), "document type"),
    "cut.pp": (_picked(ONE)[:-20], "no readable XML"),
    "other.pp": ("<points/>", "no PickedPoints"),
    "named.pp": (_picked([("nose tip", POINTS[30], 1)]), "nose tip"),
    "large.pp": (_picked([(70, POINTS[30], 1)]), "0 to 67"),
    "word.lnd": ("1 x y z\n", "could not convert"),
    "eight.lnd": ("8 1 2 3\n", "not 1 to 7"),
    "text.npy": ("not an array", "cannot be read"),
    "absent.txt": (None, "no such file"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_what_cannot_be_used_is_refused_with_one_clear_line(tmp_path, name):
    content, found = BAD[name]
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=found) as caught:
        read_scan_landmarks(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name)) and "\n" not in str(caught.value)


def test_objects_and_huge_files_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read"):
        read_scan_landmarks(tmp_path / "a.npy")
    with (tmp_path / "b.txt").open("wb") as file:
        file.truncate(20_000_000)
    with pytest.raises(InputError, match="20000000 bytes"):
        read_scan_landmarks(tmp_path / "b.txt")


def test_files_beside_the_scan(tmp_path):
    scan = tmp_path / "anna.v2.ply"
    assert find_scan_landmarks(scan) is None
    rows = "\n".join(f"{x} {y} {z}" for x, y, z in POINTS)
    contents = [
        ("anna.v2_ibug68.txt", rows),
        ("anna.v2_landmarks.json", json.dumps(POINTS.tolist())),
        ("anna.v2.txt", rows),
        ("anna.v2.lnd", "1 1 2 3"),
        ("anna.v2.pp", _picked(ONE)),
    ]
    # Each is preferred over those before.
    for name, content in contents:
        (tmp_path / name).write_text(content)
        assert find_scan_landmarks(scan) == tmp_path / name


def test_other_files_beside_the_scan_are_passed_over(tmp_path):
    (tmp_path / "anna.json").write_text('{"scanner": "x1", "date": "2020"}')
    (tmp_path / "anna.txt").write_text("Scanned on Tuesday.\n")
    assert find_scan_landmarks(tmp_path / "anna.ply") is None
    (tmp_path / "anna_landmarks.txt").write_text("Scanned on Tuesday.\n")  # says what it is, so its fault is told
    assert find_scan_landmarks(tmp_path / "anna.ply") == tmp_path / "anna_landmarks.txt"

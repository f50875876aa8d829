"""Reading a data set back: what comes out is what the fit found, and what is wrong is said in one line."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fitter.errors import InputError
from fitter.hierarchy.samples import surface_samples
from priors.dataset import SupervisedMaps
from priors.dataset.tensors import KINDS, split_similarity
from tests.dataset_inputs import SIDE, TINY, invent, make, small_toy, write_folder, write_scanned_session
from tests.factories import toy_model


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A data set of invented fits: a session with two photographs, and a scan alone."""
    folder = tmp_path_factory.mktemp("made")
    write_folder(folder / "people/anna", "a")
    write_folder(folder / "people/ben", "b", photographs=False)
    with pytest.MonkeyPatch.context() as patch:
        invent(patch)
        make(folder / "people", folder / "out")
    return folder / "out"


def test_samples_are_what_the_fit_found(made):
    maps, toy = SupervisedMaps(made), small_toy()
    assert [record["view"] for record in maps.samples] == ["left", "front"] and len(maps) == 2
    for sample, view in zip(maps, toy.views, strict=True):
        assert torch.allclose(sample["texture"], torch.from_numpy(view.texture.transpose(2, 0, 1)), atol=1e-3)
        assert np.array_equal(sample["deformation"], toy.deformation_map)
        assert np.array_equal(sample["cam_from_world"], view.cam_from_world)
        assert np.array_equal(sample["valid"], toy.map_valid) and sample["measured"].dtype == torch.bool
        assert sample["texture"].dtype == torch.float32 and "preview" not in sample
        assert set(sample) <= set(KINDS)
    assert SupervisedMaps(made, dtype=None)[0]["texture"].dtype == torch.float16
    with pytest.raises(IndexError):
        maps[2]


def test_position_maps_in_the_head_and_in_the_camera(made):
    sample = SupervisedMaps(made, tensors=["position", "position_camera", "valid", "world_from_model"])[1]
    toy, valid = small_toy(), sample["valid"].numpy()
    samples = surface_samples(toy_model(), SIDE)
    corners = toy.vertices_m0[samples.vertices.numpy()]
    world = np.zeros((SIDE, SIDE, 3))
    world.reshape(-1, 3)[samples.texel.numpy()] = (corners * samples.weights.numpy()[..., None]).sum(1)
    rigid, scale = split_similarity(torch.from_numpy(toy.world_from_model))
    assert float(scale) == pytest.approx(1.05)
    back = sample["position"].numpy().transpose(1, 2, 0) @ rigid[:3, :3].numpy().T + rigid[:3, 3].numpy()
    assert np.abs(back - world)[valid].max() < 1e-3
    camera = toy.views[1].cam_from_world
    expected = world @ camera[:3, :3].T + camera[:3, 3]
    assert np.abs(sample["position_camera"].numpy().transpose(1, 2, 0) - expected)[valid].max() < 1e-3
    assert not sample["position_camera"].numpy()[:, ~valid].any()


def test_scans_alone(made):
    with_all = SupervisedMaps(made, scans_alone=True)
    assert len(with_all) == 3 and "texture" not in with_all[2] and "displacement" in with_all[2]
    with pytest.raises(InputError, match="no texture"):
        SupervisedMaps(made, scans_alone=True, tensors=["texture"])[2]
    with pytest.raises(InputError, match="a scan alone"):
        SupervisedMaps(made, scans_alone=True, tensors=["position_camera"])[2]


def test_batches_and_other_processes(made):
    maps = SupervisedMaps(made)
    before = maps[0]["texture"]
    again = pickle.loads(pickle.dumps(maps))
    assert torch.equal(again[0]["texture"], before)
    batch = next(iter(torch.utils.data.DataLoader(maps, batch_size=2)))
    assert batch["displacement"].shape == (2, SIDE, SIDE)


def test_splits(made, tmp_path):
    parts = [
        split for split in ("train", "val", "test") if any(s["split"] == split for s in SupervisedMaps(made).samples)
    ]
    assert parts == [SupervisedMaps(made).samples[0]["split"]]
    missing = next(split for split in ("train", "val", "test") if split not in parts)
    with pytest.raises(InputError, match=f"no sample with a photograph in {missing}"):
        SupervisedMaps(made, missing)
    with pytest.raises(InputError, match="'dev'"):
        SupervisedMaps(made, "dev")


def test_what_is_wrong_with_the_files(made, tmp_path):
    with pytest.raises(InputError, match=r"no manifest\.json"):
        SupervisedMaps(tmp_path)
    out = tmp_path / "out"
    shutil.copytree(made, out)
    SupervisedMaps(out, verify=True)
    shard = out / "shard-00000.safetensors"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match="other contents"):
        SupervisedMaps(out, verify=True)
    shard.write_bytes(b"\0" * len(data))
    with pytest.raises(InputError, match="a damaged shard"):
        SupervisedMaps(out)[0]
    shard.write_bytes(data[:-1])
    with pytest.raises(InputError, match=f"{len(data) - 1} bytes"):
        SupervisedMaps(out)
    shard.unlink()
    with pytest.raises(InputError, match="no such file"):
        SupervisedMaps(out)
    (out / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="no manifest that can be read"):
        SupervisedMaps(out)
    (out / "manifest.json").write_text(json.dumps({"format": "hrn-supervised-maps-9"}))
    with pytest.raises(InputError, match="maps-9"):
        SupervisedMaps(out)


def test_what_is_wrong_with_the_request(made):
    with pytest.raises(InputError, match="'textur'"):
        SupervisedMaps(made, tensors=["textur"])
    from dataclasses import replace

    with pytest.raises(InputError, match="found other; expected toy"):
        SupervisedMaps(made).rebuild(0, replace(toy_model(), name="other"))
    model = toy_model()
    wider = replace(model, identity_basis=model.identity_basis.repeat(1, 1, 2))
    with pytest.raises(InputError, match="coefficients"):
        SupervisedMaps(made).rebuild(0, wider)


def test_a_real_session_there_and_back(open_model, tmp_path, monkeypatch):
    """Through the files M2 comes back to 0.001 mm, texels lie in the photograph, and the sheet is drawn."""
    from PIL import Image

    import fitter.fit
    from fitter.optimise.config import load_configuration
    from priors.dataset.make import make_dataset
    from priors.dataset.options import DatasetOptions
    from priors.dataset.sources import find_sessions

    write_scanned_session(open_model, tmp_path / "people/anna")
    (tmp_path / "tiny.yaml").write_text(TINY)
    fit, found = fitter.fit.fit_session, []

    def remembered(*arguments):
        found.append(fit(*arguments))
        return found[-1]

    monkeypatch.setattr("fitter.fit.fit_session", remembered)
    configuration, options = load_configuration(str(tmp_path / "tiny.yaml")), DatasetOptions(unit="mm", workers=0)
    summary = make_dataset(find_sessions([tmp_path / "people"]), tmp_path / "out", configuration, options)
    assert summary.samples == 2 and not summary.failures
    maps = SupervisedMaps(tmp_path / "out", verify=True)
    for index in range(2):
        rebuilt = maps.rebuild(index, open_model).double().numpy()
        assert np.linalg.norm(rebuilt - found[0].dense.vertices, axis=1).max() < 1e-3
    assert maps.session(0)["residuals"]["M1"]["skin"]["median_mm"] < 1.0
    sample = SupervisedMaps(tmp_path / "out", tensors=["position_camera", "intrinsics", "texture_weight"])[0]
    seen = sample["texture_weight"] > 0.3
    pixels = sample["intrinsics"].float() @ sample["position_camera"][:, seen]
    pixels = pixels[:2] / pixels[2:]
    assert bool(seen.any()) and float(pixels.min()) > 0 and float(pixels.max()) < 160
    with Image.open(tmp_path / "out/sheet-000.png") as sheet:
        assert sheet.size[0] > 1600 and np.asarray(sheet).std() > 20

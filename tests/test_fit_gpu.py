"""Whole fits on CUDA against the same fits on the CPU, from the command line; skipped without a device."""

import json

import numpy as np
import pytest
import torch

from fitter.cli.main import run
from fitter.obj import read_obj
from tests.recovery_scene import KnownFace, as_scanned, known_face, write_session
from tests.scan_meshes import ply_bytes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def face(open_model) -> KnownFace:
    return known_face(open_model)


@pytest.fixture(scope="module")
def inputs(face, open_model, tmp_path_factory):
    """A folder of three calibrated photographs, and a scan of the same face."""
    folder = tmp_path_factory.mktemp("inputs")
    write_session(face, folder / "photographs")
    vertices, triangles, _ = as_scanned(face, open_model)
    (folder / "scan.ply").write_bytes(ply_bytes(vertices, triangles))
    return folder


@pytest.fixture(scope="module")
def fitted(inputs, tmp_path_factory):
    """Fit on a device, with the named settings; gives the folder."""

    def fit(device: str, *command: str):
        out = tmp_path_factory.mktemp(device) / "fit"
        assert run([*command, "--out", str(out), "--device", device, "--no-report"]) == 0
        return out

    return fit


def distances(first, second, name: str) -> np.ndarray:
    """Between corresponding vertices of two results' meshes, mm."""
    meshes = [read_obj(folder / name) for folder in (first, second)]
    return np.linalg.norm(meshes[0].vertices - meshes[1].vertices, axis=1)


CASES = {
    "three views": ["fit", "photographs", "--unit", "mm"],
    "three views without cameras": ["fit", "photographs", "--cameras", "none", "--rig", "--config", "draft"],
    "one view": ["fit", "photographs", "--unit", "mm", "--views", "view1"],
    "the paper's recipe": ["fit", "photographs", "--unit", "mm", "--config", "mv_hrn"],
    "a scan": ["scan", "scan.ply", "--landmarks", "none"],
    "a scan with photographs": ["scan", "scan.ply", "--photographs", "photographs"],
}
FURTHEST_MM = {"three views without cameras": 1.0, "one view": 1.0, "the paper's recipe": 0.3}
"""Where many steps follow each other, rounding grows; Adam's sign-like first steps make most of it, and along the only
view's rays nothing holds the face."""


@pytest.mark.parametrize("case", CASES)
def test_a_fit_is_the_same_on_both_devices(case, inputs, fitted):
    command = [str(inputs / word) if (inputs / word).exists() else word for word in CASES[case]]
    there, here = fitted("cuda", *command), fitted("cpu", *command)
    for name in ("m0.obj", "face.obj", "dense.obj"):
        assert np.median(distances(there, here, name)) < FURTHEST_MM.get(case, 0.05), name
    records = [json.loads((folder / "fit.json").read_text("utf-8")) for folder in (there, here)]
    assert records[0]["device"] == "cuda" and records[1]["device"] == "cpu"
    assert [stage["name"] for stage in records[0]["stages"]] == [stage["name"] for stage in records[1]["stages"]]


def test_a_fit_on_the_gpu_can_be_repeated(inputs, fitted):
    """Atomic additions come in any order, so the last bits differ; nothing more does."""
    command = ["fit", str(inputs / "photographs"), "--unit", "mm", "--config", "draft"]
    first, second = fitted("cuda", *command), fitted("cuda", *command)
    assert distances(first, second, "dense.obj").max() < 0.05

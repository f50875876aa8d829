"""The resumable state: what is written is read, what does not belong is ignored, and going on changes nothing."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fitter.fit import FitOptions, build_problem, fit_fingerprint, fit_session
from fitter.hierarchy.face import FaceState
from fitter.optimise.config import configuration_from
from fitter.optimise.problem import StageLog
from fitter.optimise.run import FinishedStage, run_stages
from fitter.result.checkpoint import NAME, fingerprint, load_checkpoint, save_checkpoint
from tests.recovery_scene import KnownFace, known_face
from tests.test_solver_parameters import toy_state

PRIORS = {"landmark": {"weight": 1.0}, "identity_prior": {"sigma": 1.0}, "expression_prior": {"sigma": 0.3}}
QUICK = configuration_from(
    {
        "name": "quick",
        "maps": {"deformation": 16, "displacement": 32, "texture": 64, "dense_levels": 0},
        "stages": [
            {"name": "start", "solver": "initialise"},
            {
                "name": "m0",
                "solver": "gauss_newton",
                "free": ["head_pose", "identity", "expression"],
                "energies": PRIORS | {"consistency": {}},
                "passes": [{"samples": 32, "image": 96, "steps": 2}],
            },
            {
                "name": "m1",
                "solver": "gauss_newton",
                "free": ["deformation"],
                "energies": {"consistency": {}, "smoothness": {}},
                "passes": [{"samples": 32, "image": 96, "steps": 2}],
            },
            {
                "name": "m2",
                "solver": "gauss_newton",
                "free": ["displacement"],
                "energies": {"consistency": {"mode": "lcn"}, "smoothness": {}},
                "passes": [{"samples": 32, "image": 96, "steps": 2}],
            },
        ],
    },
    "test",
)
LOG = StageLog(3, {"landmark": (2.5, 1.25)}, {"landmark_px": 0.75}, "a note")


@pytest.fixture(scope="module")
def face(open_model) -> KnownFace:
    return known_face(open_model, size=160, yaws=(-20.0, 20.0))


@pytest.fixture(scope="module")
def uninterrupted(face, open_model) -> FaceState:
    return run_stages(*build_problem(face.session, open_model, QUICK, FitOptions()))[0]


def test_what_is_written_is_read(tmp_path):
    state, finished = toy_state(), [FinishedStage("start", 0.5, LOG), FinishedStage("m0", 1.5, StageLog())]
    save_checkpoint(tmp_path, state, finished, "key")
    read, stages = load_checkpoint(tmp_path, "key")
    assert stages == finished
    for name, tensor in state.tensors().items():
        assert torch.equal(getattr(read, name), tensor) and getattr(read, name).dtype == tensor.dtype


def test_nothing_and_foreign_checkpoints_are_ignored(tmp_path):
    assert load_checkpoint(tmp_path, "key") is None
    save_checkpoint(tmp_path, toy_state(), [], "key")
    assert load_checkpoint(tmp_path, "another key") is None
    assert load_checkpoint(tmp_path, "key") is not None


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "text"])
def test_damaged_checkpoints_are_ignored(tmp_path, damage):
    save_checkpoint(tmp_path, toy_state(), [FinishedStage("start", 0.5, LOG)], "key")
    data = (tmp_path / NAME).read_bytes()
    noise = bytes(255 - byte for byte in data[:64]) + data[64:]
    (tmp_path / NAME).write_bytes({"cut": data[: len(data) // 2], "empty": b"", "noise": noise, "text": b"{}"}[damage])
    assert load_checkpoint(tmp_path, "key") is None


@pytest.mark.parametrize("finished", ["not json", "[{}]", None])
def test_checkpoints_without_a_record_of_stages_are_ignored(tmp_path, finished):
    header = {"key": "key"} | ({} if finished is None else {"finished": finished})
    save_file({k: v.contiguous() for k, v in toy_state().tensors().items()}, tmp_path / NAME, metadata=header)
    assert load_checkpoint(tmp_path, "key") is None


def test_checkpoints_that_lack_a_tensor_are_ignored(tmp_path):
    tensors = toy_state().tensors()
    del tensors["identity"]
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / NAME, metadata={"key": "k", "finished": "[]"})
    assert load_checkpoint(tmp_path, "k") is None


def test_a_full_disk_is_told_as_such(tmp_path):
    """The system's own error, which the command line knows to explain; what was there stays."""
    resource = pytest.importorskip("resource")
    save_checkpoint(tmp_path, toy_state(), [], "key")
    before = (tmp_path / NAME).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError):
            save_checkpoint(tmp_path, toy_state(), [FinishedStage("start", 0.5, LOG)], "key")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / NAME).read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_fingerprints_tell_contents_apart():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_a_fit_is_known_by_all_that_it_depends_on(face, open_model):
    """Photographs, landmarks, masks, cameras, unit, configuration, model and seed."""
    session, view = face.session, face.session.views[0]

    def key(session=session, model=open_model, configuration=QUICK, seed=0) -> str:
        return fit_fingerprint(session, model, configuration, seed)

    def changed(**fields) -> str:
        return key(replace(session, views=(replace(view, **fields), *session.views[1:])))

    mask = view.image[..., 0] * 0 + 1
    mask[:40] = 0
    moved = replace(view.landmarks, points=view.landmarks.points + 0.25)
    doubted = replace(view.landmarks, confidence=view.landmarks.confidence * 0.5)
    camera = replace(view.camera, intrinsics=view.camera.intrinsics * 1.01)
    others = [
        changed(image=view.image * 0.99),
        changed(image=view.image[:, ::-1].copy()),
        changed(landmarks=moved),
        changed(landmarks=doubted),
        changed(mask=mask),
        changed(mask=mask[::-1].copy()),
        changed(camera=camera),
        changed(camera=None),
        changed(camera=None, focal_guess=300.0),
        key(replace(session, mm_per_unit=None)),
        key(replace(session, kind="casual")),
        key(model=replace(open_model, name="other")),
        key(configuration=replace(QUICK, expression_per_view="always")),
        key(seed=1),
    ]
    assert key() == key() and len({key(), *others}) == len(others) + 1


@pytest.mark.parametrize("stage", ["m0", "m1", "m2"])
def test_interrupted_and_continued_is_uninterrupted(face, open_model, uninterrupted, tmp_path, stage):
    """Stopped within a stage, the fit goes on after the last finished one and ends in the same tensors, bit by bit."""
    seen = []

    def interrupt(name: str, step: int, steps: int, energy: float) -> None:
        seen.append(name)
        if seen.count(stage) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_session(face.session, open_model, QUICK, FitOptions(checkpoint=tmp_path, on_step=interrupt))
    with safe_open(str(tmp_path / NAME), framework="pt") as file:
        recorded = [entry["name"] for entry in json.loads(file.metadata()["finished"])]
    names = [one.name for one in QUICK.stages]
    assert recorded == names[: names.index(stage)]
    again = []
    result = fit_session(
        face.session, open_model, QUICK, FitOptions(checkpoint=tmp_path, on_step=lambda name, *_: again.append(name))
    )
    assert sorted(set(again), key=names.index) == names[names.index(stage) :]
    kept, finished = load_checkpoint(tmp_path, fit_fingerprint(face.session, open_model, QUICK, 0))
    assert [one.name for one in finished] == names
    for field in fields(FaceState):
        assert torch.equal(getattr(kept, field.name), getattr(uninterrupted, field.name)), field.name
    assert [record.name for record in result.stages] == names


def test_a_checkpoint_of_other_settings_is_not_continued(face, open_model, tmp_path):
    _, state = build_problem(face.session, open_model, QUICK, FitOptions())
    save_checkpoint(tmp_path, state, [FinishedStage("start", 0.1, LOG)], "of something else")
    seen = []
    fit_session(
        face.session, open_model, QUICK, FitOptions(checkpoint=tmp_path, on_step=lambda name, *_: seen.append(name))
    )
    assert seen[0] == "start"

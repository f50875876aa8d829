"""Known faces, photographed by the renderer, found again by the stages of the session preset."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fitter.errors import InputError
from fitter.fit import FitOptions, build_problem
from fitter.hierarchy.face import m0_vertices, m1_vertices
from fitter.model.morphable import MorphableModel
from fitter.optimise.config import Configuration, Pass, load_configuration
from fitter.optimise.initialise import procrustes
from fitter.optimise.run import run_stages
from tests.recovery_scene import KnownFace, known_face, surface_error


def reduced(passes: dict[str, tuple[Pass, ...]], stages: tuple[str, ...]) -> Configuration:
    """The session preset with some of its stages, in fewer passes."""
    preset = load_configuration("session")
    kept = [replace(s, passes=passes.get(s.name, s.passes)) for s in preset.stages if s.name in stages]
    return replace(preset, stages=tuple(kept))


@pytest.fixture(scope="module")
def face(open_model) -> KnownFace:
    return known_face(open_model)


def test_the_scene_is_what_it_claims(face, open_model):
    """The truth itself has no error, and the mean face at the same place has a large one."""
    assert surface_error(open_model, face.vertices, face.vertices).max() < 1e-3
    mean = replace(face.state, identity=0 * face.state.identity, deformation=0 * face.state.deformation)
    assert np.median(surface_error(open_model, face.vertices, m1_vertices(open_model, mean))) > 1.0
    assert all(view.image.std() > 0.05 for view in face.session.views)


def test_calibrated_views(face, open_model):
    passes = {
        "m0": (Pass(samples=96, image=160, steps=3), Pass(samples=96, image=320, steps=3)),
        "m1": (Pass(samples=192, image=320, steps=5),),
    }
    problem, state = build_problem(
        face.session, open_model, reduced(passes, ("start", "landmarks", "m0", "m1")), FitOptions()
    )
    errors = {}

    def keep(stage, state, done):
        vertices = m1_vertices(open_model, state)
        errors[stage.name] = float(np.median(surface_error(open_model, face.vertices, vertices)))

    state, finished = run_stages(problem, state, on_stage=keep)
    assert [stage.name for stage in finished] == ["start", "landmarks", "m0", "m1"]
    assert errors["landmarks"] < errors["start"]
    assert errors["m0"] < min(0.4, errors["landmarks"])
    assert errors["m1"] < min(0.15, 0.7 * errors["m0"])
    # M0 is the model alone: the map is on M1 only.
    m0 = float(np.median(surface_error(open_model, face.vertices, m0_vertices(open_model, state))))
    assert m0 == pytest.approx(errors["m0"], rel=1e-3)
    assert finished[2].log.residuals["landmark_px"] < 2.5
    energies = finished[2].log.energies["consistency"]
    assert energies[1] < 0.7 * energies[0]


def _similarity_error(model: MorphableModel, face: KnownFace, fitted: torch.Tensor) -> float:
    """Median distance after the best similarity between corresponding vertices of the face."""
    weight = model.regions["face"].double()
    pose, scale = procrustes(fitted.double(), face.vertices.double(), weight, True)
    aligned = (scale * fitted.double()) @ pose[:3, :3].T + pose[:3, 3]
    return float(np.median(surface_error(model, face.vertices, aligned)))


def test_views_without_cameras(face, open_model):
    """Poses and focal length unknown: found from the photographs, up to the similarity that nothing can tell."""
    views = tuple(replace(view, camera=None) for view in face.session.views)
    session = replace(face.session, views=views, unit=None, mm_per_unit=None)
    coarse = (Pass(samples=64, image=160, steps=3),)
    passes = {"focal": coarse, "m0 and cameras": (*coarse, Pass(samples=96, image=320, steps=3))}
    names = ("start", "focal", "m0 and cameras")
    problem, state = build_problem(session, open_model, reduced(passes, names), FitOptions())
    assert not problem.cameras_known and not problem.focal_known and not problem.metric
    state, finished = run_stages(problem, state)
    assert [stage.name for stage in finished] == list(names)
    # The true focal length is 1.9 times the side; one pass at half size comes within a fifth of it.
    assert float(state.intrinsics[0, 0, 0]) / 320 == pytest.approx(1.9, rel=0.2)
    assert _similarity_error(open_model, face, m0_vertices(open_model, state)) < 0.8


@pytest.mark.parametrize("calibrated", [True, False])
def test_too_few_landmarks_are_refused(face, open_model, calibrated):
    """The jaw line slides and does not count; a calibrated rig needs points that two views share."""

    def session(*kept: int):
        views = []
        for view, count in zip(face.session.views, kept, strict=True):
            confidence = np.zeros(68)
            confidence[: 17 + count] = 1.0
            camera = view.camera if calibrated else None
            views.append(replace(view, camera=camera, landmarks=replace(view.landmarks, confidence=confidence)))
        return replace(face.session, views=tuple(views))

    configuration = reduced({}, ("start",))
    with pytest.raises(InputError, match="5 landmarks"):
        build_problem(session(5, 5, 5), open_model, configuration, FitOptions())
    with pytest.raises(InputError, match="0 landmarks"):
        build_problem(session(0, 0, 51), open_model, configuration, FitOptions())
    build_problem(session(6, 6, 6), open_model, configuration, FitOptions())
    if calibrated:
        build_problem(session(0, 6, 51), open_model, configuration, FitOptions())

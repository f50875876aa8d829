"""The energies of an Adam stage: all there, checked settings, gradients, masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fitter.errors import InputError, MissingPartError
from fitter.hierarchy.face import m1_vertices
from fitter.optimise.contours import FaceOutline, covered_vertices
from fitter.optimise.render_energies import ENERGIES, check_settings, evaluate
from fitter.optimise.scene import build_scene, make_choices, stage_inputs
from fitter.render import MeshTopology, render_face
from tests.adam_scenes import SIZE, known_state, photograph, small_model

PROMISED = {
    "photometric",
    "robust_photometric",
    "perceptual",
    "recognition",
    "landmark",
    "contour",
    "silhouette",
    "total_variation",
    "bilaplacian",
    "displacement_l1",
    "laplacian_deformation",
    "identity_prior",
    "expression_prior",
    "albedo_prior",
    "consistency",
}


def scene_of(model, truth, state, outlines=(), displacement=None):
    """The scene of `state` before the photographs of `truth`."""
    inputs = stage_inputs(model, state, photograph(model, truth), outlines, 96)
    choices = make_choices(inputs, state, inputs.start_vertices)
    if displacement is None:
        displacement = state.displacement.expand(state.view_count, -1, -1)
    return build_scene(inputs, choices, state, displacement, frozenset({"m1", "m2"}))


def outline_of(model, state, narrower: float = 0.0) -> FaceOutline:
    """A certain outline: where the face of `state` projects, made narrower by a fraction."""
    shape = replace(state, identity=state.identity - torch.tensor([25.0 * narrower, 0.0, 0.0]))
    triangles = model.triangles[covered_vertices(model)[model.triangles].all(-1)]
    topology = MeshTopology.from_triangles(triangles, model.vertex_count)
    mask = render_face(m1_vertices(model, shape)[None], topology, state.intrinsics, state.cam_from_world, SIZE).mask[0]
    sure = torch.ones(SIZE[0])
    return FaceOutline(mask, sure, sure, 1.0)


def test_all_promised_energies_exist():
    assert PROMISED <= set(ENERGIES)


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(InputError, match="no Adam energy of this name"):
        check_settings({"photmetric": {"weight": 1.0}}, "m1")
    with pytest.raises(InputError, match="unknown setting 'sigma'"):
        check_settings({"contour": {"weight": 1.0, "sigma": 2.0}}, "m1")
    with pytest.raises(InputError, match="no weight"):
        check_settings({"contour": {}}, "m1")
    with pytest.raises(InputError, match="levels"):
        check_settings({"photometric": {"weight": 1.0, "levels": ["m3"]}}, "m1")
    assert check_settings({"photometric": {"weight": 1, "levels": ["m2"]}}, "m2") == {"m2"}


def test_energies_are_small_at_the_truth_and_grow_away_from_it():
    model = small_model()
    truth = known_state(model, (-0.3, 0.3), identity=torch.tensor([0.5, -0.3, 0.4]))
    wrong = replace(truth, identity=torch.tensor([-0.5, 0.6, -0.8]))
    names = ("photometric", "robust_photometric", "landmark")
    # The toy's skin has next to no texture: consistency tells less.
    weaker = ("consistency", "laplacian_deformation")
    energies = {name: {"weight": 1.0} for name in names + weaker}
    at_truth = evaluate(scene_of(model, truth, truth), energies)
    away = evaluate(scene_of(model, truth, wrong), energies)
    for name in names:
        assert float(away[name]) > 2.0 * float(at_truth[name]), name
    for name in weaker:
        assert float(away[name]) > float(at_truth[name]), name


@pytest.mark.parametrize(
    ("name", "width"), [("photometric", 0.1), ("landmark", 0.5), ("contour", 0.5), ("laplacian_deformation", 0.5)]
)
def test_gradients_agree_with_finite_differences(name, width):
    model = small_model()
    yaw = 0.0 if name == "contour" else 0.2
    truth = known_state(model, (yaw,), identity=torch.tensor([0.4, 0.2, 0.3]))
    state = known_state(model, (yaw,))
    outlines = (outline_of(model, truth, 0.25),)
    settings = {name: {"weight": 1.0}}
    inputs = stage_inputs(model, state, photograph(model, truth), outlines, 96)
    choices = make_choices(inputs, state, inputs.start_vertices)
    none = state.displacement.expand(1, -1, -1)

    def energy(deformation: torch.Tensor) -> torch.Tensor:
        moved = replace(state, deformation=deformation)
        return evaluate(build_scene(inputs, choices, moved, none, frozenset({"m1"})), settings)[name]

    # A smooth bump to the side and outwards; for colours it stays within the face, whose rim is a constant weight.
    axis = torch.linspace(-1, 1, 16)
    bump = torch.exp(-((axis[:, None] + 0.2) ** 2 + axis[None] ** 2) / width)
    # The contour energy does not differentiate a point's row (HRN's vectors are horizontal): sideways only.
    direction = torch.stack([bump, 0 * bump, 0 * bump] if name == "contour" else [bump, 0.2 * bump, bump])
    start = (0.5 * direction).requires_grad_(True)
    energy(start).backward()
    analytic = float((start.grad * direction).sum())
    step = 0.02  # small: farther on, the toy's eyes come through its skin
    with torch.no_grad():
        numeric = float(energy(start + step * direction) - energy(start - step * direction)) / (2 * step)
    assert analytic == pytest.approx(numeric, rel=0.02, abs=1e-6)


def test_contour_and_silhouette_feel_an_outline_that_is_beside():
    model = small_model()
    state = known_state(model, (0.0,))
    energies = {"contour": {"weight": 1.0, "lower_part": 0.2}, "silhouette": {"weight": 1.0, "lower_part": 0.2}}
    aligned = evaluate(scene_of(model, state, state, (outline_of(model, state),)), energies)
    beside = evaluate(scene_of(model, state, state, (outline_of(model, state, 0.25),)), energies)
    without = evaluate(scene_of(model, state, state), energies)
    for name in energies:
        assert float(beside[name]) > float(aligned[name])
        assert float(without[name]) == 0.0


def test_overlap_turns_the_rendered_energy_down_where_other_views_see():
    model = small_model()
    truth = known_state(model, (-0.3, 0.3))
    wrong = replace(truth, identity=torch.tensor([0.0, 0.0, -2.0]))
    scene = scene_of(model, truth, wrong)
    evaluate(scene, {"robust_photometric": {"weight": 1.0}})
    overlap = scene.inputs.parts["overlap"]
    assert overlap.shape[0] == 2 and float(overlap.max()) > 0.5 and float(overlap.min()) == 0.0


def test_map_energies_weigh_each_map_by_itself():
    model = small_model()
    state = replace(known_state(model, (0.0,)), deformation=torch.randn(3, 16, 16))
    bent = torch.randn(1, 32, 32)
    for name in ("total_variation", "bilaplacian"):
        scene = scene_of(model, state, state, displacement=bent)
        only = [ENERGIES[name](scene, deformation=d, displacement=e) for d, e in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))]
        assert float(only[0]) > 0 and float(only[1]) > 0
        assert float(only[2]) == pytest.approx(float(only[0] + only[1]), rel=1e-5)


def test_recognition_needs_its_network_and_lpips_its_package(tmp_path):
    model = small_model()
    state = known_state(model, (0.0,))
    scene = scene_of(model, state, state)
    missing = str(tmp_path / "no.safetensors")
    with pytest.raises(InputError, match="no readable safetensors file"):
        evaluate(scene, {"recognition": {"weight": 1.0, "state": missing}})
    try:
        import lpips  # noqa: F401
    except ImportError:
        with pytest.raises(MissingPartError, match="perceptual"):
            evaluate(scene, {"perceptual": {"weight": 1.0}})

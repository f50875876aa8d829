"""The choice of mixtures on a known face: whether the rule under which pairs agree is the one that is right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fitter.energies.depth_cost import estimate_depth
from fitter.fit import FitOptions, build_problem
from fitter.hierarchy.samples import surface_samples
from fitter.optimise.comparison import Compared, compared_channels
from fitter.optimise.config import load_configuration
from fitter.optimise.mixture_choice import MARGIN, RULES, chosen_rule, overlapping_pairs, run_mixture_choice
from fitter.optimise.placed_samples import deformed_surface
from fitter.optimise.swept_cost import ViewComparison, depth_cost
from fitter.optimise.views import sample_views
from fitter.result.checkpoint import load_checkpoint, save_checkpoint
from tests.recovery_scene import KnownFace, known_face

GLOSS = 0.12
"""Of linear light: about half of what the skin sends back."""


@pytest.fixture(scope="module")
def face(open_model) -> KnownFace:
    return known_face(open_model)


@pytest.fixture(scope="module")
def stage():
    chosen = next(stage for stage in load_configuration("session").stages if stage.name == "mixtures")
    return replace(chosen, passes=(replace(chosen.passes[0], image=320),))


def _at_the_truth(face: KnownFace, open_model, images: list[np.ndarray] | None = None):
    """The problem of photographs of the known face, and its true state."""
    session = face.session
    if images is not None:
        views = [replace(view, image=image) for view, image in zip(session.views, images, strict=True)]
        session = replace(session, views=tuple(views))
    problem, state = build_problem(session, open_model, load_configuration("session"), FitOptions())
    names = ("identity", "world_from_model", "deformation")
    return problem, replace(state, **{name: getattr(face.state, name) for name in names})


def _glossy(face: KnownFace) -> list[np.ndarray]:
    """The photographs with glitter: white light that is somewhere else in each of them, a few pixels wide."""
    images = []
    for index, view in enumerate(face.session.views):
        random = np.random.default_rng(50 + index)
        coarse = torch.from_numpy(random.normal(size=(1, 1, 110, 110)))
        side = view.image.shape[:2]
        glitter = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic")[0, 0].clamp_min(0.0)
        linear = view.image.astype(np.float64) ** 2.4 + GLOSS * glitter.numpy()[..., None]
        images.append((linear.clip(0.0, 1.0) ** (1 / 2.4)).astype(np.float32))
    return images


def _depth_errors(problem, state, stage, mixtures, trust) -> float:
    """Mean distance of all views' depths from the truth, mm, where the surface is the true one."""
    samples = surface_samples(problem.model, stage.passes[0].samples)
    surface = deformed_surface(problem, state, samples)
    compared = Compared(problem.observation.signals(320, mixtures), trust)
    sampled = sample_views(state, compared.signals, samples, surface.geometry, surface.topology, points=surface.points)
    comparison = ViewComparison.of(stage, compared, samples, sampled, 1.0)
    depths = torch.arange(-6, 7) * 0.25
    found = estimate_depth(depth_cost(state, compared, surface, comparison, depths))
    return float((found.offset[found.curvature > 0] * 0.25).abs().mean())


@pytest.mark.parametrize("glossy", [False, True])
def test_the_rule_under_which_pairs_agree_is_the_right_one(face, open_model, stage, glossy, monkeypatch):
    """Of all rules the chosen one's depths are nearest to the truth, or as near as to a twentieth."""
    problem, state = _at_the_truth(face, open_model, _glossy(face) if glossy else None)
    found, log = run_mixture_choice(problem, state, stage)
    chosen = log.note.removeprefix("mixtures: ")
    apart = {name: log.residuals[f"depths_apart_mm_{name}"] for name in RULES}
    assert apart[chosen] <= min(apart.values()) / (1.0 - MARGIN)
    assert ("differences" in chosen) == glossy
    errors = {}
    for name in RULES:
        monkeypatch.setattr("fitter.optimise.mixture_choice.RULES", {name: RULES[name]})
        alone, _ = run_mixture_choice(problem, state, stage)
        samples = surface_samples(open_model, stage.passes[0].samples)
        channels, trust = compared_channels(problem, alone, stage, samples, 320)
        assert torch.equal(channels, alone.mixtures)
        errors[name] = _depth_errors(problem, state, stage, channels, trust)
    assert errors[chosen] <= 1.05 * min(errors.values())
    if glossy:
        assert errors[chosen] < 0.85 * errors["usual"]
    assert found.mixtures.shape[:2] == (3, 2)


def test_another_rule_than_the_usual_must_be_clearly_better():
    within, beyond = 1.0 - 0.5 * MARGIN, 1.0 - 2.0 * MARGIN
    assert chosen_rule({"usual": 1.0, "less_gloss": within, "differences": 1.1}) == "usual"
    assert chosen_rule({"usual": 1.0, "less_gloss": within, "differences": beyond}) == "differences"
    assert chosen_rule({"usual": float("inf"), "less_gloss": float("inf")}) == "usual"
    assert chosen_rule({"usual": float("inf"), "less_gloss": 0.3}) == "less_gloss"


def test_the_choice_is_kept_with_the_state(face, open_model, stage, tmp_path):
    problem, state = _at_the_truth(face, open_model)
    found, _ = run_mixture_choice(problem, state, stage)
    save_checkpoint(tmp_path, found, [], "key")
    kept, _ = load_checkpoint(tmp_path, "key")
    assert torch.equal(kept.mixtures, found.mixtures)
    save_checkpoint(tmp_path, state, [], "key")
    assert load_checkpoint(tmp_path, "key")[0].mixtures.shape[0] == 0


def test_two_views_choose_as_well_and_one_does_not(face, open_model, stage):
    problem, state = _at_the_truth(
        replace(face, session=replace(face.session, views=face.session.views[:2])), open_model
    )
    found, log = run_mixture_choice(problem, state, stage)
    assert found.mixtures.shape[0] == 2 and log.steps == len(RULES)
    problem, state = _at_the_truth(
        replace(face, session=replace(face.session, views=face.session.views[:1])), open_model
    )
    found, log = run_mixture_choice(problem, state, stage)
    assert found.mixtures.shape[0] == 0 and log.steps == 0 and "one view" in log.note


def test_views_are_paired_with_the_one_they_share_most_with():
    """Four views on a row of four samples; the last shares a little with the third only."""
    seen = torch.tensor([[1.0, 1, 0, 0], [1.0, 1, 0.2, 0], [0, 0.5, 1, 0.5], [0, 0, 0.1, 1]])[:, None]
    assert overlapping_pairs(seen) == [(0, 1), (1, 2), (2, 3)]

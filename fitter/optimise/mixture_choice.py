"""Which mixtures of the colours are compared: the photographs are asked.

What the views share in a mixture and what they disagree on (`fitter/energies/channel.py`) says how strong its texture is,
but not whether the views agree on a highlight, at a wrong depth. Pairs of views do: each finds depths of its own, and a
mixture that shows the surface puts them at one place, while gloss and noise put them apart. So a few rules are tried on
the surface as it is, and the one under which the pairs agree best is kept for all stages that follow.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from fitter.energies.channel import USUAL, MixtureRule, colour_gains, equally_exposed, highlight_trust
from fitter.energies.depth_agreement import depths_apart
from fitter.energies.depth_cost import estimate_depth
from fitter.hierarchy.face import FaceState
from fitter.hierarchy.samples import surface_samples
from fitter.optimise.comparison import COMPARISON_SETTINGS, Compared, colours_on_grid, mixtures_by
from fitter.optimise.config import Stage
from fitter.optimise.placed_samples import PlacedSamples, deformed_surface
from fitter.optimise.problem import Problem, StageLog, setting
from fitter.optimise.swept_cost import ViewComparison, depth_cost
from fitter.optimise.views import sample_views

CHOICE_SETTINGS: dict[str, frozenset[str]] = {
    "consistency": COMPARISON_SETTINGS,
    "depth": frozenset({"reach_mm", "step_mm", "patch"}),
}
"""Energies of the choice, with their settings."""
RULES = {
    "usual": USUAL,
    "less_gloss": MixtureRule(gloss=3.0, doubt=0.5),
    "differences": MixtureRule(differences=True, gloss=20.0, doubt=0.5),
    "differences_less_gloss": MixtureRule(differences=True, gloss=3.0, doubt=0.5),
}
"""The rules that are tried."""
MARGIN = 0.02
"""By how much of the usual rule's distance between the pairs' depths another must beat it. Under noise several rules can
be within a per cent of each other, and which is least then says nothing."""


def run_mixture_choice(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """Try the rules where M1 is, and keep the mixtures whose depths agree best from pair to pair of the views."""
    log = StageLog()
    if state.view_count < 2:
        log.note = "one view: photo-consistency has nothing to compare"
        return state, log
    now = stage.passes[0]
    samples = surface_samples(problem.model, now.samples)
    surface = deformed_surface(problem, state, samples)
    colours, weight = colours_on_grid(problem, state, samples, now.image)
    trust, gains = highlight_trust(colours, weight), colour_gains(colours, weight)
    pairs = overlapping_pairs(weight)
    found = {}
    for name, rule in RULES.items():
        mixtures = equally_exposed(mixtures_by(rule, stage, samples, colours, weight), gains)
        compared = Compared(problem.observation.signals(now.image, mixtures), trust)
        apart = float(_pairs_apart(state, stage, compared, surface, pairs))
        found[name] = apart, mixtures
        if math.isfinite(apart):
            log.residuals[f"depths_apart_mm_{name}"] = apart
        log.steps += 1
        problem.on_step(stage.name, log.steps, len(RULES), apart)
    best = chosen_rule({name: apart for name, (apart, _) in found.items()})
    log.note = f"mixtures: {best}"
    return replace(state, mixtures=found[best][1]), log


def chosen_rule(apart: dict[str, float]) -> str:
    """The rule of least distance, or the usual one where none beats it by more than `MARGIN`."""
    best = min(apart, key=apart.__getitem__)
    return best if apart[best] < (1.0 - MARGIN) * apart.get("usual", math.inf) else "usual"


def overlapping_pairs(weight: Tensor) -> list[tuple[int, int]]:
    """Each view and the one that shares most with it, every pair once; how well views see the samples is [N, S, S]."""
    shared = torch.minimum(weight[:, None], weight[None]).sum((2, 3))
    shared.fill_diagonal_(-1.0)
    partners = shared.argmax(1).tolist()
    return sorted({(min(view, other), max(view, other)) for view, other in enumerate(partners)})


def _pairs_apart(
    state: FaceState, stage: Stage, compared: Compared, surface: PlacedSamples, pairs: list[tuple[int, int]]
) -> Tensor:
    """How far the depths are apart, mm, that pairs of views find for the samples."""
    sampled = sample_views(
        state, compared.signals, surface.samples, surface.geometry, surface.topology, points=surface.points
    )
    step, reach = setting(stage, "depth", "step_mm", 0.25), setting(stage, "depth", "reach_mm", 1.5)
    count = max(round(reach / step), 1)
    depths = torch.arange(-count, count + 1, device=state.identity.device, dtype=state.identity.dtype) * step
    offsets, curvatures = [], []
    for pair in pairs:
        chosen = torch.zeros_like(sampled[0].weight[:, :1])
        chosen[list(pair)] = 1.0
        of_pair = tuple(replace(one, weight=one.weight * chosen) for one in sampled)
        comparison = ViewComparison.of(stage, compared, surface.samples, of_pair, 1.0)
        estimate = estimate_depth(depth_cost(state, compared, surface, comparison, depths))
        offsets.append(estimate.offset * step)
        curvatures.append(estimate.curvature)
    return depths_apart(torch.stack(offsets), torch.stack(curvatures), 0.5 * reach)

"""The one loop over stages."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fitter.errors import InputError
from fitter.hierarchy.face import FaceState
from fitter.optimise.adam import StageContext, run_adam_stage
from fitter.optimise.config import Configuration, Stage
from fitter.optimise.depth_sweep import SWEEP_SETTINGS, run_depth_sweep
from fitter.optimise.gauss_newton import SETTINGS, run_gauss_newton
from fitter.optimise.lighting_stage import solve_lighting_and_albedo
from fitter.optimise.mean_of_views import run_mean_of_views
from fitter.optimise.mixture_choice import CHOICE_SETTINGS, run_mixture_choice
from fitter.optimise.problem import Problem, StageLog
from fitter.optimise.ray_displacement import RAY_SETTINGS, run_ray_cast
from fitter.optimise.render_energies import check_settings
from fitter.optimise.scan_energies import has_landmarks
from fitter.optimise.start import run_focal_search, run_initialise, run_usual_deformation

CHOICES = {"mode": ("gain", "lcn"), "channel": ("best", "single", "grey"), "around": ("zero", "start", "people")}
"""Settings of Gauss-Newton energies that are words; all others are numbers."""
DIVISORS = {"sigma", "sigma_mm", "robust", "gate", "lowpass", "mixture_width", "window", "step_mm", "patch"}
"""Numbers that must not be zero."""
KNOWN_SETTINGS = {
    "gauss_newton": SETTINGS,
    "focal_search": SETTINGS,
    "depth_sweep": SWEEP_SETTINGS,
    "mixture_choice": CHOICE_SETTINGS,
    "ray_cast": RAY_SETTINGS,
}
"""Energies and their settings, of the solvers that are not Adam."""
MOVES = {"depth_sweep": {"deformation", "displacement"}, "ray_cast": {"displacement"}}
"""What those solvers can free that move maps only."""
VIEWS = {
    "none": (0, 0),
    "one": (1, 1),
    "two": (2, 2),
    "three or more": (3, math.inf),
    "several": (2, math.inf),
    "some": (1, math.inf),
    "any": (0, math.inf),
}
"""Least and most views of the sessions that a stage is meant for."""
NEEDS_MASKS = {"contour", "silhouette"}
"""Energies that compare with a face mask."""


@dataclass(frozen=True)
class FinishedStage:
    """A stage that has run."""

    name: str
    seconds: float
    log: StageLog


def check_configuration(configuration: Configuration) -> None:
    """Refuse what the stages' solvers do not have: energies, settings, free parameters. Before any work is done.

    Raises:
        InputError: Naming the stage, the key and what would be known.
    """
    for stage in configuration.stages:
        moves = MOVES.get(stage.solver, set(stage.free))
        if not set(stage.free) <= moves or (stage.solver in MOVES and not stage.free):
            raise InputError(
                f"stage '{stage.name}', free",
                ", ".join(sorted(set(stage.free) - moves)) or "nothing",
                f"{' or '.join(sorted(moves))} for {stage.solver}",
                "Correct the list, or use another solver.",
            )
        if stage.solver == "adam":
            check_settings(stage.energies, stage.name)
            continue
        known = KNOWN_SETTINGS.get(stage.solver, {})
        for energy, settings in stage.energies.items():
            place = f"stage '{stage.name}', energy '{energy}'"
            if energy not in known:
                raise InputError(
                    place, f"no energy of this name for {stage.solver}", ", ".join(known) or "none", "Correct the name."
                )
            unknown = sorted(set(settings) - known[energy])
            if unknown:
                raise InputError(
                    place, f"the unknown setting '{unknown[0]}'", ", ".join(sorted(known[energy])), "Correct the key."
                )
            _check_values(settings, place)


def _check_values(settings: dict[str, Any], place: str) -> None:
    for key, value in settings.items():
        if key in CHOICES:
            good, expected = value in CHOICES[key], " or ".join(CHOICES[key])
        else:
            pair = isinstance(value, list | tuple) and len(value) == 2
            good = all(_is_number(one, above_zero=key in DIVISORS) for one in (value if pair else [value]))
            bound = "above 0" if key in DIVISORS else "0 or above"
            expected = f"a number {bound}, or two: [at the first step, at the last]"
        if not good:
            raise InputError(place, f"{value!r} for '{key}'", expected, "Correct the value.")


def _is_number(value: Any, *, above_zero: bool) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return number and (value > 0 if above_zero else value >= 0)


def applies(stage: Stage, problem: Problem) -> bool:
    """Whether a stage is meant for this session."""
    least, most = VIEWS[stage.views]
    if not least <= problem.observation.view_count <= most:
        return False
    if stage.scan_landmarks != "any" and (stage.scan_landmarks == "known") != has_landmarks(problem):
        return False
    return stage.cameras == "any" or (stage.cameras == "known") == problem.cameras_known


def run_adam(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """An Adam stage, with face masks where one of its energies needs them."""
    masks = ()
    if NEEDS_MASKS & set(stage.energies):
        if problem.face_masks is None:
            raise ValueError(f"stage {stage.name} needs face masks, and the problem brings no way to find them")
        masks = tuple(problem.face_masks(problem.model, state, problem.observation))
    context = StageContext(
        face_masks=masks,
        on_step=lambda name, step, steps, energies: problem.on_step(name, step, steps, sum(energies.values())),
    )
    state, log = run_adam_stage(problem.model, state, problem.observation, stage, context)
    return state, StageLog(log.steps, dict(log.energies), dict(log.residuals))


def run_closed_form(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """Lighting and albedo coefficients in closed form."""
    state = solve_lighting_and_albedo(problem.model, state, problem.observation)
    problem.on_step(stage.name, 1, 1, 0.0)
    return state, StageLog(steps=1)


def run_mean(problem: Problem, state: FaceState, stage: Stage) -> tuple[FaceState, StageLog]:
    """Every view alone, then their mean (HRN's canonical space)."""
    alone = {name: solver for name, solver in SOLVERS.items() if name != "mean_of_views"}
    return run_mean_of_views(problem, state, stage, alone)


SOLVERS: dict[str, Callable[[Problem, FaceState, Stage], tuple[FaceState, StageLog]]] = {
    "initialise": run_initialise,
    "focal_search": run_focal_search,
    "gauss_newton": run_gauss_newton,
    "closed_form": run_closed_form,
    "adam": run_adam,
    "mean_of_views": run_mean,
    "ray_cast": run_ray_cast,
    "depth_sweep": run_depth_sweep,
    "mixture_choice": run_mixture_choice,
    "usual_deformation": run_usual_deformation,
}


def run_stages(
    problem: Problem,
    state: FaceState,
    *,
    finished: list[FinishedStage] | None = None,
    on_stage: Callable[[Stage, FaceState, FinishedStage], None] | None = None,
) -> tuple[FaceState, list[FinishedStage]]:
    """Run the configuration's stages in order.

    Args:
        problem: What is to be fitted.
        state: Where to start, or where the last finished stage left off.
        finished: Stages that ran before (of an interrupted fit); they are not repeated.
        on_stage: Called after each stage, to keep what it found.

    Returns:
        The state, and all stages as they ran.
    """
    done = list(finished or [])
    stages = [stage for stage in problem.configuration.stages if applies(stage, problem)]
    for stage in stages[len(done) :]:
        began = time.perf_counter()
        # Only Adam differentiates; elsewhere autograd would merely record.
        with torch.set_grad_enabled(stage.solver == "adam"):
            state, log = SOLVERS[stage.solver](problem, state, stage)
        done.append(FinishedStage(stage.name, time.perf_counter() - began, log))
        if on_stage is not None:
            on_stage(stage, state, done[-1])
    return state, done

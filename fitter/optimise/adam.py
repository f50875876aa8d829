"""Analysis by synthesis: Adam on coefficients, maps, light and poses, through the renderer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fitter.errors import InputError
from fitter.hierarchy.face import FaceState
from fitter.model.morphable import MorphableModel
from fitter.optimise.config import Stage
from fitter.optimise.contours import FaceOutline
from fitter.optimise.map_solver import MAP_BORDER, fade_border
from fitter.optimise.observation import Observation
from fitter.optimise.parameters import build_layout, take_step
from fitter.optimise.render_energies import check_settings, evaluate, view_weights
from fitter.optimise.scene import Scene, StageInputs, build_scene, make_choices, stage_inputs

POSES = ("head_pose", "scale", "camera_pose", "focal")
"""Parameters that are increments of the state with which the stage began."""

LEARNING_RATES = {
    "identity": 0.02,
    "expression": 0.01,
    "albedo": 0.02,
    "lighting": 0.01,
    "deformation": 0.03,
    "displacement": 0.01,
    "head_pose": 0.1,
    "camera_pose": 0.1,
    "scale": 1e-3,
    "focal": 1e-3,
}
"""Adam's steps where a stage gives none: standard deviations, mm for maps and poses, logarithms for scale and focal."""

ARM_MM = 100.0
"""Lever at which a rotation is measured in mm, so that one learning rate serves both halves of a pose."""

MAPS = ("deformation", "displacement")

REFRESH = 10
"""Steps after which the jaw's vertices and the landmarks' visibility are chosen anew."""


@dataclass(frozen=True)
class StageContext:
    """What a stage gets beside state and observation."""

    face_masks: tuple[FaceOutline | None, ...] = ()
    """Per view, of `fitter.face_masks`; needed by the energies contour and silhouette."""
    on_step: Callable[[str, int, int, dict[str, float]], None] | None = None
    """Called as on_step(stage, step, steps, energies) after every step."""


@dataclass(frozen=True)
class StageLog:
    """What a stage did, for the record beside the result."""

    energies: dict[str, tuple[float, float]]
    """name -> weighted value before and after."""
    residuals: dict[str, float]
    """Residuals after the stage in units that mean something: see `scene_residuals`."""
    steps: int


@torch.enable_grad()
def run_adam_stage(
    model: MorphableModel, state: FaceState, observation: Observation, stage: Stage, context: StageContext
) -> tuple[FaceState, StageLog]:
    """Minimise the stage's energies with Adam.

    The learning rates fall to a tenth along a cosine. Named expressions are put back into [0, 1] after every step. A
    free displacement is one map per view while the stage runs (as HRN's) and is fused by visibility at its end. An
    interrupt between two steps leaves `state` as it was.

    Args:
        model: The face model.
        state: Where to start; not changed.
        observation: Photographs and landmarks.
        stage: What is free, energies with their settings, steps, learning rates, side of the crops.
        context: Face masks, progress.

    Returns:
        The new state and the log.

    Raises:
        InputError: Energies or settings that do not exist, or an energy that is not finite.
        MissingPartError: An energy needs an optional part that is not here.
    """
    levels = check_settings(stage.energies, stage.name)
    inputs = stage_inputs(model, state, observation, context.face_masks, stage.image)
    parameters = free_parameters(state, stage.free)
    fades = {name: fade_border(getattr(state, name).shape[-1], MAP_BORDER, state.identity) for name in MAPS}
    rates = _learning_rates(stage)
    optimiser = Adam(list(parameters.values()))
    choices = make_choices(inputs, state, inputs.start_vertices)
    before: dict[str, float] = {}
    history: list[float] = []
    for step in range(stage.steps):
        current, displacement = assemble(model, state, parameters, fades)
        if step % REFRESH == 0 and step > 0:
            with torch.no_grad():
                surface = build_scene(inputs, choices, current, displacement, frozenset()).vertices
            choices = make_choices(inputs, detached(current), surface)
        scene = build_scene(inputs, choices, current, displacement, levels)
        values = evaluate(scene, stage.energies)
        total = sum(values.values())
        _check_finite(total, values, stage.name)
        gradients = torch.autograd.grad(total, optimiser.parameters, allow_unused=True)
        fall = _fallen_rate(step / stage.steps)
        optimiser.step(gradients, [rates[name] * fall for name in parameters])
        _keep_expressions(model, parameters)
        numbers = {name: float(value.detach()) for name, value in values.items()}
        before = before or numbers
        history.append(sum(numbers.values()))
        if context.on_step is not None:
            context.on_step(stage.name, step + 1, stage.steps, numbers)
        if stage.tolerance > 0 and _stalled(history, stage.tolerance):
            break
    with torch.no_grad():
        current, displacement = assemble(model, state, parameters, fades)
        scene = build_scene(inputs, choices, current, displacement, levels)
        energies = {name: (before[name], float(value)) for name, value in evaluate(scene, stage.energies).items()}
        if "displacement" in parameters:
            current = replace(current, displacement=fuse_displacements(scene))
    return detached(current), StageLog(energies, scene_residuals(scene), len(history))


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1).

    Our own twelve lines: the first step of torch's optimiser imports its compiler, two seconds of a fit.
    """

    def __init__(self, parameters: list[Tensor], decay: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8):
        self.parameters, self.decay, self.epsilon, self.count = parameters, decay, epsilon, 0
        self.first = [torch.zeros_like(parameter) for parameter in parameters]
        self.second = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], rates: Sequence[float]) -> None:
        """Move every parameter by its gradient at its rate; a parameter without gradient stays."""
        self.count += 1
        slow, slower = self.decay
        for index, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
            if gradient is None:
                continue
            first = self.first[index].mul_(slow).add_(gradient, alpha=1.0 - slow) / (1.0 - slow**self.count)
            second = self.second[index].mul_(slower).addcmul_(gradient, gradient, value=1.0 - slower)
            self.parameters[index] -= rate * first / ((second / (1.0 - slower**self.count)).sqrt() + self.epsilon)


def _fallen_rate(done: float) -> float:
    """Factor on learning rates when the fraction `done` of the stage is over: a cosine from 1 to a tenth."""
    return 0.1 + 0.45 * (1.0 + math.cos(math.pi * done))


def _learning_rates(stage: Stage) -> dict[str, float]:
    """The stage's own learning rates, and the usual ones for the rest."""
    unknown = set(stage.learning_rates) - set(LEARNING_RATES)
    if unknown:
        place = f"stage '{stage.name}', learning_rates"
        raise InputError(place, f"no parameter '{min(unknown)}'", ", ".join(LEARNING_RATES), "Correct the name.")
    return {**LEARNING_RATES, **stage.learning_rates}


def free_parameters(state: FaceState, free: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors that Adam moves, by name; poses and the deformation map as increments, displacements per view."""
    views = state.view_count
    zeros = state.identity.new_zeros
    starts = {
        "head_pose": lambda: zeros(6),
        "scale": lambda: zeros(1),
        "camera_pose": lambda: zeros(views, 6),
        "focal": lambda: zeros(1),
        "deformation": lambda: torch.zeros_like(state.deformation),
        "displacement": lambda: zeros(views, *state.displacement.shape),
    }
    values = {name: starts[name]() if name in starts else getattr(state, name).clone() for name in free}
    return {name: value.detach().requires_grad_(True) for name, value in values.items()}


def assemble(
    model: MorphableModel, start: FaceState, parameters: dict[str, Tensor], fades: dict[str, Tensor]
) -> tuple[FaceState, Tensor]:
    """The state of the parameters, and the views' displacement maps [N, S, S]."""
    layout = build_layout(tuple(name for name in parameters if name in POSES), model, start)
    state = start
    if layout.size:
        step = torch.cat([_pose_step(name, parameters[name]) for name in layout.slices])
        state = take_step(start, layout, step, False)
    direct = ("identity", "expression", "albedo", "lighting")
    changes = {name: parameters[name] for name in direct if name in parameters}
    if "deformation" in parameters:
        changes["deformation"] = start.deformation + parameters["deformation"] * fades["deformation"]
    displacement = start.displacement.expand(start.view_count, -1, -1)
    if "displacement" in parameters:
        displacement = displacement + parameters["displacement"] * fades["displacement"]
    return replace(state, **changes), displacement


def _pose_step(name: str, value: Tensor) -> Tensor:
    """One pose parameter as the flat increment that `take_step` expects (rotations in radians)."""
    if name in ("scale", "focal"):
        return value
    lever = value.new_tensor([ARM_MM] * 3 + [1.0] * 3)
    return (value / lever).flatten()


def detached(state: FaceState) -> FaceState:
    """The state without its graph."""
    return replace(state, **{name: value.clone() for name, value in state.tensors().items()})


@torch.no_grad()
def _keep_expressions(model: MorphableModel, parameters: dict[str, Tensor]) -> None:
    """Named expressions live in [0, 1]; projecting the parameter (not its use) lets its gradient back in."""
    if model.expressions_are_named and "expression" in parameters:
        parameters["expression"].clamp_(0.0, 1.0)


def _check_finite(total: Tensor, values: dict[str, Tensor], stage: str) -> None:
    if not bool(torch.isfinite(total)):
        broken = [name for name, value in values.items() if not bool(torch.isfinite(value))]
        raise InputError(
            f"stage '{stage}'",
            f"an energy that is not finite: {', '.join(broken)}",
            "numbers",
            "Lower the stage's learning rates, or check the landmarks and cameras.",
        )


def _stalled(history: list[float], tolerance: float) -> bool:
    """Whether the last ten steps together have won less than ten times the tolerance."""
    return len(history) > 10 and history[-11] - history[-1] < 10 * tolerance * abs(history[-11])


@torch.no_grad()
def fuse_displacements(scene: Scene) -> Tensor:
    """One map [S, S] of the views' [N, S, S]: weighted by how well each view sees the texel, 0 where none does."""
    resolution = scene.displacement.shape[-1]
    seen_now = replace(scene, inputs=replace(scene.inputs, start=scene.state, start_vertices=scene.vertices))
    samples, weights = view_weights(seen_now, resolution)
    grid = samples.to_grid(weights.T).permute(2, 0, 1)
    return (scene.displacement * grid).sum(0) / grid.sum(0).clamp_min(1e-3)


@torch.no_grad()
def scene_residuals(scene: Scene) -> dict[str, float]:
    """Landmark distance (median, px of the photographs and mm on the face) and relative colour difference (median)."""
    residuals: dict[str, float] = {}
    observation: Observation = scene.inputs.observation
    inputs: StageInputs = scene.inputs
    if observation.landmarks is not None and observation.landmarks.shape == scene.landmarks.shape:
        kept = (observation.landmark_confidence > 0) & (scene.choices.landmark_weight > 0)
        distance = (scene.landmarks - observation.landmarks).norm(dim=-1)
        origin = scene.state.world_from_model[:3, 3]
        cam = scene.state.cam_from_world[:, :3, :3] @ origin + scene.state.cam_from_world[:, :3, 3]
        mm = distance * (cam[:, 2] / scene.state.intrinsics[:, 0, 0])[:, None]
        if bool(kept.any()):
            residuals["landmark_px"] = float(distance[kept].median())
            residuals["landmark_mm"] = float(mm[kept].median())
    for name, render in (("colour_m1", scene.render_m1), ("colour_m2", scene.render_m2)):
        if render is None:
            continue
        seen = render.triangle_id.long()
        shown = inputs.attended[seen.clamp_min(0)] & (seen >= 0) & (inputs.crops.usable > 0)
        difference = (render.colour - inputs.crops.colour).norm(dim=-1) / inputs.brightness[:, None, None]
        if bool(shown.any()):
            residuals[name] = float(difference[shown].median())
    return residuals

"""What stays fixed while a face is fitted, and what a stage reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fitter.kernels.topology import MeshTopology
from fitter.model.morphable import MorphableModel
from fitter.optimise.config import Configuration, Stage
from fitter.optimise.observation import Observation
from fitter.optimise.scan_target import ScanTarget


@dataclass(frozen=True, eq=False)
class Problem:
    """The model, the photographs, and what is known about the cameras."""

    model: MorphableModel
    observation: Observation
    topology: MeshTopology
    configuration: Configuration
    rig: bool
    """One instant and one light (True), or each view its own (False)."""
    cameras_known: bool
    focal_known: bool
    metric: bool
    """Whether the cameras' unit is known."""
    scan: ScanTarget | None = None
    """The subject's scan, where there is one."""
    channels: Tensor | None = None
    """[C, 3] mixtures of red, green and blue that photo-consistency compares, where decided; else stages find them."""
    face_masks: Callable | None = None
    """(model, state, observation) -> per-view face masks; None where no stage asks for contours."""
    on_step: Callable[[str, int, int, float], None] = field(default=lambda stage, step, steps, energy: None)
    """Called after every step with the stage's name, the step, how many there are, and the energy."""


@dataclass
class StageLog:
    """What a stage reports: energies before and after, residuals in their own units."""

    steps: int = 0
    energies: dict[str, tuple[float, float]] = field(default_factory=dict)
    residuals: dict[str, float] = field(default_factory=dict)
    note: str = ""

    def energy(self, name: str, value: float) -> None:
        """Keep the first and the latest value of an energy."""
        first = self.energies.get(name, (value, value))[0]
        self.energies[name] = (first, value)

    @property
    def total(self) -> float:
        """Sum of the latest values."""
        return sum(after for _, after in self.energies.values())


def setting(stage: Stage, energy: str, name: str, default, progress: float = 1.0):
    """One setting of one of the stage's energies.

    A pair [first, last] changes geometrically (linearly from or to 0) over the stage's steps; `progress` in [0, 1] says
    how far they are.
    """
    value = stage.energies.get(energy, {}).get(name, default)
    if not isinstance(value, list | tuple):
        return value
    first, last = value
    if first > 0 and last > 0:
        return first * (last / first) ** progress
    return first + (last - first) * progress


def landmark_embedding(model: MorphableModel, observation: Observation):
    """The model's landmarks in the scheme of the observation."""
    if observation.landmark_scheme == "mediapipe":
        return model.mediapipe
    return model.landmarks


def frontal_cosine(state, view: int) -> Tensor:
    """Cosine between the face's forward axis and the direction to a view's camera, []."""
    forward = state.world_from_model[:3, 2]
    centre = -state.cam_from_world[view, :3, :3].T @ state.cam_from_world[view, :3, 3]
    return torch.nn.functional.normalize(centre - state.world_from_model[:3, 3], dim=0) @ forward

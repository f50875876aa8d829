"""A fit as data: stages over named energies, read from YAML with unknown keys refused."""

from __future__ import annotations

from dataclasses import asdict, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from fitter.errors import InputError

STRICT = ConfigDict(extra="forbid", frozen=True)
Free = Literal[
    "head_pose",
    "scale",
    "camera_pose",
    "focal",
    "identity",
    "expression",
    "albedo",
    "lighting",
    "deformation",
    "displacement",
]


@dataclass(config=STRICT)
class Maps:
    """Sizes of the maps, texels per side."""

    deformation: int = Field(64, ge=8, le=512)
    displacement: int = Field(256, ge=32, le=4096)
    texture: int = Field(1024, ge=64, le=8192)
    dense_levels: int = Field(1, ge=0, le=3)
    """Subdivisions of M1 that make the dense mesh of M2."""


@dataclass(config=STRICT)
class Pass:
    """One pass of a Gauss-Newton stage: how finely surface and photographs are sampled, and how often."""

    samples: int = Field(192, ge=16, le=4096)
    """Samples per side of the atlas."""
    image: int = Field(512, ge=32)
    """The photographs' level with at least this many pixels along the longer side."""
    steps: int = Field(4, ge=1)


@dataclass(config=STRICT)
class Stage:
    """One stage: what is free, which energies with which settings, which solver, how long."""

    name: str
    solver: Literal[
        "initialise",
        "gauss_newton",
        "adam",
        "closed_form",
        "focal_search",
        "mean_of_views",
        "ray_cast",
        "depth_sweep",
        "mixture_choice",
        "usual_deformation",
    ]
    free: tuple[Free, ...] = ()
    energies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """name -> settings; `weight` is one of them, the rest are the energy's own."""
    passes: tuple[Pass, ...] = ()
    """Gauss-Newton: coarse to fine."""
    image: int = Field(384, ge=32)
    """Adam: longest side of the rendered images, px."""
    steps: int = Field(60, ge=1)
    """Adam: steps."""
    learning_rates: dict[str, float] = field(default_factory=dict)
    """Adam: per free parameter, in its own unit (mm for maps, radians and mm for poses)."""
    tolerance: float = Field(0.0, ge=0.0)
    """Stop when the energy of a step has fallen by less than this fraction (0: never)."""
    views: Literal["any", "none", "some", "one", "two", "several", "three or more"] = "any"
    """Run only for sessions of so many views."""
    cameras: Literal["any", "known", "unknown"] = "any"
    """Run only where cameras are known, or unknown."""
    scan_landmarks: Literal["any", "known", "unknown"] = "any"
    """Run only for a scan with landmarks, or without."""


@dataclass(config=STRICT)
class Configuration:
    """Everything that decides a fit, beside its input."""

    name: str
    stages: tuple[Stage, ...]
    maps: Maps = field(default_factory=Maps)
    expression_per_view: Literal["auto", "always", "never"] = "auto"
    """auto: one expression in a rig, one per view in a casual session."""
    description: str = ""


_ADAPTER = TypeAdapter(Configuration)
PRESETS = ("session", "photo", "draft", "mv_hrn", "scan")


def configuration_from(data: object, where: str) -> Configuration:
    """Validate parsed YAML.

    Raises:
        InputError: An unknown key, a wrong type or value, with its place.
    """
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top level"
        found = f"{first['msg'].lower()} at '{place}'"
        raise InputError(
            where, found, "the keys and values of docs/configuration.md", "Correct the key or remove it."
        ) from error


def load_configuration(name_or_path: str) -> Configuration:
    """Read a preset by name, or a YAML file by path.

    Raises:
        InputError: No such preset or file, not YAML, or not a configuration.
    """
    if name_or_path in PRESETS:
        text = resources.files("configs").joinpath(f"{name_or_path}.yaml").read_text("utf-8")
        where = f"preset {name_or_path}"
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise InputError(
                name_or_path, "no such file", f"a preset ({', '.join(PRESETS)}) or a YAML file", "Check the name."
            )
        where = str(path)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                where, f"a file that cannot be read as text ({error})", "YAML", "Check the file."
            ) from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(where, f"text that is not YAML ({error})", "a configuration", "Correct the file.") from error
    return configuration_from(data, where)


def configuration_to_dict(configuration: Configuration) -> dict[str, Any]:
    """Plain data for the record beside a result."""
    return asdict(configuration)

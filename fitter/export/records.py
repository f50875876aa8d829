"""The JSON files of a result: fit.json, coefficients.json, landmarks3d.json. No times, no dates, no machine."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from fitter import __version__
from fitter.export.cameras import unit_name
from fitter.result.types import FitResult, StageRecord, ViewResult

DISTRIBUTION = "hrn-fitter"
RECORDED_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "numba",
    "libigl",
    "anny",
    "warp-lang",
    "nvdiffrast",
    "pillow",
    "OpenEXR",
    "pygltflib",
)
"""Packages whose version can change a result's bytes."""


def plain(value: Any) -> Any:
    """Turn arrays, tensors, paths and tuples into what JSON knows; numbers that are not finite become null."""
    if isinstance(value, torch.Tensor):
        return plain(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.as_posix() if isinstance(value, PurePath) else str(value)


def json_bytes(record: Any) -> bytes:
    """UTF-8 JSON with a fixed layout: equal records give equal bytes."""
    return (json.dumps(plain(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def version_of(package: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def fit_record(result: FitResult) -> dict[str, Any]:
    """The content of fit.json."""
    packages = {name: version for name in RECORDED_PACKAGES if (version := version_of(name))}
    reference = result.views[result.reference_view].name if result.views else None
    return {
        "format": "hrn-fit-1",
        "version": __version__,
        "session": result.session.name,
        "kind": result.session.kind,
        "seed": result.seed,
        "device": result.device,
        "unit": unit_name(result),
        "mm_per_unit": result.mm_per_unit,
        "metric": result.metric,
        "reference_view": reference,
        "world_from_model": _similarity_in_units(result),
        "views": [_view(view) for view in result.views],
        "scan": None if result.scan is None else scan_record(result),
        "skipped": [{"file": name, "reason": reason} for name, reason in result.session.skipped],
        "warnings": list(all_warnings(result)),
        "stages": [_stage(stage) for stage in result.stages],
        "model": {"name": result.model.name, "vertices": result.model.vertex_count, "source": result.model.source},
        "configuration": result.configuration,
        "packages": {"python": platform.python_version(), **packages},
    }


def all_warnings(result: FitResult) -> tuple[str, ...]:
    """The session's and the fit's warnings, each once, in order."""
    return tuple(dict.fromkeys([*result.session.warnings, *result.warnings]))


def _similarity_in_units(result: FitResult) -> np.ndarray:
    """[4, 4] from model millimetres to session units."""
    matrix = np.array(result.world_from_model, np.float64)
    matrix[:3] /= result.mm_per_unit
    return matrix


def _view(view: ViewResult) -> dict[str, Any]:
    """How well one view was fitted: landmarks by the eye distance, T' by sRGB-encoded values from 0 to 1."""
    return {
        "name": view.name,
        "landmark_error": view.landmark_error,
        "realigned_texture_difference": view.realigned_difference,
    }


def scan_record(result: FitResult) -> dict[str, Any]:
    """What became of the scan: how it was found, distances per level with and without eyes and mouth, landmarks."""
    outcome = result.scan
    landmarks = None
    if outcome.landmark_mm is not None:
        landmarks = {
            level: {"median_mm": float(np.median(found)), "mean_mm": float(np.mean(found)), "points": len(found)}
            for level, found in outcome.landmark_mm.items()
        }
    return {
        "file": result.session.scan.path.name,
        "unit": result.session.scan.unit,
        "alignment": outcome.alignment,
        "counted": "equal-area samples of the scan within 80 mm of the fitted nose tip that face forward, other than "
        "those the fit used, to the closest point of the fit",
        "skin": "without those whose closest point is on eye apertures, nostrils or the inside of the mouth",
        "levels": {
            level: {part: asdict(numbers) for part, numbers in parts.items()}
            for level, parts in outcome.residuals.items()
        },
        "landmarks": landmarks,
        "flipped_triangles": outcome.flipped_triangles,
        "counted_triangles": outcome.counted_triangles,
        "noise_mm": outcome.noise_mm,
        "edge_mm": outcome.edge_mm,
        "valid_share": {"map": float(outcome.valid[result.map_valid].mean()), "face": face_valid_share(result)},
    }


def face_valid_share(result: FitResult) -> float:
    """Share of the model's face region that was measured on the scan, by the model's vertices."""
    size = len(result.scan.valid)
    uv = result.model.atlas_uv.cpu().numpy()[result.model.regions["face"].cpu().numpy()]
    column, row = np.clip((uv * size).astype(int), 0, size - 1).T
    return float(result.scan.valid[row, column].mean())


def _stage(stage: StageRecord) -> dict[str, Any]:
    """One stage without its seconds, which differ from run to run."""
    energies = {name: {"before": before, "after": after} for name, (before, after) in stage.energies.items()}
    return {
        "name": stage.name,
        "steps": stage.steps,
        "energies": energies,
        "residuals": stage.residuals,
        "note": stage.note,
    }


def coefficient_record(result: FitResult) -> dict[str, Any]:
    """The content of coefficients.json: the model's coefficients, and each view's expression and light."""
    names = result.model.expression_names
    views = {
        view.name: {
            "expression": dict(zip(names, plain(np.asarray(view.expression)), strict=True)),
            "lighting_sh9_rgb": np.asarray(view.lighting),
        }
        for view in result.views
    }
    return {
        "model": result.model.name,
        "identity": result.identity,
        "expression": dict(zip(names, plain(np.asarray(result.expression)), strict=True)),
        "albedo": result.albedo,
        "expression_unit": "0 to 1, fully on" if result.model.expressions_are_named else "standard deviations",
        "lighting": "spherical harmonics of order 2 (9 x RGB), linear RGB, world frame",
        "views": views,
    }


def landmark_record(result: FitResult) -> dict[str, Any]:
    """The content of landmarks3d.json: iBUG-68 points of M0 and M1 (session units), for alignment and comparison.

    With a scan that has landmarks also `m1_as_marked`: where whoever set those would set all of them on M1.
    """
    embedding = result.model.landmarks
    indices, weights = embedding.vertices.cpu().numpy(), embedding.weights.cpu().numpy().astype(np.float64)

    def on(vertices: np.ndarray) -> np.ndarray:
        return (vertices[indices] * weights[..., None]).sum(1) / result.mm_per_unit

    record = {"scheme": "ibug68", "unit": unit_name(result), "m0": on(result.vertices_m0), "m1": on(result.vertices_m1)}
    if result.scan is not None and result.scan.as_marked is not None:
        record["m1_as_marked"] = result.scan.as_marked / result.mm_per_unit
    return record


def timing_record(result: FitResult, writing_seconds: float) -> dict[str, Any]:
    """The content of timings.json, the one file that differs between equal runs."""
    stages = {stage.name: stage.seconds for stage in result.stages}
    return {"unit": "s", "steps": result.timings, "stages": stages, "writing": writing_seconds}

"""The Basel Face Models 2017 and 2019 (Gerig et al. 2018) in statismo's HDF5 layout, every variant of the mask.

    shape/model        mean [3N], pcaBasis [3N, K], pcaVariance [K]      shape/representer   points [3, N], cells [3, F]
    expression/model   the same; its mean is an offset to the shape's
    color/model        the same, values in [0, 1], treated as sRGB-encoded
    metadata/landmarks/json   names and positions of some landmarks

Lengths are millimetres, +x to the subject's left, +y up, +z out of the face; indices count from zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitter.errors import InputError
from fitter.model.foreign import (
    PartialModel,
    check_indices,
    check_numbers,
    check_size,
    files_checksum,
    linearise,
    open_h5,
    oriented_outwards,
)

REMEDY = "BFM 2017 and 2019 are given out on application at https://faces.dmi.unibas.ch/bfm"
MAX_IDENTITY, MAX_EXPRESSION, MAX_ALBEDO = 100, 64, 80
"""Leading modes that are read; the rest of the published 199 and 100 carries less than a photograph can tell."""

IBUG_OF_NAME = {
    "center.chin.tip": 8,
    "center.nose.tip": 30,
    "right.eye.corner_outer": 36,
    "right.eye.corner_inner": 39,
    "left.eye.corner_inner": 42,
    "left.eye.corner_outer": 45,
    "right.lips.corner": 48,
    "center.lips.upper.outer": 51,
    "left.lips.corner": 54,
    "center.lips.lower.outer": 57,
    "center.lips.upper.inner": 62,
    "center.lips.lower.inner": 66,
}
"""Landmark names of the files that have an iBUG-68 twin; left and right are the subject's."""


@dataclass(frozen=True)
class _LinearPart:
    """One of shape, expression, color."""

    mean: np.ndarray
    """[V, 3]."""
    basis: np.ndarray
    """[V, 3, K] per standard deviation."""


def load_bfm_h5(path: Path) -> PartialModel:
    """Read a BFM 2017 or 2019 file (bfm, face12, fullHead; with or without the mouth).

    Args:
        path: The `.h5` file.

    Raises:
        InputError: Not such a file, or a damaged one.
    """
    with open_h5(path, REMEDY) as file:
        shape = _linear_part(path, file, "shape", MAX_IDENTITY)
        if shape is None:
            held = ", ".join(sorted(file.keys())[:8]) or "nothing"
            raise InputError(path, f"the groups {held}", "shape/model and shape/representer", REMEDY)
        expression = _linear_part(path, file, "expression", MAX_EXPRESSION)
        colour = _linear_part(path, file, "color", MAX_ALBEDO)
        triangles = _cells(path, file, len(shape.mean))
        anchors = _anchors(file)
    mean, modes = shape.mean, np.zeros((*shape.mean.shape, 0))
    if expression is not None:
        _same_count(path, "expression", expression, shape)
        mean, modes = mean + expression.mean, expression.basis
    corners = np.stack([anchors[36], anchors[45]]) if {36, 45} <= anchors.keys() else None
    check_size(path, mean, corners, "millimetres", REMEDY)
    albedo_mean = albedo_basis = None
    if colour is not None:
        _same_count(path, "color", colour, shape)
        if colour.mean.max() > 1.5:
            raise InputError(path, f"colours up to {colour.mean.max():.4g}", "0 to 1", REMEDY)
        albedo_mean, albedo_basis = linearise(colour.mean, colour.basis)
    return PartialModel(
        name="bfm2019" if "2019" in path.name else "bfm2017",
        mean=mean,
        identity_basis=shape.basis,
        expression_basis=modes,
        expression_names=tuple(f"expression_{k:02d}" for k in range(modes.shape[-1])),
        expressions_are_named=False,
        triangles=oriented_outwards(mean, triangles),
        albedo_mean=albedo_mean,
        albedo_basis=albedo_basis,
        anchors=anchors,
        source={
            "from": path.name,
            "sha256": files_checksum([path]),
            "licence": "Basel Face Model, the user's own copy; not for redistribution",
            "assumptions": "lengths in millimetres; unit-variance coefficients; colours sRGB-encoded, 0 to 1",
        },
    )


def _linear_part(path: Path, file: Mapping, group: str, most: int) -> _LinearPart | None:
    """A group's mean and leading modes; None where the file has no such group."""
    if group not in file or "model" not in file[group]:
        return None
    model = file[group]["model"]
    missing = [name for name in ("mean", "pcaBasis", "pcaVariance") if name not in model]
    if missing:
        raise InputError(path, f"{group}/model without {', '.join(missing)}", "a statismo model", REMEDY)
    mean = check_numbers(path, f"{group}/model/mean", np.asarray(model["mean"], np.float64).ravel(), None, REMEDY)
    variance = np.asarray(model["pcaVariance"], np.float64).ravel()
    dataset = model["pcaBasis"]
    # The published files hold [3N, K]; some re-saved ones hold the transpose.
    turned = dataset.shape == (len(variance), len(mean)) and len(variance) != len(mean)
    if len(mean) % 3 or not (turned or dataset.shape == (len(mean), len(variance))):
        found = f"{group}/model/pcaBasis of shape {'x'.join(map(str, dataset.shape))}"
        raise InputError(path, found, f"{len(mean)} rows and {len(variance)} columns", REMEDY)
    kept = min(most, len(variance))
    basis = np.asarray(dataset[:kept]).T if turned else np.asarray(dataset[:, :kept])
    deviation = np.sqrt(np.maximum(variance[:kept], 0.0))
    check_numbers(path, f"{group}/model/pcaBasis", basis, None, REMEDY)
    scaled = basis * (1.0 if _already_scaled(basis, deviation) else deviation)
    return _LinearPart(mean.reshape(-1, 3), scaled.reshape(len(mean) // 3, 3, kept))


def _already_scaled(basis: np.ndarray, deviation: np.ndarray) -> bool:
    """Whether the columns are as long as the standard deviations (statismo 0.8) instead of 1 (since 0.81)."""
    length = np.linalg.norm(basis.astype(np.float64), axis=0)
    to_one = np.abs(np.log(np.maximum(length, 1e-12)))
    to_deviation = np.abs(np.log(np.maximum(length, 1e-12) / np.maximum(deviation, 1e-12)))
    return bool(np.median(to_deviation) < np.median(to_one))


def _same_count(path: Path, group: str, part: _LinearPart, shape: _LinearPart) -> None:
    if len(part.mean) != len(shape.mean):
        raise InputError(path, f"{len(part.mean)} vertices in {group}", f"the shape's {len(shape.mean)}", REMEDY)


def _cells(path: Path, file: Mapping, count: int) -> np.ndarray:
    if "representer" not in file["shape"] or "cells" not in file["shape"]["representer"]:
        raise InputError(path, "no shape/representer/cells", "the triangles of the mesh", REMEDY)
    cells = np.asarray(file["shape"]["representer"]["cells"])
    if cells.ndim != 2 or 3 not in cells.shape or not cells.size:
        raise InputError(path, f"cells of shape {'x'.join(map(str, cells.shape))}", "three rows", REMEDY)
    cells = cells.T if cells.shape[0] == 3 else cells
    return check_indices(path, "shape/representer/cells", cells, count, REMEDY, base=0)


def _anchors(file: Mapping) -> dict[int, np.ndarray]:
    """Landmarks of the metadata that have an iBUG twin; whatever is not understood is left out, as it only helps."""
    try:
        stored = file["metadata"]["landmarks"]["json"]
        raw = np.asarray(stored).ravel()[0]
        entries = json.loads(raw.decode("utf-8") if isinstance(raw, bytes) else str(raw))
        found = {entry["id"]: np.array(entry["coordinates"], np.float64) for entry in entries}
    except (KeyError, IndexError, TypeError, ValueError):
        return {}
    return {
        IBUG_OF_NAME[name]: position
        for name, position in found.items()
        if name in IBUG_OF_NAME and position.shape == (3,) and np.isfinite(position).all()
    }

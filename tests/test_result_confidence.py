"""Confidence comes from what had a say in the shape: the scan, the photographs, or both."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fitter.optimise.config import configuration_from
from fitter.result.confidence import surface_confidence

SCAN = {"name": "scan", "solver": "gauss_newton", "free": ["deformation"], "energies": {"scan": {}}}
RAYS = {"name": "rays", "solver": "ray_cast", "free": ["displacement"]}
PICTURES = {"name": "views", "solver": "gauss_newton", "free": ["deformation"], "energies": {"consistency": {}}}
CAMERAS = {"name": "cameras", "solver": "gauss_newton", "free": ["camera_pose"], "energies": {"consistency": {}}}
FROM_PHOTOGRAPHS = np.array([[0.5, 0.0], [0.25, 1.0]], np.float32)
VALID = np.array([[True, False], [False, False]])


def confidence(*stages, scan: bool = True) -> np.ndarray:
    problem = SimpleNamespace(
        configuration=configuration_from({"name": "test", "stages": list(stages)}, "test"),
        observation=SimpleNamespace(view_count=2),
        cameras_known=True,
        scan=None,
    )
    return surface_confidence(problem, FROM_PHOTOGRAPHS, SimpleNamespace(valid=VALID) if scan else None)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ((SCAN,), VALID),
        ((RAYS, CAMERAS), VALID),
        ((SCAN, PICTURES), np.maximum(FROM_PHOTOGRAPHS, VALID)),
        ((PICTURES,), FROM_PHOTOGRAPHS),
        ((SCAN, {**PICTURES, "views": "one"}), VALID),
    ],
)
def test_what_had_no_say_gives_no_confidence(stages, expected):
    found = confidence(*stages)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_without_a_scan_photographs_decide():
    np.testing.assert_array_equal(confidence(PICTURES, scan=False), FROM_PHOTOGRAPHS)

"""The scan as the solver gets it: whose landmarks stand where on the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fitter.alignment import Alignment
from fitter.capture.types import Scan, ScanLandmarks
from fitter.optimise.scan_target import ScanTarget
from fitter.optimise.scan_terms import landmark_pairs
from fitter.optimise.views import SurfaceGeometry
from fitter.scan_target import build_scan_target

NUMBERS = np.array([3, 27, 30, 57])


@pytest.mark.parametrize("people", [True, False])
def test_landmarks_of_people_and_of_detectors_have_their_own_places(open_model, people):
    mean, triangles = open_model.mean, open_model.triangles
    own = open_model.marked if people else open_model.landmarks
    points = own(mean).double().numpy()[NUMBERS]
    marks = ScanLandmarks(points, NUMBERS, "x", marked=people)
    scan = Scan("mean", Path("mean"), mean.double().numpy(), triangles.numpy(), "mm", 1.0, 0.0, 2.0, marks)
    aligned = Alignment(np.eye(4), 0.0, float("nan"), "landmarks", True, ())
    target = build_scan_target(scan, open_model, aligned, device="cpu", seed=0)
    # The jaw's landmark is left out; the others lie where the mean has them, and only there.
    pairs = landmark_pairs(SurfaceGeometry(mean, torch.zeros_like(mean)), target, 2.0)
    assert pairs.offset.shape == (3, 3) and float(pairs.offset.abs().max()) < 1e-3
    other = (open_model.landmarks if people else open_model.marked)(mean).double().numpy()[NUMBERS]
    assert np.linalg.norm(other - points, axis=1)[1:].min() > 1.0


@pytest.mark.parametrize(
    ("edge_mm", "most", "levels"),
    [
        (4.0, 2, 0),
        (2.0, 2, 1),
        (1.3, 3, 1),
        (1.1, 2, 2),
        (1.1, 1, 1),
        (1.1, 3, 2),
        (0.5, 3, 3),
        (0.5, 2, 2),
        (0.5, 0, 0),
    ],
)
def test_the_mesh_of_m2_is_as_fine_as_the_scan(edge_mm, most, levels):
    nothing = dict.fromkeys(("vertices", "triangles", "normals", "boundary", "points", "point_normals"))
    nothing |= dict.fromkeys(("landmarks", "landmark_indices", "landmark_embedding", "world_from_model", "queries"))
    target = ScanTarget(**nothing, alignment={}, noise_mm=0.0, edge_mm=edge_mm)
    assert target.subdivisions(most) == levels

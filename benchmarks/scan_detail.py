"""Fine detail of the scan path where the truth is known: generated faces, thinned and made noisy before the fit.

    python -m benchmarks.scan_detail --subjects 0 1 2 3 --out benchmarks/results/scan-detail.json

The truth is the undecimated, noise-free surface within 80 mm of the nose tip that faces forward, without eyes,
nostrils, inside of the mouth and ears. Distances and normal angles are from its vertices to the closest points of M1
and M2. The share of the detail's amplitude (`kept`) is the slope of the regression of the fitted relief on the true,
both measured along the normals of the smooth surface below the detail and both limited to waves between two texels and
about 15 mm; `kept_by_scan` is the same for the decimated scan itself, of which no fit can know more.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from benchmarks.records import headed, write_record
from benchmarks.subjects import Subject, decimated, generate_subject, noisy
from fitter.capture.scan.quality import estimate_noise, median_edge
from fitter.capture.types import Scan, Session
from fitter.fit import FitOptions, fit_session
from fitter.kernels.mesh_queries import MeshQueries
from fitter.mesh_normals import vertex_normals
from fitter.model.open_model import load_open_model
from fitter.optimise.config import Configuration, load_configuration
from fitter.result.types import FitResult

RADIUS_MM = 80.0
SCAN_RADIUS_MM = 130.0
POINTS = 20_000
BAND_POINTS = 2_500
MAP_MM = 224.0
"""Side of the displacement map on the face."""
WIDE_MM = 3.0
"""Standard deviation of the Gaussian whose result is taken off: waves above about 15 mm are not detail."""
HALF_AT_WAVE = 0.187
"""Standard deviation of a Gaussian that halves a wave, in wavelengths: sqrt(2 ln 2) / (2 pi)."""


@dataclass(frozen=True)
class Truth:
    """What a fit is measured against."""

    points: Tensor
    """[P, 3] mm."""
    normals: Tensor
    """[P, 3]."""
    ground: np.ndarray
    """[K, 3] mm: the smooth surface below the detail, where the relief is measured."""
    ground_normals: np.ndarray
    """[K, 3]."""
    relief: np.ndarray
    """[K] mm, the true detail."""
    centres: np.ndarray
    """[B] rows of `ground` at which bands are compared."""
    neighbours: list[np.ndarray]
    """B lists of rows of `ground` within three wide deviations."""


def truth_of(subject: Subject) -> Truth:
    """The counted part of a generated face."""
    random = np.random.default_rng(0)
    near = np.linalg.norm(subject.vertices - subject.landmarks[30], axis=1) < RADIUS_MM
    counted = near & ~subject.left_out & (subject.normals @ subject.world_from_model[:3, 2] > 0.2)
    chosen = random.permutation(np.flatnonzero(counted))
    ground = np.flatnonzero(near & ~subject.left_out)
    place = np.full(len(subject.vertices), -1)
    place[ground] = np.arange(len(ground))
    centres = place[chosen[:BAND_POINTS]]
    tree = cKDTree(subject.deformed[ground])
    near_centres = tree.query_ball_point(subject.deformed[ground][centres], 3.0 * WIDE_MM)
    return Truth(
        points=torch.from_numpy(subject.vertices[chosen[:POINTS]]).float(),
        normals=torch.from_numpy(subject.normals[chosen[:POINTS]]).float(),
        ground=subject.deformed[ground],
        ground_normals=subject.deformed_normals[ground],
        relief=subject.detail[ground],
        centres=centres,
        neighbours=[np.asarray(rows) for rows in near_centres],
    )


def distances(truth: Truth, vertices: np.ndarray, triangles: np.ndarray) -> dict[str, float]:
    """Distance (mm) and normal angle (degrees) of the truth to a surface."""
    queries = MeshQueries(torch.from_numpy(vertices).float(), torch.from_numpy(triangles))
    at = queries.closest(truth.points)
    fitted = torch.from_numpy(vertex_normals(vertices, triangles)).float()
    fitted = torch.nn.functional.normalize(queries.interpolate(fitted, at), dim=-1)
    angle = torch.rad2deg(torch.arccos((fitted * truth.normals).sum(-1).clamp(-1.0, 1.0)))
    found = (at.distance.median(), at.distance.mean(), angle.median(), angle.mean())
    names = ("median_mm", "mean_mm", "normal_median", "normal_mean")
    return {name: round(float(value), 4) for name, value in zip(names, found, strict=True)}


def relief_of(truth: Truth, vertices: np.ndarray, triangles: np.ndarray, reach: float = 4.0) -> np.ndarray:
    """[K] mm: height of a surface above the smooth ground along its normals; nan where it is not met."""
    queries = MeshQueries(torch.from_numpy(vertices).float(), torch.from_numpy(triangles))
    origins, directions = torch.from_numpy(truth.ground).float(), torch.from_numpy(truth.ground_normals).float()
    best, height = np.full(len(origins), np.inf), np.full(len(origins), np.nan)
    for sign in (1.0, -1.0):
        at = queries.cast(origins - sign * 1e-3 * directions, sign * directions, reach)
        length = at.distance.numpy() - 1e-3
        closer = at.found.numpy() & (length < best)
        best[closer], height[closer] = length[closer], sign * length[closer]
    return height


def amplitude(truth: Truth, relief: np.ndarray, texel_mm: float) -> dict[str, float]:
    """Share of the true detail between two texels and about 15 mm that a relief [K] keeps, and their correlation."""
    narrow = HALF_AT_WAVE * 2.0 * texel_mm
    pairs = []
    for centre, rows in zip(truth.centres, truth.neighbours, strict=True):
        rows = rows[np.isfinite(relief[rows])]
        if len(rows) < 10:
            continue
        squared = ((truth.ground[rows] - truth.ground[centre]) ** 2).sum(1)
        fine, wide = (np.exp(-0.5 * squared / deviation**2) for deviation in (narrow, WIDE_MM))
        weight = fine / fine.sum() - wide / wide.sum()
        pairs.append((weight @ truth.relief[rows], weight @ relief[rows]))
    true, found = np.array(pairs).T
    return {
        "share": round(float(true @ found / (true @ true)), 3),
        "correlation": round(float(np.corrcoef(true, found)[0, 1]), 3),
        "true_deviation_mm": round(float(true.std()), 4),
    }


def scan_session(vertices: np.ndarray, triangles: np.ndarray) -> Session:
    """A generated scan as a session."""
    noise, edge = estimate_noise(vertices, triangles), median_edge(vertices, triangles)
    scan = Scan("generated", Path("generated"), vertices, triangles, "mm", 1.0, noise, edge)
    return Session("generated", (), "rig", "mm", 1.0, scan=scan)


def trial(
    truth: Truth, result: FitResult, scan: tuple[np.ndarray, np.ndarray], configuration: Configuration, clean: bool
) -> dict:
    """M1 and M2 of one fit against the truth."""
    triangles = result.model.triangles.numpy()
    row = {
        "M1": distances(truth, result.vertices_m1, triangles),
        "M2": distances(truth, result.dense.vertices, result.dense.triangles),
        "edge_mm": round(result.scan.edge_mm, 3),
        "noise_found_mm": round(result.scan.noise_mm, 3),
    }
    if clean:
        texel = MAP_MM / configuration.maps.displacement
        relief = relief_of(truth, result.dense.vertices, result.dense.triangles)
        row["kept"] = amplitude(truth, relief, texel)
        row["kept_by_scan"] = amplitude(truth, relief_of(truth, *scan), texel)
    return row


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--edges", nargs="+", type=float, default=[0.5, 0.75, 1.0])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.1, 0.3])
    parser.add_argument("--config", default="scan")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    model, configuration = load_open_model(), load_configuration(options.config)
    rows = []
    for seed in options.subjects:
        subject = generate_subject(seed)
        truth = truth_of(subject)
        for edge in options.edges:
            thinned = decimated(subject, edge, SCAN_RADIUS_MM)
            for noise in options.noise:
                mesh = noisy(thinned, noise, seed)
                result = fit_session(scan_session(mesh.vertices, mesh.triangles), model, configuration, FitOptions())
                found = trial(truth, result, (mesh.vertices, mesh.triangles), configuration, noise == 0.0)
                rows.append({"subject": seed, "edge": edge, "noise": noise, **found})
                first, second = found["M1"], found["M2"]
                kept = f"  kept {found['kept']['share']} of {found['kept_by_scan']['share']}" if "kept" in found else ""
                print(
                    f"subject {seed}, edges {edge} mm, noise {noise} mm: "
                    f"M1 {first['median_mm']:.4f} mm {first['normal_median']:.2f}°  "
                    f"M2 {second['median_mm']:.4f} mm {second['normal_median']:.2f}°{kept}",
                    flush=True,
                )
    content = {
        "configuration": options.config,
        "trials": rows,
        "m2_better_in_distance": sum(row["M2"]["median_mm"] < row["M1"]["median_mm"] for row in rows),
        "m2_better_in_normals": sum(row["M2"]["normal_median"] < row["M1"]["normal_median"] for row in rows),
        "of": len(rows),
    }
    record = headed("scan_detail", content)
    print(json.dumps({k: v for k, v in record.items() if k != "trials"}, indent=1))
    if options.out:
        write_record(options.out, record)


if __name__ == "__main__":
    main()

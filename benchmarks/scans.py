"""Accuracy, time and memory of the scan path on real scans, and its ratio to non-rigid ICP.

    python -m benchmarks.scans SCAN… [--landmarks FILE] [--large] [--no-peer] --out benchmarks/results/scans.json

Each scan is fitted without landmarks by `configs/scan.yaml`; distances are from equal-area samples of the scan that the
fit did not use to the closest point of each level, as `fit.json` has them. The peer is
`trimesh.registration.nricp_amberg` with its defaults, from the same alignment, on the face of the same template; its
residual is measured with the same samples.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import trimesh

from benchmarks.records import headed, write_record
from fitter.capture.scan.load import load_scan
from fitter.capture.scan_session import load_scan_session
from fitter.capture.types import ScanLandmarks, Session
from fitter.export.folder import write_result
from fitter.fit import FitOptions, fit_session
from fitter.kernels.mesh_queries import MeshQueries
from fitter.kernels.surface_sampling import equal_area_samples
from fitter.mesh_edges import undirected_edges
from fitter.mesh_normals import vertex_normals
from fitter.model.morphable import MorphableModel
from fitter.model.open_model import load_open_model
from fitter.optimise.config import Configuration, load_configuration
from fitter.result.scan_outcome import FACING, NOSE_TIP, RADIUS_MM, SAMPLES, skin_vertices
from fitter.result.types import FitResult

PEER_RADIUS_MM = 95.0
"""Part of the template that the peer deforms."""
HELD_OUT = 10
LARGE = 2_000_000
"""Triangles of the scan that time and memory are measured on, at least."""


def without_smoothing(configuration: Configuration) -> Configuration:
    """The configuration whose displacement map takes over everything that the rays find."""
    stages = tuple(
        replace(stage, energies=stage.energies | {"smoothness": {"noise": 0.0, "edge": 0.0}})
        if stage.solver == "ray_cast"
        else stage
        for stage in configuration.stages
    )
    return replace(configuration, stages=stages)


def fitted(session: Session, model: MorphableModel, configuration: Configuration) -> tuple[FitResult, float]:
    """The fit and its seconds."""
    began = time.perf_counter()
    result = fit_session(session, model, configuration, FitOptions())
    return result, time.perf_counter() - began


def seconds_of_files(result: FitResult) -> float:
    """What writing the result folder takes, without a report."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        write_result(result, folder, report=False)
        return time.perf_counter() - began


def levels(result: FitResult) -> dict:
    """Residuals as plain numbers."""
    return {
        level: {part: {k: round(float(v), 4) for k, v in asdict(numbers).items()} for part, numbers in parts.items()}
        for level, parts in result.scan.residuals.items()
    }


def peer(result: FitResult, model: MorphableModel) -> dict:
    """Non-rigid ICP (Amberg et al. 2007) in trimesh, defaults, from the alignment that our fit started from."""
    pose = np.array(result.scan.alignment["scan_from_model_mm"])
    mean, triangles = model.mean.double().numpy(), model.triangles.numpy()
    tip = model.landmarks(model.mean)[NOSE_TIP].double().numpy()
    keep = (model.regions["skin"] & ~model.hidden).numpy()
    keep &= (np.linalg.norm(mean - tip, axis=1) < PEER_RADIUS_MM) & (mean[:, 2] > tip[2] - 90.0)
    chosen = triangles[keep[triangles].all(1)]
    used, flat = np.unique(chosen, return_inverse=True)
    source = trimesh.Trimesh(mean[used] @ pose[:3, :3].T + pose[:3, 3], flat.reshape(-1, 3), process=False)
    target = trimesh.Trimesh(result.scan.vertices, result.scan.triangles, process=False)
    began = time.perf_counter()
    try:
        moved = trimesh.registration.nricp_amberg(source, target)
    except (RuntimeError, np.linalg.LinAlgError, ValueError, MemoryError) as error:
        return {"failed": str(error).splitlines()[0], "seconds": round(time.perf_counter() - began, 2)}
    seconds = time.perf_counter() - began
    skin = skin_vertices(model).numpy()[used]
    return {"seconds": round(seconds, 2), **skin_distances(result, np.asarray(moved), flat.reshape(-1, 3), skin, model)}


def skin_distances(
    result: FitResult, vertices: np.ndarray, triangles: np.ndarray, skin: np.ndarray, model: MorphableModel
) -> dict:
    """Median and mean distance (mm) of the fit's own evaluation samples to another surface."""
    points_of = torch.from_numpy(result.scan.vertices).float()
    index = torch.from_numpy(result.scan.triangles)
    normals = torch.from_numpy(vertex_normals(result.scan.vertices, result.scan.triangles)).float()
    points, point_normals = equal_area_samples(points_of, index, normals, SAMPLES, result.seed + 7919)
    tip = model.landmarks(torch.from_numpy(result.vertices_m1).float())[NOSE_TIP]
    forward = torch.from_numpy(result.world_from_model[:3, 2]).float()
    near = ((points - tip).norm(dim=-1) <= RADIUS_MM) & (point_normals @ forward > FACING)
    queries = MeshQueries(torch.from_numpy(vertices).float(), torch.from_numpy(triangles))
    at = queries.closest(points[near])
    distance = at.distance[torch.from_numpy(skin)[queries.triangles[at.triangle]].all(-1)]
    return {"median_mm": round(float(distance.median()), 4), "mean_mm": round(float(distance.mean()), 4)}


def held_out_landmarks(scan: Path, file: Path, model: MorphableModel, configuration: Configuration) -> list[dict]:
    """Five fits with every fifth inner landmark (ten of them) held out; errors of those ten and the residual.

    Errors of the landmarks where the fit expects the same person to set them, and of the model's own.
    """
    session = load_scan_session(scan, landmarks=file)
    inner = session.scan.landmarks.indices >= 17
    numbers, points = session.scan.landmarks.indices[inner], session.scan.landmarks.points[inner]
    rows = []
    for first in range(5):
        out = np.arange(first, len(numbers), 5)[:HELD_OUT]
        given = np.setdiff1d(np.arange(len(numbers)), out)
        marks = ScanLandmarks(points[given], numbers[given], file.name)
        result, _ = fitted(replace(session, scan=replace(session.scan, landmarks=marks)), model, configuration)
        embedding = model.landmarks_as_set_by(people=True)
        plain = embedding(torch.from_numpy(result.vertices_m1).float()).double().numpy()
        errors, without = (
            np.linalg.norm(at[numbers[out]] - points[out], axis=1) for at in (result.scan.as_marked, plain)
        )
        rows.append(
            {
                "held_out": numbers[out].tolist(),
                "median_mm": round(float(np.median(errors)), 3),
                "mean_mm": round(float(errors.mean()), 3),
                "m1_median_mm": levels(result)["M1"]["skin"]["median_mm"],
                "errors_mm": np.round(errors, 3).tolist(),
                "errors_of_the_models_own_mm": np.round(without, 3).tolist(),
            }
        )
    return rows


def split_in_three(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Root-three subdivision without smoothing (Kobbelt 2000): a vertex in each triangle, and every inner edge turned."""
    edges, of_triangle = undirected_edges(mesh.faces)
    middle = len(mesh.vertices) + np.arange(len(mesh.faces))
    corners = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 3, 2)
    order = np.argsort(of_triangle.ravel(), kind="stable")
    uses = np.bincount(of_triangle.ravel(), minlength=len(edges))
    first = np.cumsum(uses) - uses
    owner, start, end = middle[order // 3], *corners.reshape(-1, 2)[order].T
    pairs = first[uses == 2]
    alone = np.setdiff1d(np.arange(len(order)), np.concatenate([pairs, pairs + 1]))
    turned = (
        np.stack([start[pairs], owner[pairs + 1], owner[pairs]], 1),
        np.stack([end[pairs], owner[pairs], owner[pairs + 1]], 1),
    )
    kept = np.stack([start[alone], end[alone], owner[alone]], 1)
    return trimesh.Trimesh(
        np.concatenate([mesh.vertices, mesh.triangles_center]), np.concatenate([*turned, kept]), process=False
    )


def large_scan(scan: Path, work: Path) -> dict:
    """The whole command on the scan subdivided to two million triangles: seconds and peak memory."""
    loaded = load_scan(scan)
    mesh = trimesh.Trimesh(loaded.vertices, loaded.triangles, process=False)
    while 4 * len(mesh.faces) <= LARGE:
        mesh = mesh.subdivide()
    while len(mesh.faces) < LARGE:
        mesh = split_in_three(mesh)
    path = work / "large.ply"
    mesh.export(path)
    return {"triangles": len(mesh.faces), **whole_command(path, work / "large")}


def whole_command(scan: Path, out: Path) -> dict:
    """`hrn scan` in a process of its own, imports and files included: seconds, peak memory, exit code."""
    command = [sys.executable, "-m", "fitter", "scan", str(scan), "--landmarks", "none", "--no-report"]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
        "exit": os.waitstatus_to_exitcode(status),
    }


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--landmarks", type=Path, help="landmarks of the first scan, for the held-out test")
    parser.add_argument("--large", action="store_true", help="also fit the first scan with two million triangles")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    model, configuration = load_open_model(), load_configuration("scan")
    # Kernels are compiled once per installation and loaded once per process; what is timed is a scan after that.
    seconds_of_files(fitted(load_scan_session(options.scans[0], landmarks="none"), model, configuration)[0])
    rows = []
    for path in options.scans:
        began = time.perf_counter()
        session = load_scan_session(path, landmarks="none")
        load_seconds = time.perf_counter() - began
        result, seconds = fitted(session, model, configuration)
        written = seconds_of_files(result)
        capacity, _ = fitted(session, model, without_smoothing(configuration))
        row = {
            "scan": path.name,
            "triangles": len(session.scan.triangles),
            "levels": levels(result),
            "m2_without_smoothing": levels(capacity)["M2"]["skin"],
            "flipped_triangles": result.scan.flipped_triangles,
            "counted_triangles": result.scan.counted_triangles,
            "seconds_load": round(load_seconds, 2),
            "seconds_fit": round(seconds, 2),
            "seconds_files": round(written, 2),
            "stages": {k: round(v, 2) for k, v in result.timings.items()},
        }
        if not options.no_peer:
            row["nricp_amberg"] = peer(result, model)
        rows.append(row)
        skin = {level: row["levels"][level]["skin"] for level in ("M0", "M1", "M2")}
        shown = "  ".join(f"{k} {v['median_mm']:.3f} mm {v['normal_median']:.2f}°" for k, v in skin.items())
        print(
            f"{path.name}: {shown}  {load_seconds + seconds + written:.1f} s  peer {row.get('nricp_amberg')}",
            flush=True,
        )
    record = headed(
        "scans",
        {
            "scans": rows,
            "mean": {
                level: round(float(np.mean([row["levels"][level]["skin"]["median_mm"] for row in rows])), 4)
                for level in ("M0", "M1", "M2")
            },
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        },
    )
    peers = [row for row in rows if "median_mm" in row.get("nricp_amberg", {})]
    if peers:
        ratios = [row["nricp_amberg"]["median_mm"] / row["levels"]["M1"]["skin"]["median_mm"] for row in peers]
        times = [row["nricp_amberg"]["seconds"] / row["seconds_fit"] for row in peers]
        record["peer_residual_ratio"] = {"mean": round(float(np.mean(ratios)), 2), "least": round(min(ratios), 2)}
        record["peer_time_ratio"] = {"mean": round(float(np.mean(times)), 2), "least": round(min(times), 2)}
        record["peer_failures"] = len(rows) - len(peers)
    if options.landmarks:
        held_out = held_out_landmarks(options.scans[0], options.landmarks, model, configuration)
        record["held_out_landmarks"] = held_out
        for name, of in (
            ("held_out_median_mm", "errors_mm"),
            ("held_out_own_median_mm", "errors_of_the_models_own_mm"),
        ):
            record[name] = round(float(np.median(np.concatenate([row[of] for row in held_out]))), 3)
    with tempfile.TemporaryDirectory() as folder:
        record["command"] = {"scan": options.scans[0].name, **whole_command(options.scans[0], Path(folder) / "fit")}
    if options.large:
        with tempfile.TemporaryDirectory() as folder:
            record["large"] = large_scan(options.scans[0], Path(folder))
    print(json.dumps({k: v for k, v in record.items() if k != "scans"}, indent=1))
    if options.out:
        write_record(options.out, record)


if __name__ == "__main__":
    main()

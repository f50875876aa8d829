"""Speed of the benchmark metrics on one core.

    OMP_NUM_THREADS=1 python -m benchmarks.speed_metrics [--out benchmarks/results/speed-metrics.json]

Measured: closest points of a 50,000-point scan on a prediction of 80,000 triangles (line to meet: 0.3 s), and the whole
NoW pipeline of one image of that size: reading, cropping, aligning, refining, measuring, storing (line to meet: 3 s).
Surfaces are the mean face of the open model, refined, with waves on the prediction. Seconds are the median of several
runs, of the process' own processor time: other jobs on the machine do not count, and threads would add up.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.crops import NOW_FACTOR, inside_ball, seven_point_ball, submesh
from benchmarks.protocols.run import run_protocol
from benchmarks.records import headed, write_record
from fitter.capture.scan.read import compacted
from fitter.compare.surface import Surface
from fitter.model.open_model import load_open_model
from fitter.model.subdivide import midpoint_subdivision
from fitter.obj import ObjMesh, write_obj

SEVEN = [36, 39, 42, 45, 33, 48, 54]
SCAN_POINTS, PREDICTION_TRIANGLES = 50_000, 80_000
RUNS = 5


def _seconds(work: Callable[[], object], runs: int = RUNS) -> float:
    """Median processor seconds."""
    taken = []
    for _ in range(runs):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return float(np.median(taken))


def _nearest(
    vertices: np.ndarray, triangles: np.ndarray, order: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of a mesh within the radius that holds `count` triangles; `order` [V] is the vertices' distance."""
    reach = np.sort(order[triangles].max(1))[min(count, len(triangles)) - 1]
    return submesh(vertices, triangles, order <= reach)


def surfaces() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], np.ndarray]:
    """A scan with 50,000 vertices in NoW's ball, a prediction of 80,000 triangles, the landmarks of both (mm)."""
    model = load_open_model()
    mean, triangles = model.mean.double().numpy(), model.atlas_triangles.numpy()
    marks = model.landmarks(model.mean).double().numpy()
    fine, fine_triangles = submesh(mean, triangles, np.linalg.norm(mean - marks[30], axis=1) < 160.0)
    for level in range(2):
        matrix, fine_triangles = midpoint_subdivision(fine_triangles, len(fine))
        fine = np.asarray(matrix @ fine)
        if level == 0:
            waves = fine + 0.8 * np.sin(fine[:, [1, 2, 0]] / 13)
            far = np.linalg.norm(fine - marks[30], axis=1)
            prediction = _nearest(waves, fine_triangles, far, PREDICTION_TRIANGLES)
    inside = inside_ball(fine, *seven_point_ball(marks[SEVEN], NOW_FACTOR))
    # A scan with holes: single triangles, drawn until enough vertices are inside.
    order = np.random.default_rng(0).permutation(len(fine_triangles))
    first_use = np.full(len(fine), len(order))
    np.minimum.at(first_use, fine_triangles[order].ravel(), np.repeat(np.arange(len(order)), 3))
    needed = np.sort(first_use[inside])[min(SCAN_POINTS, int(inside.sum())) - 1] + 1
    scan = compacted(fine, fine_triangles[order[:needed]])
    return scan, prediction, marks[SEVEN]


def measure_closest_points() -> dict[str, float]:
    """Closest points of 50,000 noisy samples of a face on 80,000 triangles; the search tree's own seconds apart."""
    _, (vertices, triangles), _ = surfaces()
    random = np.random.default_rng(0)
    rows = random.integers(len(triangles), size=SCAN_POINTS)
    weights = random.dirichlet((1.0, 1.0, 1.0), SCAN_POINTS)
    points = (vertices[triangles[rows]] * weights[..., None]).sum(1) + random.normal(0, 1.0, (SCAN_POINTS, 3))
    surface = Surface(vertices, triangles)
    return {
        "points": len(points),
        "triangles": len(triangles),
        "build seconds": _seconds(lambda: Surface(vertices, triangles)),
        "query seconds": _seconds(lambda: surface.closest(points)),
    }


def measure_now() -> dict[str, float]:
    """The whole protocol on one image, files included."""
    scan, prediction, marks = surfaces()
    with tempfile.TemporaryDirectory() as folder:
        data, predictions = Path(folder) / "data", Path(folder) / "predictions"
        for part in ("scans/S", "scans_lmks_onlypp/S"):
            (data / part).mkdir(parents=True)
        (predictions / "S" / "selfie").mkdir(parents=True)
        (data / "imagepathsvalidation.txt").write_text("S/selfie/a.jpg\n")
        write_obj(data / "scans" / "S" / "s.obj", ObjMesh(*scan))
        rows = "".join(f'<point x="{x}" y="{y}" z="{z}" name="{k}"/>\n' for k, (x, y, z) in enumerate(marks))
        (data / "scans_lmks_onlypp" / "S" / "s.pp").write_text(f"<PickedPoints>\n{rows}</PickedPoints>\n")
        write_obj(predictions / "S" / "selfie" / "a.obj", ObjMesh(prediction[0] * 1.1 + 5.0, prediction[1]))
        np.save(predictions / "S" / "selfie" / "a.npy", marks * 1.1 + 5.0)
        outs = iter(range(1000))

        def whole() -> None:
            run_protocol("now", data, predictions, Path(folder) / f"out{next(outs)}", pictures=False)

        counted = int(inside_ball(scan[0], *seven_point_ball(marks, NOW_FACTOR)).sum())
        record = {"scan vertices": len(scan[0]), "counted vertices": counted, "triangles": len(prediction[1])}
        return record | {"seconds per image": _seconds(whole, 3)}


def main(arguments: list[str] | None = None) -> None:
    """Measure both and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    content = {
        "what": "processor seconds on one core",
        "closest points": measure_closest_points(),
        "NoW, one image": measure_now(),
    }
    record = headed("speed_metrics", content)
    if options.out is not None:
        write_record(options.out, record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

"""Speed of the differentiable renderer on one machine, against its peers, and the truth of silhouette gradients.

Run as `python -m benchmarks render`. One step renders a textured face-like mesh of 70,688 triangles with antialiased
silhouettes and differentiates a squared error back to vertices and texture. The peer does the same work in the same
run, interleaved: deodr on the CPU (PyPI, C++ in double precision, one thread; it shades per vertex and culls back faces),
nvdiffrast's own operations on CUDA where it is installed. The silhouette gradient is compared with central differences
of an 8 x 8 supersampled image.
"""

from __future__ import annotations

import os

# Read once when the OpenMP runtime is loaded, so before torch: threads that spin while waiting make two cores crawl as
# soon as anything else runs on them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import importlib.metadata
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.records import headed, result_path, write_record
from benchmarks.render_peers import deodr_step, nvdiffrast_step
from benchmarks.render_scene import RenderScene
from benchmarks.silhouettes import edge_walk, nvdiffrast_antialias, silhouette_gradient_error
from fitter.kernels import available_backends, choose_backend
from fitter.render.operations import antialias, interpolate, rasterize, sample_texture


def our_step(scene: RenderScene, backend: str | None) -> Callable[[], dict[str, float]]:
    """One forward and backward pass of this renderer; returns ms of each half."""
    vertices = scene.vertices.clone().requires_grad_()
    texture = scene.texture.clone().requires_grad_()
    wait = torch.cuda.synchronize if scene.vertices.is_cuda else (lambda: None)

    def step() -> dict[str, float]:
        vertices.grad = texture.grad = None
        wait()
        start = time.perf_counter()
        clip = scene.clip(vertices)
        fragments = rasterize(clip, scene.topology, (scene.size, scene.size), backend)
        uv = interpolate(scene.uv[None], fragments, scene.topology)
        colour = sample_texture(texture, uv, fragments=fragments)
        image = antialias(colour, fragments, clip, scene.topology)
        loss = torch.nn.functional.mse_loss(image, scene.target, reduction="sum")
        wait()
        middle = time.perf_counter()
        loss.backward()
        wait()
        end = time.perf_counter()
        return {"forward": (middle - start) * 1e3, "backward": (end - middle) * 1e3, "total": (end - start) * 1e3}

    return step


def interleaved_medians(steps: dict[str, Callable[[], dict[str, float]]], runs: int) -> dict[str, dict[str, float]]:
    """Median ms of every step; the steps take turns in blocks, so that a busy neighbour hits both."""
    times: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(3):
            step()
    for _ in range(-(-runs // 5)):
        for name, step in steps.items():
            step()
            times[name] += [step() for _ in range(5)]
    return {
        name: {part: statistics.median(sample[part] for sample in samples) for part in samples[0]}
        for name, samples in times.items()
    }


def run(sizes: tuple[int, ...], runs: int, backends: list[str], device: str) -> dict:
    """All measurements as one JSON-able record; ratios are the peer's time over each backend's."""
    record: dict = {"environment": environment(device), "step": "textured, silhouettes, forward + backward"}
    peer = "deodr" if device == "cpu" else "nvdiffrast"
    for size in sizes:
        scene = RenderScene(size, device)
        steps = {backend: our_step(scene, backend) for backend in backends}
        peer_step = deodr_step(scene) if device == "cpu" else nvdiffrast_step(scene)
        if peer_step is not None:
            steps[peer] = peer_step
        medians = interleaved_medians(steps, runs)
        entry: dict = {"ms": {name: {k: round(v, 3) for k, v in parts.items()} for name, parts in medians.items()}}
        if peer_step is not None:
            entry["peer_over_ours"] = {
                name: round(medians[peer]["total"] / medians[name]["total"], 3) for name in backends
            }
        record[str(size)] = entry
    masks = {backend: edge_walk(backend) for backend in backends}
    if device != "cpu" and nvdiffrast_antialias() is not None:
        masks["nvdiffrast"] = nvdiffrast_antialias()
    for size in sizes:
        errors = {name: silhouette_gradient_error(size, mask, device) for name, mask in masks.items()}
        record[f"silhouette_gradient_{size}"] = {
            name: {key: round(value, 5) for key, value in error.items()} for name, error in errors.items()
        }
    return record


def ratio_range(passes: list[dict], sizes: list[int]) -> dict[str, dict[str, dict[str, float]]]:
    """Lowest, middle and highest speed ratio over the passes, per size and backend: neighbours on the machine count."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for size in sizes:
        ratios = [entry[str(size)].get("peer_over_ours", {}) for entry in passes]
        for backend in ratios[0]:
            found = [ratio[backend] for ratio in ratios]
            spread = {"min": min(found), "median": statistics.median(found), "max": max(found)}
            out.setdefault(str(size), {})[backend] = spread
    return out


def environment(device: str) -> dict:
    """What the numbers depend on."""
    versions = {}
    for package in ("torch", "numba", "numpy", "warp-lang", "deodr", "nvdiffrast"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    name = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if device != "cpu":
        name = torch.cuda.get_device_name()
    elif cpu_info.exists():
        lines = [line for line in cpu_info.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    threads = {"torch": torch.get_num_threads()}
    if device == "cpu":
        import numba

        threads["numba"] = numba.get_num_threads()
    return {
        "device": name, "threads": threads, "load_average": round(os.getloadavg()[0], 2), "versions": versions,
        "python": platform.python_version(),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Measure, say the result and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks render", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="image sizes, px")
    parser.add_argument("--runs", type=int, default=40, help="timed steps per size")
    parser.add_argument("--repeat", type=int, default=3, help="passes over everything; all of them are kept")
    parser.add_argument("--backends", nargs="+", help="backends by name; on the CPU numba, on CUDA all that are here")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="result file; named after the device if not given")
    options = parser.parse_args(arguments)
    backends = options.backends or [choose_backend(options.device)]
    if options.backends is None and options.device != "cpu":
        backends = [name for name in available_backends() if name.endswith("_cuda")]
    passes = [run(tuple(options.sizes), options.runs, backends, options.device) for _ in range(options.repeat)]
    peer = "deodr" if options.device == "cpu" else "nvdiffrast"
    content = {"peer": peer, "peer_over_ours": ratio_range(passes, options.sizes), "passes": passes}
    record = headed("render", content, options.device)
    write_record(options.out or result_path("render", options.device), record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

"""Speed of the differentiable renderer on one machine, against deodr, and the truth of its silhouette gradients.

Run as `python -m benchmarks.render`. One step renders a textured face-like mesh of 70,688 triangles with antialiased
silhouettes and differentiates a squared error back to vertices and texture. deodr (PyPI, C++ in double precision, one
thread) does the same work in the same run, interleaved; it shades per vertex and culls back faces. The silhouette
gradient is compared with central differences of an 8 x 8 supersampled image.
"""

from __future__ import annotations

import os

# Read once when the OpenMP runtime is loaded, so before torch: threads that spin while waiting make two cores crawl as
# soon as anything else runs on them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import importlib.metadata
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.records import headed, write_record
from fitter.camera import clip_from_camera
from fitter.kernels import choose_backend
from fitter.kernels.topology import MeshTopology
from fitter.render.operations import antialias, interpolate, rasterize, sample_texture

GRID = 189
TEXTURE = 512
DISTANCE_MM = 1000.0
SUPERSAMPLING = 8


def face_like_mesh(grid: int = GRID) -> tuple[Tensor, Tensor, Tensor]:
    """An open ellipsoid with nose, eye sockets, lips and fine relief.

    Args:
        grid: Vertices per side; 189 gives 35,721 vertices and 70,688 triangles, like the Basel model.

    Returns:
        Vertices [V, 3] in mm (y up, z out of the face), triangles [F, 3] counter-clockwise from outside, uv [V, 2].
    """
    line = torch.linspace(0.0, 1.0, grid)
    v, u = torch.meshgrid(line, line, indexing="ij")
    longitude, latitude = (u - 0.5) * math.radians(230.0), (v - 0.5) * math.radians(150.0)

    def bump(at_u: float, at_v: float, width_u: float, width_v: float, height: float) -> Tensor:
        return height * torch.exp(-(((u - at_u) / width_u) ** 2) - ((v - at_v) / width_v) ** 2)

    relief = bump(0.5, 0.48, 0.028, 0.06, 22.0) + bump(0.5, 0.36, 0.06, 0.016, 6.0)
    relief = relief + bump(0.42, 0.6, 0.04, 0.03, -7.0) + bump(0.58, 0.6, 0.04, 0.03, -7.0)
    relief = relief + 0.4 * torch.sin(55.0 * u) * torch.sin(47.0 * v)
    direction = torch.stack(
        [longitude.sin() * latitude.cos(), latitude.sin(), longitude.cos() * latitude.cos()], dim=-1
    )
    vertices = direction * (torch.tensor([75.0, 110.0, 90.0]) + relief[..., None])
    number = torch.arange(grid * grid).reshape(grid, grid)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    triangles = torch.stack([torch.stack([a, b, d], -1), torch.stack([a, d, c], -1)], dim=2)
    return vertices.reshape(-1, 3), triangles.reshape(-1, 3), torch.stack([u, v], -1).reshape(-1, 2)


class Scene:
    """The mesh, its texture and a camera that turns the face by 0.2 rad."""

    def __init__(self, size: int, device: str = "cpu") -> None:
        vertices, triangles, uv = face_like_mesh()
        generator = torch.Generator().manual_seed(0)
        yaw = torch.tensor(0.2)
        turn = torch.eye(3)
        turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = yaw.cos(), yaw.sin(), -yaw.sin(), yaw.cos()
        flip = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        self.size = size
        self.intrinsics = torch.tensor([[4.0 * size, 0.0, size / 2], [0.0, 4.0 * size, size / 2], [0.0, 0.0, 1.0]])
        self.rotation = (flip @ turn).to(device)
        self.vertices = vertices.to(device)
        self.triangles, self.uv = triangles, uv.to(device)
        self.topology = MeshTopology.from_triangles(triangles, len(vertices)).to(device)
        self.texture = torch.rand((1, TEXTURE, TEXTURE, 3), generator=generator).to(device)
        self.target = torch.rand((1, size, size, 3), generator=generator).to(device)
        self.clip_matrix = clip_from_camera(self.intrinsics, (size, size)).to(device)

    def clip(self, vertices: Tensor) -> Tensor:
        """[1, V, 4] clip positions of [V, 3] vertices."""
        camera = vertices @ self.rotation.T
        camera = camera + camera.new_tensor([0.0, 0.0, DISTANCE_MM])
        return (camera @ self.clip_matrix[:, :3].T + self.clip_matrix[:, 3])[None]


def our_step(scene: Scene, backend: str | None) -> Callable[[], dict[str, float]]:
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


def deodr_step(scene: Scene) -> Callable[[], dict[str, float]] | None:
    """The same work in deodr; None if it is not installed."""
    try:
        from deodr.differentiable_renderer import Scene2DBase, renderScene, renderSceneB
        from deodr.triangulated_mesh import TriMesh
    except ImportError:
        return None
    size, faces = scene.size, scene.triangles.numpy().astype(np.uint32)
    vertices = scene.vertices.double().numpy()
    # deodr culls by screen orientation with y down, so "clockwise" there is counter-clockwise seen from outside here.
    mesh = TriMesh(faces, vertices, clockwise=False)
    rotation, intrinsics = scene.rotation.double().numpy(), scene.intrinsics.double().numpy()
    target = scene.target[0].double().numpy()
    n_vertices, n_faces = len(vertices), len(faces)
    texture = np.ascontiguousarray(scene.texture[0].double().numpy())
    inputs = {
        "faces": faces, "faces_uv": faces, "textured": np.ones(n_faces, bool), "shaded": np.ones(n_faces, bool),
        "uv": scene.uv.double().numpy() * (TEXTURE - 1) + 1.0, "shade": np.ones(n_vertices),
        "colors": np.zeros((n_vertices, 3)), "height": size, "width": size, "nb_colors": 3, "texture": texture,
        "background_color": np.zeros(3), "clockwise": False, "backface_culling": True,
    }  # fmt: skip

    def step() -> dict[str, float]:
        start = time.perf_counter()
        camera = vertices @ rotation.T
        camera[:, 2] += DISTANCE_MM
        projected = camera @ intrinsics.T
        ij = projected[:, :2] / projected[:, 2:]
        flags = mesh.edge_on_silhouette(ij)
        gradients = {
            "uv_b": np.zeros((n_vertices, 2)), "ij_b": np.zeros((n_vertices, 2)), "shade_b": np.zeros(n_vertices),
            "colors_b": np.zeros((n_vertices, 3)), "texture_b": np.zeros_like(texture),
        }  # fmt: skip
        arguments = Scene2DBase(ij=ij, depths=camera[:, 2].copy(), edgeflags=flags, **inputs, **gradients)
        image, z_buffer = np.zeros((size, size, 3)), np.zeros((size, size))
        renderScene(arguments, 1.0, image, z_buffer, check_valid=False)
        middle = time.perf_counter()
        renderSceneB(arguments, 1.0, image, z_buffer, 2.0 * (image - target), check_valid=False)
        _ = (gradients["ij_b"] / projected[:, 2:]) @ intrinsics[:2] @ rotation
        end = time.perf_counter()
        step.image = image
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


def silhouette_gradient_error(size: int = 256, backend: str | None = None, device: str = "cpu") -> dict[str, float]:
    """Compare the silhouette gradient of a white mask with central differences of a supersampled render.

    The numbers compared are the derivatives of six weighted sums of the mask (the weights are plane waves) with respect
    to a shift in x and in y.

    Returns:
        Relative error (norm of the difference over that of the truth) and recovered share (projection on the truth).
    """
    scene, fine = Scene(size, device), Scene(size * SUPERSAMPLING, device)
    axis = (torch.arange(size, device=device) + 0.5) / size
    waves = [(1, 0), (0, 1), (2, 1), (1, 3), (4, 2), (3, 5)]
    weights = torch.stack(
        [torch.cos(2 * math.pi * (a * axis[None] + b * axis[:, None]) + 0.7 * k) for k, (a, b) in enumerate(waves)]
    )
    shift = torch.zeros(2, device=device, requires_grad=True)

    def moved(offset: Tensor) -> Tensor:
        # World x and y are camera x and -y up to the yaw, which the shift is to ignore.
        return scene.vertices + torch.cat([offset, offset.new_zeros(1)]) @ scene.rotation

    clip = scene.clip(moved(shift))
    fragments = rasterize(clip, scene.topology, (size, size), backend)
    mask = antialias(fragments.mask[..., None].float(), fragments, clip, scene.topology)
    sums = (mask[..., 0] * weights).sum((1, 2))
    ours = torch.stack([torch.autograd.grad(value, shift, retain_graph=True)[0] for value in sums])
    step_mm = 0.5 * DISTANCE_MM / (4.0 * size)
    truth = torch.zeros_like(ours)
    for k in range(2):
        offset = torch.zeros(2, device=device)
        offset[k] = step_mm
        totals = []
        for sign in (1.0, -1.0):
            seen = rasterize(fine.clip(moved(sign * offset)), fine.topology, (fine.size, fine.size), backend).mask
            coarse = torch.nn.functional.avg_pool2d(seen[None].float(), SUPERSAMPLING)[0, 0]
            totals.append((coarse * weights).sum((1, 2)))
        truth[:, k] = (totals[0] - totals[1]) / (2 * step_mm)
    return {
        "relative_error": float((ours - truth).norm() / truth.norm()),
        "recovered": float((ours * truth).sum() / truth.square().sum()),
    }


def run(sizes: tuple[int, ...], runs: int, backend: str | None, device: str) -> dict:
    """All measurements as one JSON-able record."""
    record: dict = {"environment": environment(device, backend), "step": "textured, silhouettes, forward + backward"}
    for size in sizes:
        scene = Scene(size, device)
        steps = {"ours": our_step(scene, backend)}
        peer = deodr_step(scene) if device == "cpu" else None
        if peer is not None:
            steps["deodr"] = peer
        medians = interleaved_medians(steps, runs)
        entry: dict = {"ms": {name: {k: round(v, 3) for k, v in parts.items()} for name, parts in medians.items()}}
        if peer is not None:
            entry["deodr_over_ours"] = round(medians["deodr"]["total"] / medians["ours"]["total"], 3)
        record[str(size)] = entry
    errors = silhouette_gradient_error(256, backend, device)
    record["silhouette_gradient_256"] = {name: round(value, 5) for name, value in errors.items()}
    return record


def ratio_range(passes: list[dict], sizes: list[int]) -> dict[str, dict[str, float]]:
    """Lowest, middle and highest speed ratio over the passes, per size; neighbours on the machine spread them."""
    out = {}
    for size in sizes:
        ratios = [entry[str(size)]["deodr_over_ours"] for entry in passes if "deodr_over_ours" in entry[str(size)]]
        if ratios:
            out[str(size)] = {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)}
    return out


def environment(device: str, backend: str | None) -> dict:
    """What the numbers depend on."""
    versions = {}
    for package in ("torch", "numba", "numpy", "warp-lang", "deodr"):
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
        "device": name, "backend": choose_backend(device, backend), "threads": threads,
        "load_average": round(os.getloadavg()[0], 2), "versions": versions, "python": platform.python_version(),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Measure, say the result and write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="image sizes, px")
    parser.add_argument("--runs", type=int, default=40, help="timed steps per size")
    parser.add_argument("--repeat", type=int, default=3, help="passes over everything; all of them are kept")
    parser.add_argument("--backend", default=None, help="backend name; the device's default if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/render.json"))
    options = parser.parse_args(arguments)
    passes = [run(tuple(options.sizes), options.runs, options.backend, options.device) for _ in range(options.repeat)]
    content = {"deodr_over_ours": ratio_range(passes, options.sizes), "passes": passes}
    record = headed("render", content, options.device)
    write_record(options.out, record)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

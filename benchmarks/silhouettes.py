"""How much of the silhouette's gradient a renderer passes on, against central differences of a supersampled image."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.render_scene import DISTANCE_MM, RenderScene
from fitter.render.operations import antialias, rasterize

SUPERSAMPLING = 8
Mask = Callable[[RenderScene, Tensor], Tensor]
"""Coverage [H, W], differentiable, of a scene with clip positions [1, V, 4]."""


def edge_walk(backend: str | None = None) -> Mask:
    """Our mask: silhouettes found by walking the mesh."""

    def mask(scene: RenderScene, clip: Tensor) -> Tensor:
        fragments = rasterize(clip, scene.topology, (scene.size, scene.size), backend)
        return antialias(fragments.mask[..., None].float(), fragments, clip, scene.topology)[0, ..., 0]

    return mask


def nvdiffrast_antialias() -> Mask | None:
    """nvdiffrast's own antialiasing of the same mask; None where it is not installed."""
    try:
        import nvdiffrast.torch as dr
    except ImportError:
        return None
    from fitter.kernels.nvdiffrast_cuda import find_conventions

    contexts = {}

    def mask(scene: RenderScene, clip: Tensor) -> Tensor:
        context = contexts.setdefault(clip.device, dr.RasterizeCudaContext(device=clip.device))
        triangles = scene.topology.triangles.int()
        fragments, _ = dr.rasterize(context, clip, triangles, resolution=[scene.size, scene.size], grad_db=False)
        covered = dr.antialias((fragments[..., 3:] > 0).float(), fragments, clip, triangles)[0, ..., 0]
        return covered.flip(0) if find_conventions(clip.device).flipped else covered

    return mask


def silhouette_gradient_error(size: int = 256, mask: Mask | None = None, device: str = "cpu") -> dict[str, float]:
    """Compare the silhouette gradient of a white mask with central differences of a supersampled render.

    The numbers compared are the derivatives of six weighted sums of the mask (the weights are plane waves) with respect
    to a shift in x and in y.

    Args:
        size: Side of the image, px.
        mask: What is judged; our own edge walk if not given. The truth is made by our rasterizer in any case.
        device: Where to render.

    Returns:
        Relative error (norm of the difference over that of the truth) and recovered share (projection on the truth).
    """
    mask = mask or edge_walk()
    scene, fine = RenderScene(size, device), RenderScene(size * SUPERSAMPLING, device)
    axis = (torch.arange(size, device=device) + 0.5) / size
    waves = [(1, 0), (0, 1), (2, 1), (1, 3), (4, 2), (3, 5)]
    weights = torch.stack(
        [torch.cos(2 * math.pi * (a * axis[None] + b * axis[:, None]) + 0.7 * k) for k, (a, b) in enumerate(waves)]
    )
    shift = torch.zeros(2, device=device, requires_grad=True)

    def moved(offset: Tensor) -> Tensor:
        # World x and y are camera x and -y up to the yaw, which the shift is to ignore.
        return scene.vertices + torch.cat([offset, offset.new_zeros(1)]) @ scene.rotation

    sums = (mask(scene, scene.clip(moved(shift))) * weights).sum((1, 2))
    found = torch.stack([torch.autograd.grad(value, shift, retain_graph=True)[0] for value in sums])
    step_mm = 0.5 * DISTANCE_MM / (4.0 * size)
    truth = torch.zeros_like(found)
    for k in range(2):
        offset = torch.zeros(2, device=device)
        offset[k] = step_mm
        totals = []
        for sign in (1.0, -1.0):
            seen = rasterize(fine.clip(moved(sign * offset)), fine.topology, (fine.size, fine.size)).mask
            coarse = torch.nn.functional.avg_pool2d(seen[None].float(), SUPERSAMPLING)[0, 0]
            totals.append((coarse * weights).sum((1, 2)))
        truth[:, k] = (totals[0] - totals[1]) / (2 * step_mm)
    return {
        "relative_error": float((found - truth).norm() / truth.norm()),
        "recovered": float((found * truth).sum() / truth.square().sum()),
    }

"""Colour for eyeballs and the inside of the mouth where no photograph shows them: the fitted albedo, painted in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fitter.export.meshes import vertex_colours
from fitter.result.patches import patch_samples
from fitter.result.types import FitResult


def patch_colours(result: FitResult, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Fitted albedo [T, T, 3] (linear RGB, row 0 is v = 0) and mask [T, T] of the texels of those parts."""
    samples = patch_samples(result.model, size)
    if samples is None:
        return np.zeros((size, size, 3)), np.zeros((size, size), bool)
    colours = samples.interpolate(torch.from_numpy(vertex_colours(result).astype(np.float32)))
    mask = samples.to_grid(torch.ones_like(samples.texel)) > 0
    return samples.to_grid(colours).numpy().astype(np.float64), mask.numpy()


def with_painted_patches(result: FitResult) -> FitResult:
    """The result with the eyeballs and the inside of the mouth painted into texture and albedo.

    Where a photograph shows them they keep its colours. The texture holds the photographs' light, so the albedo is
    brought to its brightness by the skin's median ratio.
    """
    painted = {}
    for name in ("texture", "albedo_map"):
        image = getattr(result, name)
        colours, mask = patch_colours(result, image.shape[0])
        if not mask.any():
            continue
        gain = _skin_gain(result) if name == "texture" else 1.0
        photographed = 0.0 if result.patch_weight is None else result.patch_weight[..., None]
        mixed = image * photographed + colours * gain * (1.0 - photographed)
        painted[name] = np.where(mask[..., None], mixed, image).astype(image.dtype)
    return replace(result, **painted) if painted else result


def _skin_gain(result: FitResult) -> float:
    """How bright the texture is compared with the fitted albedo, on the face."""
    size = result.texture.shape[0]
    nearest = ((np.arange(size) + 0.5) / size * len(result.map_valid)).astype(int)
    skin = result.texture[result.map_valid[nearest[:, None], nearest]]
    albedo = vertex_colours(result)[result.model.regions["face"].cpu().numpy()]
    return float(np.clip(np.median(skin) / max(float(np.median(albedo)), 1e-6), 0.1, 10.0)) if skin.size else 1.0

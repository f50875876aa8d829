"""Colour for eyeballs and the inside of the mouth where no photograph shows them: the fitted albedo, painted in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fitter.export.meshes import vertex_colours
from fitter.result.patches import patch_samples
from fitter.result.types import FitResult


def patch_colours(result: FitResult, size: int, colours: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Colours [T, T, 3] (linear RGB, row 0 is v = 0) and mask [T, T] of the texels of those parts.

    Args:
        result: The fit.
        size: T texels per side.
        colours: [V, 3] linear RGB of the model's vertices; by default the fitted albedo.
    """
    samples = patch_samples(result.model, size)
    if samples is None:
        return np.zeros((size, size, 3)), np.zeros((size, size), bool)
    chosen = vertex_colours(result) if colours is None else colours
    painted = samples.interpolate(torch.from_numpy(chosen.astype(np.float32)))
    mask = samples.to_grid(torch.ones_like(samples.texel)) > 0
    return samples.to_grid(painted).numpy().astype(np.float64), mask.numpy()


def with_painted_patches(result: FitResult) -> FitResult:
    """The result with the eyeballs and the inside of the mouth painted into texture and albedo.

    Where a photograph shows them they keep its colours. Lids and mouth are brought to the tone of the skin around them
    by the skin's median ratio; eyeballs to its brightness, as white eyes do not follow the skin's tone.
    """
    painted = {}
    skin = result.model.regions["skin"].cpu().numpy()
    for name in ("texture", "albedo_map"):
        image = getattr(result, name)
        tone = _skin_tone(result, image)
        eyes = tone.mean() if name == "texture" else 1.0
        factor = np.where(skin[:, None], tone, eyes)
        colours, mask = patch_colours(result, image.shape[0], vertex_colours(result) * factor)
        if not mask.any():
            continue
        photographed = 0.0 if result.patch_weight is None else result.patch_weight[..., None]
        mixed = image * photographed + colours * (1.0 - photographed)
        painted[name] = np.where(mask[..., None], np.clip(mixed, 0.0, 1.0), image).astype(image.dtype)
    return replace(result, **painted) if painted else result


def _skin_tone(result: FitResult, image: np.ndarray) -> np.ndarray:
    """[3] how a map [T, T, 3] compares with the fitted albedo, in the median of skin inside the atlas."""
    size = len(result.map_valid)
    nearest = ((np.arange(size) + 0.5) / size * image.shape[0]).astype(int)
    skin = image[nearest[:, None], nearest][result.map_valid]
    if not skin.size:
        return np.ones(3)
    albedo = np.median(vertex_colours(result)[result.model.regions["face"].cpu().numpy()], 0)
    return np.clip(np.median(skin, 0) / np.maximum(albedo, 1e-6), 0.1, 10.0)

"""Colour for what the fit's maps leave out (eyeballs, inside of the mouth): the fitted albedo, painted in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fitter.export.meshes import in_atlas, textured_triangles, vertex_colours
from fitter.kernels.topology import MeshTopology
from fitter.render.operations import interpolate, rasterize
from fitter.result.types import FitResult


def patch_colours(result: FitResult, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Fitted albedo [T, T, 3] (linear RGB, row 0 is v = 0) and mask [T, T] of the texels of those parts.

    An eyeball's patch is its front seen along z, with its back folded underneath: of triangles that share a texel
    the one further out of the face counts.
    """
    model = result.model
    triangles = model.triangles[torch.from_numpy(textured_triangles(model) & ~in_atlas(model))].cpu()
    if len(triangles) == 0:
        return np.zeros((size, size, 3)), np.zeros((size, size), bool)
    depth = model.mean[:, 2].cpu().double()
    nearer = (depth - depth.min()) / (depth.max() - depth.min()).clamp_min(1e-9)
    uv = model.atlas_uv.cpu().double()
    # Clip space has y down from row 0, and a map's row 0 is v = 0.
    clip = torch.stack([2 * uv[:, 0] - 1, 2 * uv[:, 1] - 1, 0.9 - 1.8 * nearer, torch.ones_like(nearer)], -1).float()
    topology = MeshTopology.from_triangles(triangles, model.vertex_count)
    fragments = rasterize(clip[None], topology, (size, size))
    colours = torch.from_numpy(vertex_colours(result).astype(np.float32))
    return interpolate(colours[None], fragments, topology)[0].numpy().astype(np.float64), fragments.mask[0].numpy()


def with_painted_patches(result: FitResult) -> FitResult:
    """The result with the eyeballs and the inside of the mouth painted into texture and albedo.

    The texture holds the photographs' light, so the albedo is brought to its brightness by the skin's median ratio.
    """
    painted = {}
    for name in ("texture", "albedo_map"):
        image = getattr(result, name)
        colours, mask = patch_colours(result, image.shape[0])
        if not mask.any():
            continue
        gain = _skin_gain(result) if name == "texture" else 1.0
        painted[name] = np.where(mask[..., None], colours * gain, image).astype(image.dtype)
    return replace(result, **painted) if painted else result


def _skin_gain(result: FitResult) -> float:
    """How bright the texture is compared with the fitted albedo, on the face."""
    size = result.texture.shape[0]
    nearest = ((np.arange(size) + 0.5) / size * len(result.map_valid)).astype(int)
    skin = result.texture[result.map_valid[nearest[:, None], nearest]]
    albedo = vertex_colours(result)[result.model.regions["face"].cpu().numpy()]
    return float(np.clip(np.median(skin) / max(float(np.median(albedo)), 1e-6), 0.1, 10.0)) if skin.size else 1.0

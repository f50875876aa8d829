"""Eyeballs with a patch of the atlas get the fitted albedo there, front side up; the skin stays as it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from fitter.export.meshes import textured_triangles
from fitter.export.patches import patch_colours, with_painted_patches
from tests.factories import toy_result


def _with_eye_patches():
    """The toy result with its two eye caps laid out in the upper corners of the atlas."""
    result = toy_result()
    model = result.model
    uv, mean = model.atlas_uv.clone(), model.mean
    eyes = model.regions["eyes"]
    side = torch.where(mean[:, 0] > 0, 0.93, 0.07)
    centre = torch.stack([torch.where(mean[:, 0] > 0, 32.0, -32.0), torch.full_like(side, 22.0)], -1)
    uv[eyes] = (torch.stack([side, torch.full_like(side, 0.93)], -1) + (mean[:, :2] - centre) * 0.005)[eyes]
    return dataclasses.replace(result, model=dataclasses.replace(model, atlas_uv=uv))


def test_patches_are_painted_and_nothing_else():
    result = _with_eye_patches()
    assert textured_triangles(result.model).all()
    colours, mask = patch_colours(result, 64)
    # Two octagons of 7 mm radius at 0.005 per mm, in the upper corners (rows near v = 1).
    assert 2 * 10 < mask.sum() < 2 * 20 and mask[32:].sum() == mask.sum()
    painted = with_painted_patches(result)
    eye_mask = np.repeat(mask[..., None], 3, -1)
    np.testing.assert_array_equal(painted.texture[~eye_mask], result.texture[~eye_mask])
    np.testing.assert_allclose(painted.albedo_map[mask], colours[mask], atol=1e-6)
    assert np.ptp(painted.texture[mask], axis=-1).max() < 0.15  # near white, unlike skin


def test_of_folded_triangles_the_front_is_seen():
    result = _with_eye_patches()
    model = result.model
    # A second, deeper copy of every eye vertex with a loud colour must not show.
    eyes = torch.nonzero(model.regions["eyes"])[:, 0]
    count = model.vertex_count
    copy = torch.arange(count)
    copy[eyes] = count + torch.arange(len(eyes))
    inner = model.triangles[model.regions["eyes"][model.triangles].all(1)]

    def extended(values, extra):
        return torch.cat([values, extra])

    deeper = model.mean[eyes] - torch.tensor([0, 0, 20.0])
    loud = torch.tensor([1.0, 0, 0]).expand(len(eyes), 3).to(model.albedo_mean)
    folded = dataclasses.replace(
        model,
        mean=extended(model.mean, deeper),
        atlas_uv=extended(model.atlas_uv, model.atlas_uv[eyes]),
        albedo_mean=extended(model.albedo_mean, loud),
        albedo_basis=extended(model.albedo_basis, torch.zeros(len(eyes), 3, 1, dtype=model.albedo_basis.dtype)),
        triangles=torch.cat([copy[inner], model.triangles]),
    )
    folded_colours, folded_mask = patch_colours(dataclasses.replace(result, model=folded), 64)
    colours, mask = patch_colours(result, 64)
    np.testing.assert_array_equal(folded_mask, mask)
    np.testing.assert_allclose(folded_colours, colours, atol=1e-5)


def test_without_patches_the_result_is_left_alone():
    result = toy_result()
    assert with_painted_patches(result) is result


def test_photographed_texels_keep_their_colour():
    """Half a photograph's weight is half of its colour; without weight all is painted."""
    result = _with_eye_patches()
    _, mask = patch_colours(result, 64)
    weight = np.zeros((64, 64), np.float32)
    weight[:, :32], weight[:, 32:48] = 1.0, 0.5
    photographed = dataclasses.replace(result, texture=np.full((64, 64, 3), 0.1, np.float32), patch_weight=weight)
    plain = with_painted_patches(dataclasses.replace(photographed, patch_weight=None)).texture
    found = with_painted_patches(photographed).texture
    np.testing.assert_allclose(found[:, :32], 0.1, atol=1e-6)
    np.testing.assert_allclose(found[:, 48:][mask[:, 48:]], plain[:, 48:][mask[:, 48:]], atol=1e-6)
    between = 0.5 * (plain + 0.1)
    np.testing.assert_allclose(found[:, 32:48][mask[:, 32:48]], between[:, 32:48][mask[:, 32:48]], atol=1e-6)
    assert mask[:, :32].any() and mask[:, 48:].any()

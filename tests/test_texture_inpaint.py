"""Pull-push and mirrored inpainting: known texels stay, unknown ones come out as they should."""

import torch

from fitter.texture.filters import texel_centres
from fitter.texture.inpaint import inpaint_texture, pull_push


def test_known_texels_stay_and_a_constant_fills_everything():
    weight = torch.zeros(37, 37)
    weight[5:9, 20:30] = 1.0
    values = torch.where(weight[..., None] > 0, torch.tensor([0.2, 0.5, 0.8]), torch.tensor(float("nan")))
    filled = pull_push(values, weight)
    assert torch.allclose(filled, torch.tensor([0.2, 0.5, 0.8]).expand(37, 37, 3), atol=1e-6)
    noise = torch.rand(2, 16, 16, 3)
    known = (torch.rand(2, 16, 16) > 0.5).float()
    result = pull_push(noise, known)
    assert torch.equal(result[known > 0], noise[known > 0]) and torch.isfinite(result).all()
    assert float(result.min()) >= 0.0 and float(result.max()) <= 1.0


def test_a_hole_in_a_gradient_is_filled_near_the_gradient():
    axis = torch.linspace(0, 1, 64, dtype=torch.float64)
    ramp = axis.expand(64, 64)[..., None]
    weight = torch.ones(64, 64)
    weight[24:40, 24:40] = 0.0
    filled = pull_push(ramp, weight)
    assert float((filled - ramp).abs().max()) < 0.12


def test_nothing_known_is_zero_not_nan():
    assert torch.equal(pull_push(torch.full((8, 8, 3), 5.0), torch.zeros(8, 8)), torch.zeros(8, 8, 3))
    texture = inpaint_texture(torch.rand(8, 8, 3), torch.zeros(8, 8), torch.ones(8, 8, dtype=torch.bool))
    assert torch.equal(texture, torch.zeros(8, 8, 3))


def test_only_texels_of_the_atlas_are_a_source():
    texture = torch.zeros(16, 16, 3)
    texture[:, 8:] = 1.0
    valid = torch.zeros(16, 16, dtype=torch.bool)
    valid[:, :8] = True
    filled = inpaint_texture(texture, torch.ones(16, 16), valid)
    assert torch.allclose(filled, torch.zeros_like(filled))


def _mirror(size: int) -> torch.Tensor:
    centres = texel_centres(torch.zeros(1), size, size)
    return torch.stack([size - centres[..., 0], centres[..., 1]], -1)


def test_mirror_brings_the_detail_of_the_other_side_in_the_own_light():
    size = 64
    generator = torch.Generator().manual_seed(1)
    half = 0.3 + 0.2 * torch.rand(size, size // 2, 1, generator=generator).expand(-1, -1, 3)
    symmetric = torch.cat([half, half.flip(1)], 1)
    light = torch.linspace(1.0, 0.5, size)[None, :, None]  # from the left, as from a window
    truth = symmetric * light
    weight = torch.ones(size, size)
    weight[20:44, 40:60] = 0.0  # unseen patch in the darker half
    hole = weight == 0
    valid = torch.ones(size, size, dtype=torch.bool)
    mirrored = inpaint_texture(truth, weight, valid, mirror=_mirror(size))
    smooth = inpaint_texture(truth, weight, valid)
    assert torch.equal(mirrored[~hole], truth[~hole])
    error = (mirrored - truth)[hole].abs().mean()
    assert float(error) < 0.15 * float((smooth - truth)[hole].abs().mean())
    assert float(error) < 0.01


def test_what_no_side_sees_still_gets_filled():
    size = 32
    weight = torch.ones(size, size)
    weight[10:20, 10:22] = 0.0  # across the middle: mirrored onto itself
    filled = inpaint_texture(
        torch.full((size, size, 3), 0.4), weight, torch.ones(size, size, dtype=torch.bool), mirror=_mirror(size)
    )
    assert torch.allclose(filled, torch.full_like(filled, 0.4), atol=1e-5)

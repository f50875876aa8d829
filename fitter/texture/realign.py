"""The realigned texture T': T moved along with the deformation map (HRN §3.2).

T was read off the photograph through M0. When the deformation map turns M0 into M1, the same texel projects elsewhere,
and T no longer fits. HRN projects the deformation into the image and turns it into a flow in UV that fetches, for each
texel, the colour that T holds where M0 projected to what M1 projects to now.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.camera import Camera
from fitter.texture.filters import sample_grid, texel_centres
from fitter.texture.inpaint import pull_push
from fitter.texture.unwrap import project_texels


@dataclass(frozen=True)
class RealignedTexture:
    """T' and how it came about."""

    texture: Tensor
    """[R, R, 3] linear RGB."""
    weight: Tensor
    """[R, R] the weight of T where T' was fetched; 0 where the flow could not be found."""
    flow: Tensor
    """[R, R, 2] texels (x, y): T'(x) = T(x + flow)."""


def reversal_flow(
    pixels_m0: Tensor, pixels_m1: Tensor, valid: Tensor, *, steps: int = 3, limit: float = 8.0
) -> tuple[Tensor, Tensor]:
    """The flow F in UV with pixels_m0(x + F(x)) = pixels_m1(x).

    To first order F = J⁻¹ (pixels_m1 - pixels_m0), J the Jacobian of M0's image position with respect to UV: that is
    the first step here, and all of HRN's. Further Newton steps follow its curvature. Where M0 is seen edge-on J cannot
    be inverted; the inverse is damped and the step limited.

    Args:
        pixels_m0: [R, R, 2] px, projection of M0's texels.
        pixels_m1: [R, R, 2] px, projection of M1's texels.
        valid: [R, R] bool, texels of the atlas.
        steps: Newton steps.
        limit: Longest flow, texels.

    Returns:
        The flow [R, R, 2] in texels, and the distance [R, R] in px by which it still misses.
    """
    rows, columns = pixels_m0.shape[:2]
    centres = texel_centres(pixels_m0, rows, columns)
    # Continued beyond the atlas, so that its border texels do not interpolate towards nowhere.
    known = valid.to(pixels_m0.dtype)
    jacobian = pull_push(_jacobian(pixels_m0, valid).flatten(-2), known)
    pixels_m0 = pull_push(pixels_m0, known)
    flow = torch.zeros_like(pixels_m0)
    for _ in range(steps):
        missing = pixels_m1 - sample_grid(pixels_m0, centres + flow)
        local = sample_grid(jacobian, centres + flow).unflatten(-1, (2, 2))
        flow = flow + _damped_solve(local, missing)
        length = flow.norm(dim=-1, keepdim=True)
        flow = flow * (limit / length.clamp_min(limit))
    missing = (pixels_m1 - sample_grid(pixels_m0, centres + flow)).norm(dim=-1)
    return flow * valid[..., None], missing


def realign_texture(
    texture: Tensor,
    weight: Tensor,
    camera: Camera,
    positions_m0: Tensor,
    positions_m1: Tensor,
    valid: Tensor,
    *,
    steps: int = 3,
    tolerance: float = 1.0,
) -> RealignedTexture:
    """Resample T so that each texel holds what the photograph shows at M1's projection.

    Args:
        texture: [R, R, 3] linear RGB, T, sampled through M0 (inpainted or not).
        weight: [R, R] weight of T.
        camera: Of the photograph.
        positions_m0: [R, R, 3] world mm.
        positions_m1: [R, R, 3] world mm.
        valid: [R, R] bool, texels of the atlas.
        steps: Newton steps of the flow.
        tolerance: Miss in the photograph, px, at which the weight has fallen to zero.

    Returns:
        T', its weight and the flow.
    """
    flow, missing = reversal_flow(
        project_texels(positions_m0, camera), project_texels(positions_m1, camera), valid, steps=steps
    )
    source = texel_centres(texture, *texture.shape[:2]) + flow
    trust = (1.0 - missing / tolerance).clamp(0.0, 1.0) * valid
    moved = sample_grid(torch.cat([texture, weight[..., None].to(texture.dtype)], -1), source)
    return RealignedTexture(moved[..., :3], moved[..., 3] * trust, flow)


def _jacobian(pixels: Tensor, valid: Tensor) -> Tensor:
    """Px per texel [R, R, 2 (pixel), 2 (texel)]: central differences, one-sided at the border of the atlas."""

    def along(axis: int) -> Tensor:
        ahead, behind = pixels.roll(-1, axis), pixels.roll(1, axis)
        has_ahead, has_behind = valid.roll(-1, axis).clone(), valid.roll(1, axis).clone()
        has_ahead.select(axis, -1).fill_(False)
        has_behind.select(axis, 0).fill_(False)
        forward = torch.where(has_ahead[..., None], ahead - pixels, torch.zeros_like(pixels))
        backward = torch.where(has_behind[..., None], pixels - behind, torch.zeros_like(pixels))
        count = has_ahead.to(pixels.dtype) + has_behind.to(pixels.dtype)
        return (forward + backward) / count.clamp_min(1.0)[..., None]

    return torch.stack([along(1), along(0)], -1)


def _damped_solve(matrix: Tensor, right: Tensor, damping: float = 1e-3) -> Tensor:
    """Least-squares solution of [..., 2, 2] systems, damped by a fraction of the matrix' own size."""
    transposed = matrix.transpose(-1, -2)
    normal = transposed @ matrix
    trace = normal.diagonal(dim1=-2, dim2=-1).sum(-1)
    # The damping matters only where one direction is foreshortened to a few percent; the floor keeps 0 / 0 away.
    normal = normal + torch.diag_embed((damping * damping * trace + 1e-12)[..., None].expand(*trace.shape, 2))
    a, b, d = normal[..., 0, 0], normal[..., 0, 1], normal[..., 1, 1]
    x, y = (transposed @ right[..., None])[..., 0].unbind(-1)
    determinant = a * d - b * b
    return torch.stack([d * x - b * y, a * y - b * x], -1) / determinant[..., None]

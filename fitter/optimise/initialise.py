"""Closed-form starts: poses from landmarks (Gold Standard affine camera), triangulation, similarity Procrustes."""

from __future__ import annotations

import torch
from torch import Tensor


def procrustes(source: Tensor, target: Tensor, weight: Tensor, with_scale: bool) -> tuple[Tensor, Tensor]:
    """Weighted similarity (or rigid) alignment of points (Umeyama 1991).

    Args:
        source: [K, 3].
        target: [K, 3].
        weight: [K].
        with_scale: Solve the scale too; else it is 1.

    Returns:
        Rigid [4, 4] target_from_source for the *scaled* source, and the scale [].
    """
    total = weight.sum().clamp_min(1e-9)
    centre_source = (weight[:, None] * source).sum(0) / total
    centre_target = (weight[:, None] * target).sum(0) / total
    moved_source, moved_target = source - centre_source, target - centre_target
    covariance = (weight[:, None] * moved_target).T @ moved_source / total
    u, singular, vt = torch.linalg.svd(covariance)
    sign = torch.ones_like(singular)
    sign[-1] = torch.sign(torch.linalg.det(u @ vt))
    rotation = u @ torch.diag(sign) @ vt
    variance = (weight[:, None] * moved_source**2).sum() / total
    scale = (singular * sign).sum() / variance.clamp_min(1e-12) if with_scale else torch.ones_like(variance)
    transform = torch.eye(4, dtype=source.dtype, device=source.device)
    transform[:3, :3] = rotation
    transform[:3, 3] = centre_target - scale * rotation @ centre_source
    return transform, scale


def triangulate(
    pixels: Tensor, confidence: Tensor, intrinsics: Tensor, cam_from_world: Tensor
) -> tuple[Tensor, Tensor]:
    """Points from their images: smallest weighted sum of squared distances to the rays.

    Args:
        pixels: [N, K, 2].
        confidence: [N, K].
        intrinsics: [N, 3, 3].
        cam_from_world: [N, 4, 4].

    Returns:
        [K, 3] world points, and [K] how well each is determined (0 where fewer than two views see it).
    """
    ones = torch.ones_like(pixels[..., :1])
    rays_cam = torch.cat([pixels, ones], -1) @ torch.linalg.inv(intrinsics).transpose(-1, -2)
    rays = torch.nn.functional.normalize(rays_cam @ cam_from_world[:, :3, :3], dim=-1)
    centres = -(cam_from_world[:, :3, :3].transpose(-1, -2) @ cam_from_world[:, :3, 3:])[..., 0]
    projector = torch.eye(3, dtype=rays.dtype, device=rays.device) - rays[..., :, None] * rays[..., None, :]
    projector = projector * confidence[..., None, None]
    matrix = projector.sum(0)
    right = (projector @ centres[:, None, :, None])[..., 0].sum(0)
    seen = ((confidence > 0).sum(0) >= 2).to(pixels.dtype)
    safe = matrix + (1.0 - seen)[:, None, None] * torch.eye(3, dtype=rays.dtype, device=rays.device)
    return torch.linalg.solve(safe, right), seen * confidence.sum(0)


def pose_from_landmarks(points: Tensor, pixels: Tensor, weight: Tensor, intrinsics: Tensor) -> Tensor:
    """Camera pose from points and their images: affine camera by least squares, made rigid, then refined.

    The affine camera is the Gold Standard algorithm of Hartley and Zisserman 2004 (alg. 7.2, linear for affine cameras);
    perspective is added by iterating on the points' relative depths (POSIT, DeMenthon and Davis 1995).

    Args:
        points: [K, 3] mm.
        pixels: [K, 2] px.
        weight: [K].
        intrinsics: [3, 3].

    Returns:
        [4, 4] rigid cam_from_points.
    """
    ones = torch.ones_like(pixels[:, :1])
    rays = (torch.cat([pixels, ones], -1) @ torch.linalg.inv(intrinsics).T)[:, :2]
    centre = (weight[:, None] * points).sum(0) / weight.sum()
    moved = points - centre
    design = torch.cat([moved, ones], -1) * weight.sqrt()[:, None]
    relative_depth = torch.zeros_like(weight)
    transform = torch.eye(4, dtype=points.dtype, device=points.device)
    for _ in range(12):
        right = rays * (1.0 + relative_depth)[:, None] * weight.sqrt()[:, None]
        solution = torch.linalg.lstsq(design, right).solution  # rows: 3 axes and the centre
        affine = solution[:3].T
        u, singular, vt = torch.linalg.svd(affine, full_matrices=False)
        inverse_depth = singular.mean()
        first_two = u @ vt
        rotation = torch.cat([first_two, torch.linalg.cross(first_two[0], first_two[1])[None]])
        depth = 1.0 / inverse_depth.clamp_min(1e-9)
        translation = torch.cat([solution[3] * depth, depth[None]])
        relative_depth = (moved @ rotation[2]) * inverse_depth
        transform[:3, :3] = rotation
        transform[:3, 3] = translation - rotation @ centre
    return transform

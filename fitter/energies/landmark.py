"""Landmark energy, and the jaw's landmarks that slide along the surface with the pose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.model.morphable import MorphableModel

JAW_POINTS = 17
"""iBUG-68 points 0–16: the jaw line from the subject's right ear over the chin to the left ear."""

NOSE = slice(27, 36)
INNER_MOUTH = slice(60, 68)


def ibug68_weights(like: Tensor, *, jaw: float = 1.0, emphasis: float = 20.0) -> Tensor:
    """Weights [68] of Deng et al. 2019, §3.2: 20 for the nose and the inner mouth, 1 for the others.

    Args:
        like: Any tensor of the wanted dtype and device.
        jaw: Weight of the 17 jaw points, which detectors place least well.
        emphasis: Weight of the nose (27–35) and of the inner mouth (60–67).
    """
    weights = torch.ones(68, dtype=like.dtype, device=like.device)
    weights[:JAW_POINTS] = jaw
    weights[NOSE] = emphasis
    weights[INNER_MOUTH] = emphasis
    return weights


def interocular_distance(points: Tensor) -> Tensor:
    """Distance [...] of the two eyes' centres in iBUG-68 points [..., 68, 2], px."""
    return (points[..., 36:42, :].mean(-2) - points[..., 42:48, :].mean(-2)).norm(dim=-1)


def landmark_energy(
    predicted: Tensor, target: Tensor, confidence: Tensor, weights: Tensor, *, scale: float | Tensor
) -> Tensor:
    """Weighted mean squared landmark distance (Deng et al. 2019, eq. 3), as a fraction of the face's size.

    1/N sum_n ω_n c_n |q_n - q'_n|² / scale², N the number of landmarks with confidence. As in the paper the sum is
    divided by N and not by the weights: a weight of 20 makes the energy larger.

    Args:
        predicted: [B, L, 2] projected landmarks, px.
        target: [B, L, 2] detected landmarks, px.
        confidence: [B, L] in [0, 1]; 0 drops a landmark (which may then be NaN).
        weights: [L] or [B, L], e.g. of `ibug68_weights`.
        scale: Inter-ocular distance, px, a number or [B], so that the weight does not depend on the resolution.

    Returns:
        Scalar without unit, mean over the batch.
    """
    kept = confidence > 0
    offset = torch.where(kept[..., None], predicted - target, torch.zeros_like(predicted))
    squared = offset.square().sum(-1) * weights * confidence
    count = kept.sum(-1).clamp_min(1)
    return (squared.sum(-1) / count / scale**2).mean()


@dataclass(frozen=True)
class JawCandidates:
    """For each jaw landmark, the vertices among which it slides, in order from the front of the face to the back."""

    vertices: Tensor
    """[17, C] int64; rows are padded."""
    valid: Tensor
    """[17, C] bool, False for padding."""
    outward: Tensor
    """[17, 3] unit vectors in model space, in the plane of the face, away from it at the landmark."""
    base: Tensor
    """[17] int64, the vertex nearest to the landmark of the frontal face."""


def jaw_candidates(
    model: MorphableModel,
    *,
    half_width: float = 4.0,
    inward_reach: float = 35.0,
    outward_reach: float = 6.0,
    behind_ear: float = 4.0,
) -> JawCandidates:
    """Cross-sections of the mean face along which the jaw's landmarks slide.

    The section of a landmark is the plane through it that holds the depth axis and the outward direction there: the
    part of the surface normal in the plane of the face. It is a horizontal iso-line beside the ears and turns upright
    at the chin, so that yaw and pitch both find their silhouette on it. Vertices of the atlas' skin within a band of
    the plane are candidates, on the inside up to `inward_reach` from the landmark, and not behind the ears' landmarks:
    past them the silhouette is ear and skull, and a detector stops at the ear.

    Args:
        model: Its mean shape, iBUG-68 embedding and atlas triangles are used.
        half_width: Half the width of the band, mm; doubled until at least four vertices lie in it.
        inward_reach: How far towards the middle of the face a section goes, mm.
        outward_reach: How far beyond the landmark it goes, mm; keeps the neck out.
        behind_ear: How far behind the outermost jaw landmarks it may go, mm.

    Returns:
        The candidates, on the model's device.
    """
    mean, triangles = model.mean, model.atlas_triangles
    points = model.landmarks(mean)[:JAW_POINTS]
    in_atlas = torch.zeros(mean.shape[0], dtype=torch.bool, device=mean.device)
    in_atlas[triangles.flatten()] = True
    outward = _outward_directions(mean, triangles, points)
    rows, bases = [], []
    for landmark in range(JAW_POINTS):
        offset = mean - points[landmark]
        side = torch.stack([-outward[landmark, 1], outward[landmark, 0]])
        across, along = offset[:, :2] @ side, offset @ outward[landmark]
        back = points[[0, JAW_POINTS - 1], 2].min() - behind_ear
        allowed = in_atlas & (along > -inward_reach) & (along < outward_reach) & (mean[:, 2] > back)
        width = half_width
        while int((allowed & (across.abs() < width)).sum()) < 4 and width < 8 * half_width:
            width *= 2.0
        row = torch.nonzero(allowed & (across.abs() < width))[:, 0]
        bases.append(torch.where(in_atlas, offset.norm(dim=-1), torch.inf).argmin())
        # A landmark whose section is empty (a coarse mesh) keeps its own vertex as the only candidate.
        rows.append(row[mean[row, 2].argsort(descending=True)] if len(row) else bases[-1][None])
    longest = max(len(row) for row in rows)
    valid = torch.stack([torch.arange(longest, device=mean.device) < len(row) for row in rows])
    padded = torch.stack([torch.cat([row, row[-1:].expand(longest - len(row))]) for row in rows])
    return JawCandidates(padded, valid, outward, torch.stack(bases))


def contour_landmarks(
    vertices_image: Tensor,
    normals_cam: Tensor,
    candidates: JawCandidates,
    cam_from_model: Tensor,
    *,
    facing_limit: float = 0.25,
) -> Tensor:
    """The vertex of each jaw landmark on the silhouette for the current pose.

    Of each landmark's candidates the one that lies farthest outward in the image, among those whose normal does not
    point away from the camera. On the far side of a turned head that is the silhouette of the cheek; on the near side
    it is the end of the section, at the ear. The choice is discrete and carries no gradient; gather the positions with
    it. Choose anew every few steps, not once.

    Args:
        vertices_image: [..., V, 2] projected vertices, px.
        normals_cam: [..., V, 3] outward vertex normals in the camera frame (z forward: facing normals have z < 0).
        candidates: Of `jaw_candidates`.
        cam_from_model: [..., 3, 3] rotation (a scale does no harm).
        facing_limit: Largest z of a normal that still counts as facing; above 0 because of perspective.

    Returns:
        [..., 17] int64 vertex numbers.
    """
    outward = (candidates.outward.to(cam_from_model.dtype) @ cam_from_model.transpose(-1, -2))[..., :2]
    outward = outward / outward.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    with torch.no_grad():
        positions = vertices_image[..., candidates.vertices, :]
        facing = normals_cam[..., candidates.vertices, 2] < facing_limit
        reach = (positions * outward[..., :, None, :]).sum(-1)
        reach = torch.where(facing & candidates.valid, reach, -torch.inf)
        best, choice = reach.max(-1)
        rows = candidates.vertices.expand(*choice.shape, candidates.vertices.shape[-1])
        chosen = rows.gather(-1, choice[..., None])[..., 0]
        return torch.where(best > -torch.inf, chosen, candidates.base)


def _outward_directions(vertices: Tensor, triangles: Tensor, points: Tensor) -> Tensor:
    """Unit vectors [K, 3] with z = 0: the surface normal around each point, in the plane of the face.

    Averaged over a neighbourhood of 15 mm, because ears and lobes fold the surface beside the landmark.
    """
    corners = vertices[triangles]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    squared = torch.cdist(points, corners.mean(1)).square()
    # Relative to the nearest triangle, so that the weights never all underflow on a coarse mesh.
    weights = torch.exp(-0.5 * (squared - squared.min(-1, keepdim=True).values) / 15.0**2)
    outward = weights @ normals
    outward[:, 2] = 0.0
    return outward / outward.norm(dim=-1, keepdim=True).clamp_min(1e-12)

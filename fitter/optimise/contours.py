"""Outlines: the jaw's sliding landmarks, and the edges of the face masks in the crops."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.camera import project, transform_points
from fitter.energies.contour import RowEdges, mask_row_edges
from fitter.energies.landmark import JAW_POINTS, JawCandidates, contour_landmarks
from fitter.hierarchy.face import FaceState
from fitter.model.morphable import MorphableModel
from fitter.optimise.crops import Crops, resample


@dataclass(frozen=True)
class FaceOutline:
    """A face mask of one photograph and how far its two sides can be trusted (see `fitter.face_masks`)."""

    mask: Tensor
    """[H, W] in [0, 1]; the outline is its 0.5 level."""
    left_confidence: Tensor
    """[H] in [0, 1]."""
    right_confidence: Tensor
    """[H] in [0, 1]."""
    scale: float
    """Pixels of the mask per pixel of the full-size photograph."""


def covered_vertices(model: MorphableModel) -> Tensor:
    """[V] bool: the vertices that a face mask is meant to cover: the face without what lies inside of it."""
    return model.regions["face"] & model.regions["skin"] & ~model.regions["mouth_inside"]


def attended_triangles(model: MorphableModel) -> Tensor:
    """[F] bool: skin and lips of the face, whose look albedo and light explain: no eyes, brows, sockets, mouth."""
    shown = covered_vertices(model) & ~model.regions["eyes"]
    for name in ("sockets", "brows"):
        if name in model.regions:
            shown = shown & ~model.regions[name]
    return shown[model.triangles].all(-1)


@torch.no_grad()
def outline_edges(outlines: tuple[FaceOutline | None, ...], crops: Crops) -> tuple[RowEdges, Tensor]:
    """Row edges [N, S] of the outlines in the crops, px of the crop, and the masks [N, S, S] they are of.

    A view without outline gets weights of 0.
    """
    size = crops.size
    masks, lefts, rights = [], [], []
    for view in range(crops.colour.shape[0]):
        outline = outlines[view] if view < len(outlines) else None
        if outline is None:
            nothing = crops.colour.new_zeros(size)
            masks.append(nothing.expand(size, size))
            lefts.append(nothing)
            rights.append(nothing)
            continue
        side = size / crops.zoom[view]
        confidence = torch.stack([outline.left_confidence, outline.right_confidence])[:, :, None]
        stack = torch.cat([outline.mask[None], confidence.expand(-1, -1, outline.mask.shape[1])])
        cut = resample(stack, outline.scale, crops.corner[view], side, size)
        masks.append(cut[0])
        # The confidence is one number per row; outside of the photograph the crop is 0.
        lefts.append(cut[1].amax(-1))
        rights.append(cut[2].amax(-1))
    mask = torch.stack(masks)
    return mask_row_edges(mask, torch.stack(lefts), torch.stack(rights)), mask


@torch.no_grad()
def silhouette_vertices(
    state: FaceState, view: int, vertices: Tensor, normals: Tensor, candidates: JawCandidates
) -> Tensor:
    """[17] int64: the vertices on which a view's jaw landmarks lie now.

    Args:
        state: Poses.
        view: Which view.
        vertices: [V, 3] world mm.
        normals: [V, 3] world, unit.
        candidates: Of `jaw_candidates`.
    """
    camera = state.cam_from_world[view]
    pixels = project(transform_points(camera, vertices), state.intrinsics[view])
    cam_from_model = camera[:3, :3] @ state.world_from_model[:3, :3]
    return contour_landmarks(pixels, normals @ camera[:3, :3].T, candidates, cam_from_model)


@torch.no_grad()
def landmark_visibility(
    model: MorphableModel, state: FaceState, view: int, vertices: Tensor, normals: Tensor, scheme: str
) -> Tensor:
    """[L] in [0, 1]: how well a view sees each landmark; 0 from grazing angles on. The jaw's slide, so they stay 1."""
    embedding = model.landmarks if scheme == "ibug68" else model.mediapipe
    camera = state.cam_from_world[view]
    points = transform_points(camera, embedding(vertices))
    facing = embedding(normals) @ camera[:3, :3].T
    cosine = -(torch.nn.functional.normalize(facing, dim=-1) * torch.nn.functional.normalize(points, dim=-1)).sum(-1)
    visible = ((cosine - 0.05) / 0.3).clamp(0.0, 1.0)
    if scheme == "ibug68":
        visible[:JAW_POINTS] = 1.0
    return visible

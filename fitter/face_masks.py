"""Face masks for the contour energy: the given ones, else from the model's outline and the photograph's colours."""

from __future__ import annotations

import numpy as np
import torch

from fitter.camera import clip_from_camera, transform_points
from fitter.capture.segmentation import segment_face
from fitter.hierarchy.face import FaceState, m1_vertices
from fitter.kernels.topology import MeshTopology
from fitter.model.morphable import MorphableModel
from fitter.optimise.contours import FaceOutline, covered_vertices
from fitter.optimise.observation import Observation, Photograph
from fitter.render.operations import rasterize
from fitter.threads import in_threads


@torch.no_grad()
def face_masks_for(
    model: MorphableModel, state: FaceState, observation: Observation, longest_side: int = 512
) -> list[FaceOutline | None]:
    """One outline per view, on the observation's device.

    A mask that came with the photograph is taken as it is, with full confidence. Else the face of the fitted model is
    projected and refined by colour (`fitter.capture.segmentation`), which runs on the CPU: call this between stages.

    Args:
        model: The face model.
        state: The fit so far; its M1 is projected.
        observation: Photographs and given masks.
        longest_side: Level of the photographs on which the outline is sought, px; more finds pores, not outlines.

    Returns:
        Outlines; None where the model's face lies outside of the photograph.
    """
    covered = covered_vertices(model)
    triangles = model.triangles[covered[model.triangles].all(-1)]
    topology = MeshTopology.from_triangles(triangles, model.vertex_count)
    levels = [observation.level(view, longest_side) for view in range(state.view_count)]
    # Not in the threads below: parallel loops of Numba may not run beside one another everywhere.
    faces = [_projected(model, state, view, level, topology) for view, level in enumerate(levels)]

    def outline(view: int) -> FaceOutline | None:
        given, photograph, inside = observation.masks[view], levels[view], faces[view]
        if given is not None:
            sure = torch.ones_like(given[:, 0])
            return FaceOutline(given, sure, sure, 1.0)
        if not inside.any():
            return None
        found = segment_face(photograph.colour.permute(1, 2, 0).cpu().numpy(), inside)
        mask, left, right = (
            torch.from_numpy(part).to(photograph.colour)
            for part in (found.mask, found.left_confidence, found.right_confidence)
        )
        return FaceOutline(mask, left, right, photograph.scale)

    return in_threads(outline, range(state.view_count))


def _projected(
    model: MorphableModel, state: FaceState, view: int, photograph: Photograph, topology: MeshTopology
) -> np.ndarray:
    """[H, W] bool: where the fitted face lies in a photograph."""
    scale = state.intrinsics.new_tensor([photograph.scale, photograph.scale, 1.0])
    cam = transform_points(state.cam_from_world[view], m1_vertices(model, state, state.expression_row(view)))
    projection = clip_from_camera(state.intrinsics[view] * scale[:, None], photograph.size)
    clip = torch.cat([cam, torch.ones_like(cam[:, :1])], -1) @ projection.T
    return rasterize(clip[None], topology, photograph.size).triangle_id[0].cpu().numpy() >= 0

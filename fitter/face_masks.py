"""Face masks for the contour energy: the given ones, else from the model's outline and the photograph's colours."""

from __future__ import annotations

import torch

from fitter.camera import clip_from_camera, transform_points
from fitter.capture.segmentation import segment_face
from fitter.hierarchy.face import FaceState, m1_vertices
from fitter.kernels.topology import MeshTopology
from fitter.model.morphable import MorphableModel
from fitter.optimise.contours import FaceOutline, covered_vertices
from fitter.optimise.observation import Observation
from fitter.render.operations import rasterize


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
    outlines: list[FaceOutline | None] = []
    for view in range(state.view_count):
        given = observation.masks[view]
        if given is not None:
            sure = torch.ones_like(given[:, 0])
            outlines.append(FaceOutline(given, sure, sure, 1.0))
            continue
        photograph = observation.level(view, longest_side)
        scale = state.intrinsics.new_tensor([photograph.scale, photograph.scale, 1.0])
        cam = transform_points(state.cam_from_world[view], m1_vertices(model, state, state.expression_row(view)))
        projection = clip_from_camera(state.intrinsics[view] * scale[:, None], photograph.size)
        clip = torch.cat([cam, torch.ones_like(cam[:, :1])], -1) @ projection.T
        inside = rasterize(clip[None], topology, photograph.size).triangle_id[0] >= 0
        if not bool(inside.any()):
            outlines.append(None)
            continue
        found = segment_face(photograph.colour.permute(1, 2, 0).cpu().numpy(), inside.cpu().numpy())
        mask, left, right = (
            torch.from_numpy(part).to(photograph.colour)
            for part in (found.mask, found.left_confidence, found.right_confidence)
        )
        outlines.append(FaceOutline(mask, left, right, photograph.scale))
    return outlines

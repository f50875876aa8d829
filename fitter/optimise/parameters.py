"""The dense parameters of a fit as one vector: poses, focal length and coefficients, with their Jacobians."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fitter.camera import project
from fitter.hierarchy.face import FaceState
from fitter.model.morphable import MorphableModel

DENSE = ("head_pose", "scale", "camera_pose", "focal", "identity", "expression")
"""Parameters that a dense Gauss-Newton stage may free."""


@dataclass(frozen=True)
class Layout:
    """Where each free parameter lies in the step vector."""

    slices: dict[str, slice]
    size: int
    views: int
    expression_rows: int

    def __contains__(self, name: str) -> bool:
        return name in self.slices

    def rows(self, name: str, width: int, index: int) -> slice:
        """The slice of row `index` (a view's camera, a view's expression) of a parameter with rows of `width`."""
        start = self.slices[name].start + width * index
        return slice(start, start + width)


def build_layout(free: tuple[str, ...], model: MorphableModel, state: FaceState) -> Layout:
    """Lay out the free dense parameters in one vector."""
    widths = {
        "head_pose": 6,
        "scale": 1,
        "camera_pose": 6 * state.view_count,
        "focal": 1,
        "identity": model.identity_basis.shape[-1],
        "expression": state.expression.numel(),
    }
    slices, position = {}, 0
    for name in DENSE:
        if name in free:
            slices[name] = slice(position, position + widths[name])
            position += widths[name]
    return Layout(slices, position, state.view_count, state.expression.shape[0])


@dataclass(frozen=True)
class SurfacePoints:
    """Points that ride on M1, with what their motion depends on."""

    model_points: Tensor
    """[rows, K, 3] model mm (unscaled M0), one row per expression."""
    offsets: Tensor
    """[K, 3] world mm that the maps add."""
    basis: Tensor
    """[K, 3, I + E] basis rows of the points, model mm."""

    def rows(self, chosen: Tensor) -> SurfacePoints:
        """Some of the points, by number."""
        return SurfacePoints(self.model_points[:, chosen], self.offsets[chosen], self.basis[chosen])


def surface_points(
    model: MorphableModel, state: FaceState, vertices: Tensor, weights: Tensor, offsets: Tensor
) -> SurfacePoints:
    """Points given by barycentric `vertices` [K, 3] and `weights` [K, 3]; `offsets` [K, 3] world mm stay fixed."""
    rows = torch.cat(
        [_interpolated(basis, vertices, weights) for basis in (model.identity_basis, model.expression_basis)], -1
    )
    mean = (model.mean[vertices] * weights[..., None]).sum(1)
    return points_from_basis(state, mean, rows, offsets)


def _interpolated(basis: Tensor, vertices: Tensor, weights: Tensor) -> Tensor:
    """Basis rows [K, 3, C] of barycentric points; gathered, weighted and summed in one pass, ten times faster."""
    rows = torch.nn.functional.embedding_bag(vertices, basis.flatten(1), per_sample_weights=weights, mode="sum")
    return rows.unflatten(1, basis.shape[1:])


def points_from_basis(state: FaceState, mean: Tensor, rows: Tensor, offsets: Tensor) -> SurfacePoints:
    """The same, from interpolated mean [K, 3] and basis rows [K, 3, I + E]."""
    coefficients = torch.cat([state.identity.expand(state.expression.shape[0], -1), state.expression], -1)
    return SurfacePoints(mean + torch.einsum("kcp,rp->rkc", rows, coefficients), offsets, rows)


def world_points(state: FaceState, points: SurfacePoints, row: int) -> Tensor:
    """[K, 3] world mm."""
    rotation, translation = state.world_from_model[:3, :3], state.world_from_model[:3, 3]
    return points.model_points[row] @ rotation.T * state.log_scale.exp() + translation + points.offsets


def _negative_cross(points: Tensor) -> Tensor:
    """-[p]x as [K, 3, 3]: the derivative of exp(w) p with respect to the rotation vector w."""
    x, y, z = points.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], -1).unflatten(-1, (3, 3))


def pixel_jacobian(intrinsics: Tensor, points_cam: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels [K, 2] and their derivative [K, 2, 3] with respect to camera-frame points [K, 3] (no skew)."""
    pixels = project(points_cam, intrinsics)
    rows = torch.eye(2, dtype=pixels.dtype, device=pixels.device).expand(pixels.shape[0], 2, 2)
    return pixels, camera_gradient(rows, intrinsics, pixels[:, None], points_cam[:, None])


def camera_gradient(pixel_gradient: Tensor, intrinsics: Tensor, pixels: Tensor, points_cam: Tensor) -> Tensor:
    """Derivatives [..., 3] per mm of camera-frame points of what has `pixel_gradient` [..., 2] per pixel.

    A pixel is (K p)₁₂ / p₃, so its derivative is (K₁₂ - pixel ⊗ e₃) / p₃. `pixels` [..., 2] are those of `points_cam`
    [..., 3].
    """
    gradient = pixel_gradient @ intrinsics[:2]
    gradient[..., 2] -= (pixel_gradient * pixels).sum(-1)
    return gradient / points_cam[..., 2:].clamp_min(1e-3)


def head_centre(state: FaceState) -> Tensor:
    """The point about which head and cameras turn: the model's origin in the world, [3]."""
    return state.world_from_model[:3, 3]


def parameter_jacobian(state: FaceState, layout: Layout, points: SurfacePoints, view: int, direction: Tensor) -> Tensor:
    """Derivative [K, ..., P] of camera-frame motion along `direction` with respect to the free parameters.

    Args:
        state: Where to linearise.
        layout: Free parameters.
        points: Points on the surface.
        view: Which view.
        direction: [K, ..., 3] rows that multiply the motion of the camera-frame points (an image gradient times the
            pixel Jacobian, or the pixel Jacobian itself).
    """
    row = state.expression_row(view)
    rotation_cam = state.cam_from_world[view, :3, :3]
    jacobian = world_jacobian(state, layout, points, row, direction @ rotation_cam)
    if "camera_pose" in layout:
        world = world_points(state, points, row)
        centre = rotation_cam @ head_centre(state) + state.cam_from_world[view, :3, 3]
        cam = world @ rotation_cam.T + state.cam_from_world[view, :3, 3]
        part = layout.rows("camera_pose", 6, view)
        jacobian[..., part.start : part.start + 3] = _apply(direction, _negative_cross(cam - centre))
        jacobian[..., part.start + 3 : part.stop] = direction
    return jacobian


def world_jacobian(state: FaceState, layout: Layout, points: SurfacePoints, row: int, direction: Tensor) -> Tensor:
    """Derivative [K, ..., P] of the world points' motion along `direction` [K, ..., 3]; cameras do not move them.

    Args:
        state: Where to linearise.
        layout: Free parameters.
        points: Points on the surface.
        row: Which row of the expressions they wear.
        direction: World directions.
    """
    world = world_points(state, points, row)
    jacobian = direction.new_zeros(*direction.shape[:-1], layout.size)
    if "head_pose" in layout:
        arm = _negative_cross(world - head_centre(state))
        part = layout.slices["head_pose"]
        jacobian[..., part.start : part.start + 3] = _apply(direction, arm)
        jacobian[..., part.start + 3 : part.stop] = direction
    if "scale" in layout:
        moving = (world - points.offsets - head_centre(state))[..., None]
        jacobian[..., layout.slices["scale"]] = _apply(direction, moving)
    model_direction = direction @ state.world_from_model[:3, :3] * state.log_scale.exp()
    identities = state.identity.shape[0]
    if "identity" in layout:
        jacobian[..., layout.slices["identity"]] = _apply(model_direction, points.basis[..., :identities])
    if "expression" in layout:
        part = layout.rows("expression", state.expression.shape[1], row)
        jacobian[..., part] = _apply(model_direction, points.basis[..., identities:])
    return jacobian


def _apply(direction: Tensor, matrix: Tensor) -> Tensor:
    """[K, ..., 3] times [K, 3, C] -> [K, ..., C]."""
    if direction.ndim == 2:
        return torch.bmm(direction[:, None], matrix)[:, 0]
    return torch.bmm(direction, matrix)


def rotation_from_vector(vector: Tensor) -> Tensor:
    """Rotation matrix [3, 3] of a rotation vector [3] (exponential map)."""
    x, y, z = vector.unbind()
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
    return torch.linalg.matrix_exp(skew)


def _move_about(matrix: Tensor, centre: Tensor, step: Tensor) -> Tensor:
    """Rotate a rigid [4, 4] about `centre` by step[:3] and translate by step[3:]."""
    rotation = rotation_from_vector(step[:3])
    moved = matrix.clone()
    moved[:3, :3] = rotation @ matrix[:3, :3]
    moved[:3, 3] = rotation @ (matrix[:3, 3] - centre) + centre + step[3:]
    return moved


def take_step(state: FaceState, layout: Layout, step: Tensor, unit_expressions: bool) -> FaceState:
    """The state after a step of the free parameters; named expressions stay in [0, 1]."""
    changes: dict[str, Tensor] = {}
    if "camera_pose" in layout:
        cameras = state.cam_from_world.clone()
        for view in range(layout.views):
            centre = cameras[view, :3, :3] @ head_centre(state) + cameras[view, :3, 3]
            cameras[view] = _move_about(cameras[view], centre, step[layout.rows("camera_pose", 6, view)])
        changes["cam_from_world"] = cameras
    if "head_pose" in layout:
        changes["world_from_model"] = _move_about(
            state.world_from_model, head_centre(state), step[layout.slices["head_pose"]]
        )
    if "scale" in layout:
        changes["log_scale"] = state.log_scale + step[layout.slices["scale"]][0]
    if "focal" in layout:
        factor = step[layout.slices["focal"]][0].exp()
        intrinsics = state.intrinsics.clone()
        intrinsics[:, 0, :2] *= factor
        intrinsics[:, 1, 1] *= factor
        changes["intrinsics"] = intrinsics
    if "identity" in layout:
        changes["identity"] = state.identity + step[layout.slices["identity"]]
    if "expression" in layout:
        expression = state.expression + step[layout.slices["expression"]].view_as(state.expression)
        changes["expression"] = expression.clamp(0.0, 1.0) if unit_expressions else expression
    return replace(state, **changes)

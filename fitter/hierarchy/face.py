"""The hierarchical face as data: M0 from coefficients, M1 with the deformation map, M2 with the displacement map."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from fitter.camera import transform_points
from fitter.hierarchy.grid import sample_map
from fitter.model.morphable import MorphableModel


@dataclass(frozen=True)
class FaceState:
    """Everything a fit estimates. N views; expression has one row in a rig, N rows in a casual session."""

    identity: Tensor
    """[I] coefficients, unit variance."""
    expression: Tensor
    """[1 or N, E] coefficients."""
    albedo: Tensor
    """[A] coefficients, unit variance."""
    log_scale: Tensor
    """[] natural logarithm of the head's scale (model mm to world mm)."""
    world_from_model: Tensor
    """[4, 4] rigid; the scale stands apart."""
    intrinsics: Tensor
    """[N, 3, 3] px of the full-size photographs."""
    cam_from_world: Tensor
    """[N, 4, 4] rigid, mm."""
    lighting: Tensor
    """[N, 9, 3] spherical harmonics, linear RGB, world frame."""
    deformation: Tensor
    """[3, R, R] mm, model axes: offset of M1 from M0."""
    displacement: Tensor
    """[S, S] mm along M1's normal: offset of M2 from M1."""
    mixtures: Tensor = field(default_factory=lambda: torch.zeros(0, 0, 3))
    """[N, C, F] mixtures of each view's colours in which the views are compared (`fitter/energies/channel.py`); no views:
    not chosen."""

    @property
    def view_count(self) -> int:
        """Number of views N."""
        return self.cam_from_world.shape[0]

    def expression_row(self, view: int) -> int:
        """Which row of `expression` a view uses."""
        return view if self.expression.shape[0] > 1 else 0

    def to(self, *args, **kwargs) -> FaceState:
        """Move all tensors."""
        return replace(self, **{f.name: getattr(self, f.name).to(*args, **kwargs) for f in fields(self)})

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for checkpoints."""
        return {f.name: getattr(self, f.name).detach() for f in fields(self)}


def initial_state(
    model: MorphableModel,
    intrinsics: Tensor,
    cam_from_world: Tensor,
    expression_rows: int,
    resolutions: tuple[int, int],
) -> FaceState:
    """The mean face at the world's origin, with empty maps of the given (deformation, displacement) resolutions."""
    mean = model.mean
    views = cam_from_world.shape[0]
    lighting = mean.new_zeros(views, 9, 3)
    lighting[:, 0] = 1.0
    return FaceState(
        identity=mean.new_zeros(model.identity_basis.shape[-1]),
        expression=mean.new_zeros(expression_rows, model.expression_basis.shape[-1]),
        albedo=mean.new_zeros(model.albedo_basis.shape[-1]),
        log_scale=mean.new_zeros(()),
        world_from_model=torch.eye(4, dtype=mean.dtype, device=mean.device),
        intrinsics=intrinsics,
        cam_from_world=cam_from_world,
        lighting=lighting,
        deformation=mean.new_zeros(3, resolutions[0], resolutions[0]),
        displacement=mean.new_zeros(resolutions[1], resolutions[1]),
    )


def rescaled(state: FaceState, factor: Tensor) -> FaceState:
    """The same images of a world `factor` [] times as large: head, maps and cameras grow together."""
    head, cameras = state.world_from_model.clone(), state.cam_from_world.clone()
    head[:3, 3] *= factor
    cameras[:, :3, 3] *= factor
    return replace(
        state,
        log_scale=state.log_scale + factor.log(),
        world_from_model=head,
        cam_from_world=cameras,
        deformation=state.deformation * factor,
        displacement=state.displacement * factor,
    )


def m0_vertices(model: MorphableModel, state: FaceState, row: int = 0) -> Tensor:
    """M0 [V, 3] in world mm, wearing row `row` of the expressions."""
    return transform_points(state.world_from_model, _shape(model, state, row) * state.log_scale.exp())


_SHAPES: deque[tuple[tuple, Tensor]] = deque(maxlen=16)
"""The last shapes, each with what it was made from."""


def _shape(model: MorphableModel, state: FaceState, row: int) -> Tensor:
    """The model's shape [V, 3], mm. The last few are kept: most steps of a fit move the maps alone."""
    identity, expression = state.identity, state.expression
    if any(one.requires_grad or one.is_inference() for one in (identity, expression)):
        # What has gradients is made anew; tensors of inference mode do not say whether they were changed.
        return model.shape(identity, expression[row])
    # By identity, not by value; a tensor's version grows when it is changed in place.
    made_from = (model, identity, identity._version, expression, expression._version, row)
    for known, shape in tuple(_SHAPES):
        if all(
            one is other or (isinstance(one, int) and one == other) for one, other in zip(known, made_from, strict=True)
        ):
            return shape
    shape = model.shape(identity, expression[row])
    _SHAPES.append((made_from, shape))
    return shape


def deformation_offsets(model: MorphableModel, state: FaceState) -> Tensor:
    """Offsets [V, 3] of M1 from M0 in world axes, mm; zero for what is not skin (eyeballs, tongue)."""
    offsets = sample_map(state.deformation, model.atlas_uv)
    offsets = torch.where(model.regions["skin"][:, None], offsets, torch.zeros_like(offsets))
    return offsets @ state.world_from_model[:3, :3].T


def m1_vertices(model: MorphableModel, state: FaceState, row: int = 0) -> Tensor:
    """M1 [V, 3] in world mm."""
    return m0_vertices(model, state, row) + deformation_offsets(model, state)

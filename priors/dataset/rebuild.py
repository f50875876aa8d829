"""From the tensors of a sample back to the mesh of M2."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fitter.errors import InputError
from fitter.hierarchy.dense import dense_surface
from fitter.hierarchy.face import FaceState, m1_vertices
from fitter.model.morphable import MorphableModel
from priors.dataset.tensors import split_similarity


def rebuild_state(tensors: Mapping[str, Tensor], model: MorphableModel) -> FaceState:
    """A sample's coefficients, maps and pose as a `FaceState` without views, in the model's precision.

    Raises:
        InputError: The coefficients are not those of this model.
    """
    for name, basis in (("identity", model.identity_basis), ("expression", model.expression_basis)):
        if tensors[name].shape != (basis.shape[-1],):
            raise InputError(
                f"the sample's {name}",
                f"{tuple(tensors[name].shape)} coefficients",
                f"{basis.shape[-1]}, as the model {model.name} has",
                "Give the model that the manifest names.",
            )

    def like(name: str) -> Tensor:
        return tensors[name].to(model.mean)

    world_from_head, scale = split_similarity(tensors["world_from_model"].double().to(model.mean.device))
    empty = model.mean.new_zeros
    return FaceState(
        identity=like("identity"),
        expression=like("expression")[None],
        albedo=like("albedo"),
        log_scale=scale.log().to(model.mean),
        world_from_model=world_from_head.to(model.mean),
        intrinsics=empty(0, 3, 3),
        cam_from_world=empty(0, 4, 4),
        lighting=empty(0, 9, 3),
        deformation=like("deformation"),
        displacement=like("displacement"),
    )


def rebuild_m2(tensors: Mapping[str, Tensor], model: MorphableModel) -> Tensor:
    """Vertices [Vd, 3] of M2 in the scan's frame, mm, numbered as in `dense.obj`.

    Differentiable with respect to the maps and coefficients, so that it also turns a network's output into a surface.

    Args:
        tensors: `identity`, `expression`, `albedo`, `deformation`, `displacement`, `world_from_model`, `dense_levels`.
        model: The model that the data set was made with.

    Raises:
        InputError: The sample is of another model.
    """
    state = rebuild_state(tensors, model)
    surface = dense_surface(model, int(tensors["dense_levels"]))
    vertices, _ = surface.displace(m1_vertices(model, state), state.displacement)
    return vertices


def camera_positions(tensors: Mapping[str, Tensor]) -> Tensor:
    """The position map [3, S, S] in the axes of the photograph's camera, mm; 0 outside of the atlas."""
    world_from_head, _ = split_similarity(tensors["world_from_model"].double())
    cam_from_head = tensors["cam_from_world"].double() @ world_from_head
    positions = tensors["position"]
    moved = torch.einsum("ij,jhw->ihw", cam_from_head[:3, :3], positions.double()) + cam_from_head[:3, 3, None, None]
    return (moved * tensors["valid"]).to(positions.dtype)

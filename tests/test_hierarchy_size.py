"""A world of another size shows the same pictures; a head of unknown size gets the model's."""

from __future__ import annotations

import torch

from fitter.camera import project, transform_points
from fitter.hierarchy.face import initial_state, m1_vertices, rescaled
from tests.factories import toy_model


def _state(model):
    intrinsics = torch.tensor([[[800.0, 0, 160], [0, 800.0, 120], [0, 0, 1]]])
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([3.0, -5.0, 700.0])
    state = initial_state(model, intrinsics, pose[None], 1, (16, 32))
    state.world_from_model[:3, 3] = torch.tensor([4.0, 2.0, -6.0])
    generator = torch.Generator().manual_seed(0)
    state.deformation.copy_(torch.randn(3, 16, 16, generator=generator))
    return state


def test_pixels_do_not_tell_the_size():
    model = toy_model().to(torch.float32)
    state = _state(model)
    larger = rescaled(state, torch.tensor(1.3))
    pictures = [
        project(transform_points(s.cam_from_world[0], m1_vertices(model, s)), s.intrinsics[0]) for s in (state, larger)
    ]
    assert (pictures[0] - pictures[1]).abs().max() < 1e-2
    torch.testing.assert_close(m1_vertices(model, larger), 1.3 * m1_vertices(model, state), rtol=1e-5, atol=1e-3)

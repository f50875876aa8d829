"""Photographs of the toy face with everything about it known."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fitter.camera import project, transform_points
from fitter.hierarchy.face import FaceState, initial_state, m1_vertices
from fitter.model.morphable import MorphableModel
from fitter.optimise.observation import Observation, build_pyramid
from fitter.render import Appearance, MeshTopology, render_face
from fitter.render.shading import UNIFORM_WHITE
from fitter.texture.colour import linear_to_srgb
from tests.factories import toy_camera, toy_model

SIZE = (128, 128)


def small_model() -> MorphableModel:
    """The toy model in single precision."""
    return toy_model().to(torch.float32)


def known_light(views: int) -> Tensor:
    """[N, 9, 3] white light from above and one side, the same in every view."""
    light = torch.zeros(9, 3)
    light[0] = 0.8 * UNIFORM_WHITE
    light[1], light[2], light[3] = 0.5, 0.8, 0.6
    return light.expand(views, -1, -1).clone()


def known_state(model: MorphableModel, yaws: tuple[float, ...], **changes) -> FaceState:
    """A lit face before cameras turned by `yaws` radians."""
    cameras = [toy_camera(yaw, SIZE) for yaw in yaws]
    intrinsics = torch.stack([camera.intrinsics for camera in cameras]).float()
    poses = torch.stack([camera.cam_from_world for camera in cameras]).float()
    state = initial_state(model, intrinsics, poses, 1, (16, 32))
    return replace(state, lighting=known_light(len(yaws)), **changes)


def photograph(model: MorphableModel, state: FaceState, exposure: float = 1.0) -> Observation:
    """What the cameras see of a state, with its true landmarks; `exposure` multiplies the linear image."""
    topology = MeshTopology.from_triangles(model.triangles, model.vertex_count)
    vertices = m1_vertices(model, state)
    appearance = Appearance(vertex_albedo=model.albedo(state.albedo)[None], lighting=state.lighting)
    render = render_face(vertices[None], topology, state.intrinsics, state.cam_from_world, SIZE, appearance)
    images = linear_to_srgb((render.colour * exposure).clamp(0.0, 0.99))
    points = transform_points(state.cam_from_world, model.landmarks(vertices).expand(state.view_count, -1, -1))
    landmarks = project(points, state.intrinsics)
    confidence = torch.ones(landmarks.shape[:2])
    confidence[:, :17] = 0.0  # the jaw slides: its true place is not the embedding's
    return Observation(
        tuple(build_pyramid(image, None, smallest=32) for image in images),
        landmarks,
        confidence,
        "ibug68",
        (None,) * state.view_count,
    )

"""How views see the surface: grey and its derivatives on photographs that are known functions, visibility, pyramids."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fitter.camera import project, transform_points
from fitter.hierarchy.samples import surface_samples
from fitter.kernels.topology import MeshTopology
from fitter.kernels.visibility import seen_points
from fitter.optimise.observation import Observation, Signal, build_pyramid, sample_image
from fitter.optimise.views import (
    depth_image,
    sample_views,
    sampled_colours,
    surface_geometry,
)
from tests.test_solver_parameters import MODEL, toy_state, turned

HEIGHT, WIDTH = 320, 256
RAMP = (0.3, 7e-4, -4e-4)
GREY = torch.tensor([[0.35, 0.5, 0.15]], dtype=torch.float64)


def _ramp() -> torch.Tensor:
    """[H, W, 3] grey that rises linearly with the pixel position: every level of its pyramid is the same function."""
    y, x = torch.meshgrid(
        torch.arange(HEIGHT, dtype=torch.float64) + 0.5, torch.arange(WIDTH, dtype=torch.float64) + 0.5, indexing="ij"
    )
    return (RAMP[0] + RAMP[1] * x + RAMP[2] * y)[..., None].expand(-1, -1, 3)


def _scene(image: torch.Tensor | None = None):
    """The toy face before two cameras of twice its usual resolution."""
    state = replace(toy_state(1), deformation=torch.zeros(3, 8, 8, dtype=torch.float64))
    doubled = state.intrinsics * torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)[:, None]
    state = replace(state, intrinsics=doubled)
    pyramid = build_pyramid(_ramp() if image is None else image, None, smallest=40)
    observation = Observation((pyramid, pyramid), None, None, "ibug68", (None, None))
    topology = MeshTopology.from_triangles(MODEL.triangles, MODEL.vertex_count)
    return state, observation, topology, surface_samples(MODEL, 32)


@pytest.mark.parametrize("longest", [40, 80, 160, 320])
def test_grey_and_its_derivatives_at_every_level(longest):
    """In pixels of the full-size photograph, whichever level is used; by the chain rule for points."""
    state, observation, topology, samples = _scene()
    geometry = surface_geometry(MODEL, state, topology)
    assert max(observation.level(0, longest).size) == longest
    sampled = sample_views(state, observation.signals(longest, GREY), samples, geometry, topology)[0]
    world = samples.interpolate(geometry[0].vertices)
    for view in range(2):
        cam = transform_points(state.cam_from_world[view], world)
        pixels = project(cam, state.intrinsics[view])
        assert torch.allclose(sampled.pixels[view], pixels)
        # Away from the border, where a level's last pixels repeat.
        margin = 2.0 * HEIGHT / longest
        inside = (pixels > margin).all(1) & (pixels < torch.tensor([WIDTH, HEIGHT]) - margin).all(1)
        assert int(inside.sum()) > 200
        expected = RAMP[0] + pixels @ torch.tensor(RAMP[1:], dtype=torch.float64)
        assert torch.allclose(sampled.signal[view][inside], expected[inside], atol=1e-9)
        slope = torch.tensor(RAMP[1:], dtype=torch.float64).expand(int(inside.sum()), 2)
        assert torch.allclose(sampled.pixel_gradient[view][inside], slope, atol=1e-9)
        step = torch.tensor([0.02, -0.01, 0.03], dtype=torch.float64)
        change = (project(cam + step, state.intrinsics[view]) - project(cam - step, state.intrinsics[view])) / 2
        numeric = change @ torch.tensor(RAMP[1:], dtype=torch.float64)
        assert torch.allclose((sampled.direction_cam[view] @ step)[inside], numeric[inside], atol=1e-9)


def test_clipped_and_masked_pixels_do_not_count():
    image = _ramp().clone()
    image[:, : WIDTH // 2] = 1.0
    state, observation, topology, samples = _scene(image)
    signals = observation.signals(320, GREY)
    sampled = sample_views(state, signals, samples, surface_geometry(MODEL, state, topology), topology)[0]
    left = sampled.pixels[..., 0] < WIDTH / 2 - 1
    assert float(sampled.weight[left].max()) == 0.0 and float(sampled.weight[~left].max()) > 0.5
    mask = torch.zeros(HEIGHT, WIDTH)
    mask[40:] = 1.0
    for level in build_pyramid(_ramp(), mask, smallest=40):
        rows = int(40 * level.scale)
        assert float(level.usable[0, :rows].max()) == 0.0 and float(level.usable[0, rows:].min()) == 1.0


def test_what_turns_away_or_is_hidden_does_not_count():
    state, observation, topology, samples = _scene()
    state = replace(state, world_from_model=turned((0.1, 1.0, 0.0), (0.0, 0.0, -40.0)))
    geometry = surface_geometry(MODEL, state, topology)
    normals = torch.nn.functional.normalize(samples.interpolate(geometry[0].normals), dim=-1)
    world = samples.interpolate(geometry[0].vertices)
    centre = -state.cam_from_world[0, :3, :3].T @ state.cam_from_world[0, :3, 3]
    cosine = (normals * torch.nn.functional.normalize(centre - world, dim=-1)).sum(-1)
    sampled = sample_views(state, observation.signals(320, GREY), samples, geometry, topology)[0]
    assert int((cosine < 0.15).sum()) > 50
    assert float(sampled.weight[0][cosine < 0.15].max()) == 0.0
    direct = sampled.weight[0] > 0
    assert torch.allclose(sampled.weight[0][direct], (((cosine - 0.15) / 0.85) ** 1.5)[direct], atol=1e-6)
    assert float(direct[cosine > 0.5].double().mean()) > 0.9


def test_depth_of_a_plane_and_what_lies_behind_it():
    """A square 500 mm away hides a point 10 mm behind it, and not one on it or beside it."""
    square = torch.tensor([[-50.0, -50, 500], [50, -50, 500], [50, 50, 500], [-50, 50, 500]], dtype=torch.float64)
    topology = MeshTopology.from_triangles(torch.tensor([[0, 1, 2], [0, 2, 3]]), 4)
    intrinsics = torch.tensor([[500.0, 0, 100], [0, 500.0, 100], [0, 0, 1]], dtype=torch.float64)
    depth = depth_image(square, topology, intrinsics, torch.eye(4, dtype=torch.float64), (200, 200))
    assert torch.allclose(depth[60:140, 60:140], torch.full((80, 80), 500.0, dtype=torch.float64), atol=1e-3)
    assert bool(torch.isinf(depth[:48]).all())
    points = torch.tensor(
        [[0, 0, 500.0], [0, 0, 510.0], [80.0, 0, 510.0], [0, 0, 490.0], [200.0, 0, 500.0], [0, 0, -5.0]],
        dtype=torch.float64,
    )
    towards = torch.tensor([0.0, 0.0, -1.0]).double().expand(6, 3)
    eye = torch.eye(4, dtype=torch.float64)
    weight, cam, pixels = seen_points(points, towards, eye, intrinsics, eye[:3, :3], depth, (200.0, 200.0))
    assert (weight > 0).tolist() == [True, False, True, True, False, False]
    assert float(weight[0]) == 1.0 and torch.equal(cam, points)
    assert torch.allclose(pixels[:5], project(points, intrinsics)[:5])


def test_visibility_in_one_pass_is_that_of_the_reference():
    """The CPU's kernel for float32 against the steps in double precision: points in front, behind, aside and beyond."""
    generator = torch.Generator().manual_seed(6)
    points = torch.randn(4000, 3, generator=generator) * torch.tensor([120.0, 120.0, 60.0]) + torch.tensor(
        [0, 0, 400.0]
    )
    points[:50, 2] -= 600.0
    normals = torch.nn.functional.normalize(
        torch.randn(4000, 3, generator=generator) - torch.tensor([0, 0, 1.0]), dim=-1
    )
    pose = turned((0.1, -0.2, 0.05), (10.0, -5.0, 30.0)).float()
    intrinsics = torch.tensor([[700.0, 0, 320], [0, 700.0, 240], [0, 0, 1]])
    zoom = torch.tensor([[0.2, 0, 3.0], [0, 0.2, -4.0], [0, 0, 1]])
    depth = torch.nn.functional.avg_pool2d(torch.rand(1, 96, 128, generator=generator) * 200.0 + 330.0, 3, 1, 1)[0]
    depth[:, 100:] = float("inf")
    given = (points, normals, pose, intrinsics, zoom, depth)
    found = seen_points(*given, (480.0, 640.0))
    expected = seen_points(*(one.double() for one in given), (480.0, 640.0))
    in_front = expected[1][:, 2] > 1.0
    assert torch.allclose(found[1].double(), expected[1], atol=1e-3)
    assert torch.allclose(found[2].double()[in_front], expected[2][in_front], rtol=1e-4, atol=1e-2)
    differ = ((found[0].double() - expected[0]).abs() > 1e-3).double().mean()
    # A point on the border of a pixel may fall to either side of it.
    assert float(differ) < 2e-3 and 0.05 < float((expected[0] > 0).double().mean()) < 0.9


def test_pyramid_halves_and_keeps_its_scale():
    image = torch.rand(101, 64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pyramid = build_pyramid(image, None, smallest=20)
    assert [level.size for level in pyramid] == [(101, 64), (50, 32), (25, 16)]
    assert [level.scale for level in pyramid] == [1.0, 0.5, 0.25]
    channel = torch.tensor([0.5, -0.4, 0.1], dtype=torch.float64)
    mixed = (image * channel).sum(-1)
    signals = [Signal.of(level, channel[None]).image for level in pyramid]
    assert torch.allclose(signals[0][0], mixed)
    assert float(signals[1][0, 3, 5]) == pytest.approx(float(mixed[6:8, 10:12].mean()))
    assert float(signals[0][1, 30, 30]) == pytest.approx(float(mixed[30, 31] - mixed[30, 29]) / 2)
    assert float(signals[0][2, 30, 30]) == pytest.approx(float(mixed[31, 30] - mixed[29, 30]) / 2)


def test_colours_at_the_samples_are_those_of_the_channels():
    """Sampling three colours is sampling three channels, with the same weights."""
    image = torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    state, observation, topology, samples = _scene(image)
    geometry = surface_geometry(MODEL, state, topology)
    colours, weight = sampled_colours(state, observation, samples, geometry, topology, 160)
    assert colours.shape == (2, samples.count, 3)
    eye = torch.eye(3, dtype=torch.float64)
    together = sample_views(state, observation.signals(160, eye), samples, geometry, topology)
    for number, sampled in enumerate(together):
        assert torch.allclose(colours[..., number], sampled.signal) and torch.equal(weight, sampled.weight)
        # Channels sampled together are those sampled alone, with their derivatives.
        (alone,) = sample_views(state, observation.signals(160, eye[number : number + 1]), samples, geometry, topology)
        for name in ("signal", "direction_cam", "pixel_gradient", "pixels"):
            assert torch.allclose(getattr(alone, name), getattr(sampled, name)), name


def test_sampling_an_image_at_its_pixel_centres():
    image = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
    values = sample_image(image, torch.tensor([[0.5, 0.5], [6.5, 4.5], [2.0, 1.5]]))
    assert torch.allclose(values[0], image[:, 0, 0], atol=1e-6)
    assert torch.allclose(values[1], image[:, 4, 6], atol=1e-6)
    assert torch.allclose(values[2], image[:, 1, 1:3].mean(1), atol=1e-6)

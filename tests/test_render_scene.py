"""The scene function: depths and colours of surfaces known in closed form, gradients through everything."""

import math

import pytest
import torch

from fitter.render import Appearance, render_face, visible_depth
from fitter.render.shading import UNIFORM_WHITE
from tests.render_scenes import pinhole, relative, sphere

SIZE = (72, 96)


def two_views() -> tuple[torch.Tensor, torch.Tensor]:
    """Intrinsics [2, 3, 3] and poses [2, 4, 4]: from the front, 400 mm away, and from the side, 500 mm away."""
    front = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    front[2, 3] = 400.0
    side = torch.tensor([[0.0, 0, -1, 0], [0, -1, 0, 0], [-1, 0, 0, 500], [0, 0, 0, 1]])
    return pinhole(SIZE, 150.0).repeat(2, 1, 1), torch.stack([front, side])


def test_depth_and_normals_of_a_sphere():
    vertices, topology = sphere(5, 80.0)
    intrinsics, poses = two_views()
    render = render_face(vertices[None], topology, intrinsics, poses, SIZE)
    row, column = torch.meshgrid(torch.arange(72) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    rays = torch.stack([(column - 48) / 150, (row - 36) / 150, torch.ones_like(row)], dim=-1)
    for view, distance in enumerate((400.0, 500.0)):
        # |t ray - centre| = 80, the nearer root; t is the depth since the ray's z is 1.
        a, b, c = rays.square().sum(-1), rays[..., 2] * distance, distance**2 - 80.0**2
        discriminant = b * b - a * c
        depth = (b - discriminant.clamp_min(0).sqrt()) / a
        inside = discriminant > 0.05 * discriminant.max()
        assert render.fragments.mask[view][inside].all()
        torch.testing.assert_close(render.depth_mm[view][inside], depth[inside], atol=0.2, rtol=0)
        points = rays * depth[..., None] - torch.tensor([0.0, 0.0, distance])
        truth = (points / 80.0) @ poses[view, :3, :3]
        assert ((render.normal[view] * truth).sum(-1)[inside]).min() > 0.999
        radius_px = 150 * 80 / math.sqrt(distance**2 - 80**2)
        assert float(render.mask[view].sum()) == pytest.approx(math.pi * radius_px**2, rel=5e-3)
    depth = visible_depth(vertices[None], topology, intrinsics, poses, SIZE)
    seen = render.fragments.mask
    torch.testing.assert_close(depth[seen], render.depth_mm[seen])
    assert torch.isinf(depth[~seen]).all()
    assert render.triangle_id.shape == (2, 72, 96)


def test_colours_compose():
    vertices, topology = sphere(3, 80.0)
    intrinsics, poses = two_views()
    uv = vertices[:, :2] / 200 + 0.5
    lighting = torch.zeros(1, 9, 3)
    lighting[:, 0] = 0.5 * UNIFORM_WHITE
    appearance = Appearance(
        vertex_albedo=torch.full((1, len(vertices), 3), 0.8), texture=torch.full((1, 8, 8, 3), 0.5), uv=uv,
        lighting=lighting, filter="mipmap",
    )  # fmt: skip
    background = torch.tensor([0.0, 1.0, 0.0])
    render = render_face(
        vertices[None], topology, intrinsics, poses, SIZE, appearance, antialias=False, background=background
    )
    seen = render.fragments.mask
    torch.testing.assert_close(render.colour[seen], torch.full_like(render.colour[seen], 0.2))
    assert (render.colour[~seen] == background).all()
    assert torch.equal(render.mask, seen.float())


def test_gradients_reach_every_input_and_agree_with_the_reference():
    vertices, topology = sphere(3, 80.0)
    intrinsics, poses = two_views()
    generator = torch.Generator().manual_seed(0)
    uv = vertices[:, :2] / 200 + 0.5
    target = torch.rand((2, *SIZE, 3), generator=generator)
    start = {
        "vertices": vertices[None], "texture": torch.rand((1, 16, 16, 3), generator=generator),
        "lighting": torch.rand((2, 9, 3), generator=generator), "poses": poses,
        "displacement": torch.randn((1, 16, 16), generator=generator),
    }  # fmt: skip
    results = []
    for backend in ("numba_cpu", "torch_reference"):
        leaf = {name: value.clone().requires_grad_() for name, value in start.items()}
        appearance = Appearance(
            texture=leaf["texture"], uv=uv, lighting=leaf["lighting"], displacement_map=leaf["displacement"]
        )
        render = render_face(
            leaf["vertices"], topology, intrinsics, leaf["poses"], SIZE, appearance, background=target * 0.5,
            backend=backend,
        )  # fmt: skip
        ((render.colour - target).square().sum() + render.mask.square().sum()).backward()
        results.append({name: value.grad for name, value in leaf.items()})
    for name in start:
        assert results[0][name].abs().sum() > 0, name
        assert relative(results[0][name], results[1][name]) < 1e-2, name


def test_maps_without_coordinates_are_refused():
    vertices, topology = sphere(0, 80.0)
    intrinsics, poses = two_views()
    with pytest.raises(ValueError, match="atlas coordinates"):
        render_face(vertices[None], topology, intrinsics, poses, SIZE, Appearance(texture=torch.ones(1, 4, 4, 3)))
    with pytest.raises(ValueError, match="vertices must be"):
        render_face(vertices[None].repeat(3, 1, 1), topology, intrinsics, poses, SIZE)

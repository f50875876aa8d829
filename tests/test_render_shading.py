"""Shading, lighting and detail normals against integrals, known coefficients and analytic surfaces."""

import math

import pytest
import torch

from fitter.render import (
    MeshTopology,
    detail_normals,
    displacement_gradient_map,
    sample_texture,
    shade,
    solve_lighting,
    spherical_harmonics,
    vertex_tangents,
)
from fitter.render.shading import UNIFORM_WHITE


def directions(n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit directions [n * 2n, 3] on a midpoint grid and their solid angles."""
    theta = (torch.arange(n, dtype=torch.float64) + 0.5) * math.pi / n
    phi = (torch.arange(2 * n, dtype=torch.float64) + 0.5) * math.pi / n
    theta, phi = (value.reshape(-1) for value in torch.meshgrid(theta, phi, indexing="ij"))
    out = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], dim=-1)
    return out, theta.sin() * (math.pi / n) ** 2


def test_shading_is_the_integral_over_the_environment():
    omega, solid_angle = directions()
    # The plain orthonormal harmonics, written out; each lights the scene in turn.
    x, y, z = omega.unbind(-1)
    half = 0.5 * math.sqrt(1 / math.pi)
    band_1, band_2 = math.sqrt(3 / (4 * math.pi)), 0.5 * math.sqrt(15 / math.pi)
    lights = torch.stack(
        [torch.full_like(x, half), band_1 * y, band_1 * z, band_1 * x, band_2 * x * y, band_2 * y * z,
         0.25 * math.sqrt(5 / math.pi) * (3 * z * z - 1), band_2 * x * z, 0.5 * band_2 * (x * x - y * y)], dim=1
    )  # fmt: skip
    gram = lights.T @ (lights * solid_angle[:, None])
    torch.testing.assert_close(gram, torch.eye(9, dtype=torch.float64), atol=1e-4, rtol=0)
    normals = torch.nn.functional.normalize(
        torch.randn((6, 3), dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    cosine = (normals @ omega.T).clamp_min(0.0)
    reflected = (cosine * solid_angle) @ lights / math.pi
    torch.testing.assert_close(spherical_harmonics(normals), reflected, atol=1e-4, rtol=0)


def test_uniform_light_shows_the_albedo():
    lighting = torch.zeros(1, 9, 3)
    lighting[:, 0] = UNIFORM_WHITE
    albedo = torch.rand(1, 5, 4, 3)
    normals = torch.nn.functional.normalize(torch.randn(1, 5, 4, 3), dim=-1)
    torch.testing.assert_close(shade(albedo, normals, lighting), albedo)


def test_lighting_is_recovered():
    generator = torch.Generator().manual_seed(1)
    normals = torch.nn.functional.normalize(torch.randn((4000, 3), generator=generator), dim=-1)
    albedo = torch.rand((4000, 3), generator=generator) * 0.8 + 0.1
    lighting = torch.randn((9, 3), generator=generator)
    image = shade(albedo[None], normals[None], lighting[None])[0]
    weights = torch.rand(4000, generator=generator)
    # Outliers of no weight must not matter.
    image[:500], weights[:500] = 9.0, 0.0
    torch.testing.assert_close(solve_lighting(image, albedo, normals, weights, 0.0), lighting, atol=2e-4, rtol=0)
    torch.testing.assert_close(solve_lighting(image, albedo, normals, weights), lighting, atol=2e-2, rtol=0)


def test_lighting_without_samples_is_dark_and_stays_differentiable():
    nothing = solve_lighting(torch.ones(5, 3), torch.ones(5, 3), torch.ones(5, 3) / 3**0.5, torch.zeros(5))
    assert torch.equal(nothing, torch.zeros(9, 3))
    with pytest.raises(ValueError, match="weights"):
        solve_lighting(torch.ones(5, 3), torch.ones(5, 3), torch.ones(5, 3), torch.ones(4))
    normals = torch.nn.functional.normalize(torch.randn((40, 3), dtype=torch.float64), dim=-1)
    albedo = torch.rand((40, 3), dtype=torch.float64, requires_grad=True)
    image, weights = torch.rand((40, 3), dtype=torch.float64), torch.ones(40, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: solve_lighting(image, a, normals, weights), (albedo,))


def bumpy_plane(n: int) -> tuple[torch.Tensor, MeshTopology, torch.Tensor]:
    """A skewed plane, 40 by 25 mm: vertices [V, 3], topology, uv [V, 2]."""
    line = torch.linspace(0, 1, n)
    v, u = torch.meshgrid(line, line, indexing="ij")
    uv = torch.stack([u, v], dim=-1).reshape(-1, 2)
    vertices = uv[:, :1] * torch.tensor([40.0, 0, 0]) + uv[:, 1:] * torch.tensor([10.0, 25.0, 0])
    number = torch.arange(n * n).reshape(n, n)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]
    faces = torch.cat([torch.stack([a, b, d], -1).reshape(-1, 3), torch.stack([a, d, c], -1).reshape(-1, 3)])
    return vertices, MeshTopology.from_triangles(faces), uv


def test_detail_normals_of_a_displaced_plane():
    resolution = 256
    vertices, topology, _ = bumpy_plane(9)
    _, _, uv = bumpy_plane(9)
    tangents = vertex_tangents(vertices[None], topology, uv)
    expected = torch.tensor([40.0, 0, 0, 10.0, 25.0, 0]).expand(1, 81, 6)
    torch.testing.assert_close(tangents, expected, atol=1e-3, rtol=1e-4)
    centres = (torch.arange(resolution) + 0.5) / resolution
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    displacement = 0.5 * torch.sin(6 * u + 4 * v)
    at = torch.stack([u, v], dim=-1)[None, 5:-5, 5:-5]
    gradient = sample_texture(displacement_gradient_map(displacement[None, None]), at)
    normals = torch.tensor([0.0, 0, 1.0]).expand(*at.shape[:3], 3)
    seen = detail_normals(normals, expected[:, :1, None].expand(*at.shape[:3], 6), gradient)
    # The displaced surface (u, v) -> P + d n, differentiated by hand.
    slope = 0.5 * torch.cos(6 * at[..., 0] + 4 * at[..., 1])
    p_u = torch.stack([torch.full_like(slope, 40.0), torch.zeros_like(slope), 6 * slope], dim=-1)
    p_v = torch.stack([torch.full_like(slope, 10.0), torch.full_like(slope, 25.0), 4 * slope], dim=-1)
    truth = torch.nn.functional.normalize(torch.linalg.cross(p_u, p_v), dim=-1)
    assert ((seen * truth).sum(-1).clamp(-1, 1).acos().max()) < 1e-3


def test_detail_normals_are_differentiable_and_survive_degenerate_tangents():
    generator = torch.Generator().manual_seed(0)
    displacement = torch.randn((1, 1, 6, 6), generator=generator, dtype=torch.float64).requires_grad_()
    at = torch.rand((1, 3, 4, 2), generator=generator, dtype=torch.float64) * 0.8 + 0.1
    normals = torch.nn.functional.normalize(torch.randn((1, 3, 4, 3), generator=generator, dtype=torch.float64), dim=-1)
    tangents = 20 * torch.randn((1, 3, 4, 6), generator=generator, dtype=torch.float64)

    def bent(map_):
        return detail_normals(normals, tangents, sample_texture(displacement_gradient_map(map_), at))

    assert torch.autograd.gradcheck(bent, (displacement,))
    flat = detail_normals(normals, torch.zeros_like(tangents), torch.ones(1, 3, 4, 2, dtype=torch.float64))
    torch.testing.assert_close(flat, normals)

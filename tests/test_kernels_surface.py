"""Vertex normals and the basis product: closed forms, finite differences, and parity with the torch twins."""

import pytest
import torch

from fitter.kernels import basis_product, vertex_normals
from fitter.render import MeshTopology
from tests.render_scenes import CPU_BACKENDS, KERNEL_BACKENDS, relative, sphere


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_normals_of_a_sphere_point_outside(backend):
    vertices, topology = sphere(4)
    normals = vertex_normals(vertices[None], topology, backend)[0]
    assert (normals * vertices).sum(-1).min() > 0.999


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_normals_are_weighted_by_area_and_zero_without_faces(backend):
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 3, 0], [0, 0, 1], [9, 9, 9]])
    topology = MeshTopology.from_triangles(torch.tensor([[0, 1, 2], [0, 2, 3]]), 5)
    normals = vertex_normals(vertices[None], topology, backend)[0]
    torch.testing.assert_close(normals[0], torch.tensor([3.0, 0, 6.0]) / 45**0.5)
    torch.testing.assert_close(normals[1], torch.tensor([0.0, 0, 1.0]))
    assert normals[4].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("backend", KERNEL_BACKENDS)
def test_normal_gradients_agree_with_reference(backend):
    vertices, topology = sphere(3)
    generator = torch.Generator().manual_seed(0)
    vertices = torch.stack([vertices, vertices * 1.5]) + 0.02 * torch.randn((2, *vertices.shape), generator=generator)
    weights = torch.randn(vertices.shape, generator=generator)
    results = []
    for name in (backend, "torch_reference"):
        position = vertices.clone().requires_grad_()
        normals = vertex_normals(position, topology, name)
        (normals * weights).sum().backward()
        results.append((normals.detach(), position.grad))
    for ours, truth in zip(*results, strict=True):
        assert relative(ours, truth) < 1e-4


def test_reference_normals_against_finite_differences():
    vertices, topology = sphere(0)
    position = vertices[None].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: vertex_normals(p, topology), (position,))


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("n_columns", [1, 17, 144])
def test_basis_product(backend, n_columns):
    generator = torch.Generator().manual_seed(n_columns)
    basis = torch.randn((1001, n_columns), generator=generator)
    coefficients = torch.randn(n_columns, generator=generator, requires_grad=True)
    weights = torch.randn(1001, generator=generator)
    out = basis_product(basis, coefficients, backend)
    (gradient,) = torch.autograd.grad((out * weights).sum(), coefficients)
    assert relative(out.detach().double(), basis.double() @ coefficients.detach().double()) < 1e-5
    assert relative(gradient.double(), weights.double() @ basis.double()) < 1e-5


def test_bad_shapes_are_refused():
    vertices, topology = sphere(0)
    with pytest.raises(ValueError, match="vertices must be"):
        vertex_normals(vertices, topology)
    with pytest.raises(ValueError, match="basis"):
        basis_product(torch.zeros(4, 3), torch.zeros(2))

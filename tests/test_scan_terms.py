"""The scan's terms: finite differences, the majoriser against the exact energy, a known face found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fitter.energies.scan_distance import pair_weight
from fitter.hierarchy.face import initial_state, m1_vertices
from fitter.hierarchy.grid import sample_map
from fitter.hierarchy.vertex_sampling import VertexSampling
from fitter.kernels.mesh_queries import MeshQueries
from fitter.kernels.surface import vertex_normals
from fitter.kernels.surface_sampling import equal_area_samples
from fitter.kernels.topology import MeshTopology
from fitter.optimise.config import configuration_from
from fitter.optimise.observation import Observation
from fitter.optimise.parameters import build_layout, take_step
from fitter.optimise.problem import Problem
from fitter.optimise.run import check_configuration, run_stages
from fitter.optimise.scan_target import ScanTarget
from fitter.optimise.scan_terms import (
    PairGates,
    SurfacePairs,
    closest_pairs,
    scan_blocks,
    scan_equations,
    usable_vertices,
)
from fitter.optimise.views import SurfaceGeometry
from tests.factories import toy_model

GATES = PairGates(gate=30.0, least_cosine=0.2, sigma=10.0, points=400)


def double(model):
    return model.to(torch.float64)


def target_of(model, vertices: torch.Tensor) -> ScanTarget:
    """The model's own skin in another shape, as a scan."""
    triangles = model.triangles[model.regions["skin"][model.triangles].all(-1)]
    normals = vertex_normals(vertices[None], MeshTopology.from_triangles(triangles, len(vertices)))[0]
    points, point_normals = equal_area_samples(vertices, triangles, normals, 4000, 3)
    return ScanTarget(
        vertices=vertices,
        triangles=triangles,
        normals=normals,
        boundary=torch.zeros(len(vertices), dtype=torch.bool),
        points=points,
        point_normals=point_normals,
        landmarks=vertices.new_zeros(0, 3),
        landmark_indices=torch.zeros(0, dtype=torch.long),
        landmark_embedding=model.landmarks.rows(torch.zeros(0, dtype=torch.long)),
        world_from_model=torch.eye(4, dtype=vertices.dtype),
        alignment={},
        noise_mm=0.0,
        edge_mm=1.0,
        queries=MeshQueries(vertices, triangles),
    )


def geometry_of(model, state) -> SurfaceGeometry:
    vertices = m1_vertices(model, state)
    topology = MeshTopology.from_triangles(model.triangles, model.vertex_count)
    return SurfaceGeometry(vertices, vertex_normals(vertices[None], topology)[0])


def start(model, size: int = 16):
    empty = model.mean.new_zeros(0, 3, 3), model.mean.new_zeros(0, 4, 4)
    return initial_state(model, *empty, 1, (size, 32))


def random_pairs(model, count: int = 60) -> SurfacePairs:
    generator = torch.Generator().manual_seed(5)
    usable = torch.nonzero(usable_vertices(model)[model.triangles].all(-1)).flatten()
    chosen = usable[torch.randint(len(usable), (count,), generator=generator)]
    weights = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    normal = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)
    return SurfacePairs(
        model.triangles[chosen],
        weights / weights.sum(-1, keepdim=True),
        torch.randn(count, 3, generator=generator, dtype=torch.float64),
        normal,
        torch.rand(count, generator=generator, dtype=torch.float64),
    )


def pair_energy(pairs: SurfacePairs, motion: torch.Tensor, share: float) -> torch.Tensor:
    """Sum over pairs, by the definition; `motion` [V, 3] mm."""
    moved = pairs.offset + (motion[pairs.vertices] * pairs.weights[..., None]).sum(1)
    plane = (moved * pairs.normal).sum(-1) ** 2
    return (pairs.weight * (plane + share * moved.square().sum(-1))).sum()


def test_weights_are_what_the_formula_says():
    distance, cosine = torch.tensor([0.0, 1.0, 2.0, 9.0]), torch.tensor([1.0, 0.8, 0.9, 1.0])
    found = pair_weight(distance, cosine, gate=5.0, least_cosine=0.85, sigma=1.0)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 0.9 / 25.0, 0.0]))


def test_dense_equations_against_finite_differences():
    model = double(toy_model())
    state, pairs = start(model), random_pairs(model)
    layout = build_layout(("head_pose", "identity", "expression"), model, state)
    found = scan_equations(model, state, layout, pairs, 0.3)
    total = pairs.weight.sum()
    before = m1_vertices(model, state)

    def energy(step: np.ndarray) -> float:
        moved = take_step(state, layout, torch.from_numpy(step), False)
        return float(pair_energy(pairs, m1_vertices(model, moved) - before, 0.3) / total)

    assert found.energy == pytest.approx(energy(np.zeros(layout.size)), rel=1e-9)
    for index in range(layout.size):
        step = np.zeros(layout.size)
        step[index] = 1e-5
        slope = (energy(step) - energy(-step)) / 2e-5
        assert 2.0 * float(found.gradient[index]) == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_blocks_have_the_exact_gradient_and_bound_the_energy():
    model = double(toy_model())
    state, pairs = start(model), random_pairs(model)
    blocks = scan_blocks(model, state, pairs, 0.3)
    motion = torch.zeros(model.vertex_count, 3, dtype=torch.float64, requires_grad=True)
    pair_energy(pairs, motion, 0.3).backward()
    torch.testing.assert_close(2.0 * blocks.gradient[..., 0].T, motion.grad, atol=1e-9, rtol=1e-9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        step = torch.randn(model.vertex_count, 3, generator=generator, dtype=torch.float64)
        quadratic = torch.einsum("vi,ijv,vj->", step, blocks.matrix[..., 0], step)
        bound = pair_energy(pairs, 0.0 * step, 0.3) + 2.0 * (blocks.gradient[..., 0].T * step).sum() + quadratic
        assert float(pair_energy(pairs, step, 0.3)) <= float(bound) + 1e-9


def test_vertex_sampling_is_bilinear_and_its_adjoint_the_transpose():
    generator = torch.Generator().manual_seed(2)
    uv = torch.rand(40, 2, generator=generator, dtype=torch.float64) * 1.1 - 0.05
    grid = torch.randn(3, 12, 12, generator=generator, dtype=torch.float64)
    values = torch.randn(3, 40, 1, generator=generator, dtype=torch.float64)
    sampling = VertexSampling.build(uv, 12)
    torch.testing.assert_close(sampling.apply(grid)[..., 0].T, sample_map(grid, uv))
    assert float((sampling.apply(grid) * values).sum()) == pytest.approx(float((grid * sampling.adjoint(values)).sum()))


def test_pairs_point_from_the_scan_to_the_face():
    model = toy_model()
    state = start(model)
    geometry = geometry_of(model, state)
    forward = torch.tensor([0.0, 0.0, 2.0])
    pairs = closest_pairs(model, geometry, target_of(model, model.mean + forward), GATES)
    front = (pairs.normal[:, 2] > 0.9) & (pairs.weight > 0)
    assert int(front.sum()) > 20
    # The scan lies 2 mm in front: every plane distance is -2 mm times the normal's share of forward.
    expected = -2.0 * pairs.normal[front, 2]
    found = (pairs.offset * pairs.normal).sum(-1)[front]
    assert float((found - expected).abs().median()) < 0.1


def test_where_the_scan_ends_nothing_is_said():
    model = toy_model()
    target = target_of(model, model.mean.clone())
    ends = replace(target, boundary=torch.ones(len(target.vertices), dtype=torch.bool))
    pairs = closest_pairs(model, geometry_of(model, start(model)), ends, GATES)
    to_scan = int(usable_vertices(model).sum())
    assert float(pairs.weight[:to_scan].abs().max()) == 0.0


def test_samples_have_equal_area():
    corners = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [3.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3]])
    points, normals = equal_area_samples(corners, triangles, torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3), 9000, 0)
    counts, _ = np.histogram(points[:, 0].numpy(), bins=6, range=(0.0, 3.0))
    assert np.abs(counts - 1500).max() < 150
    torch.testing.assert_close(normals[0], torch.tensor([0.0, 0.0, 1.0]))
    again, _ = equal_area_samples(corners, triangles, normals[:4], 9000, 0)
    assert torch.equal(points, again)


def test_a_known_face_is_found(open_model):
    """A face of the model, bent smoothly where the model cannot follow: M0 comes near, M1 lies on it."""
    model = open_model
    generator = torch.Generator().manual_seed(4)
    truth = replace(start(model, 64), identity=0.8 * torch.randn(model.identity_basis.shape[-1], generator=generator))
    shape = m1_vertices(model, truth)
    bump = torch.exp(
        -(((shape - model.landmarks(shape)[33] - torch.tensor([25.0, 0.0, 0.0])).norm(dim=-1) / 14.0) ** 2)
    )
    target = target_of(model, shape + 3.0 * bump[:, None] * torch.tensor([0.3, 0.2, 1.0]))
    configuration = configuration_from(
        {
            "name": "known",
            "stages": [
                {
                    "name": "m0",
                    "solver": "gauss_newton",
                    "free": ["head_pose", "identity"],
                    "steps": 8,
                    "energies": {
                        "scan": {"gate": [15, 6], "sigma": [4.0, 1.5], "points": 3000},
                        "identity_prior": {"weight": [0.02, 0.001], "sigma": 1.0},
                    },
                },
                {
                    "name": "m1",
                    "solver": "gauss_newton",
                    "free": ["deformation"],
                    "steps": 5,
                    "energies": {
                        "scan": {"gate": [8, 3], "least_cosine": 0.6, "sigma": [2.0, 0.5], "points": 4000},
                        "smoothness": {"bilaplacian": [3.0, 0.03], "laplacian": 0.0, "magnitude": 0.01},
                    },
                },
                {"name": "m2", "solver": "ray_cast", "free": ["displacement"]},
            ],
        },
        "test",
    )
    check_configuration(configuration)
    problem = Problem(
        model=model,
        observation=Observation((), None, None, "ibug68", ()),
        topology=MeshTopology.from_triangles(model.triangles, model.vertex_count),
        configuration=configuration,
        rig=True,
        cameras_known=True,
        focal_known=True,
        metric=True,
        scan=target,
    )
    state, stages = run_stages(problem, start(model, 64))
    face = usable_vertices(model) & ((model.mean - model.landmarks(model.mean)[30]).norm(dim=-1) < 70.0)
    on_cheek = face & (bump > 0.5)

    def distances(vertices: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return target.queries.closest(vertices[where]).distance

    m0 = m1_vertices(model, replace(state, deformation=torch.zeros_like(state.deformation)))
    assert float(distances(m0, on_cheek).median()) > 0.3
    assert float(distances(m1_vertices(model, state), on_cheek).median()) < 0.05
    assert float(distances(m1_vertices(model, state), face).median()) < 0.05
    assert stages[-1].log.residuals["valid_share"] > 0.3

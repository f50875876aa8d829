"""Samples of the surface where a map has put it: for the deformation map on M1, for the displacement map off M1."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import normalize

from fitter.hierarchy.dense import DenseSurface, dense_samples
from fitter.hierarchy.face import FaceState, m1_vertices
from fitter.hierarchy.grid import GridSampling
from fitter.hierarchy.samples import SurfaceSamples
from fitter.kernels.surface import vertex_normals
from fitter.kernels.topology import MeshTopology
from fitter.optimise.problem import Problem
from fitter.optimise.views import SurfaceGeometry, surface_geometry


@dataclass(frozen=True)
class PlacedSamples:
    """Where the samples are, in every expression, and which way is out."""

    samples: SurfaceSamples
    """K of them."""
    geometry: list[SurfaceGeometry]
    """The mesh that occludes, one per expression row."""
    topology: MeshTopology
    """Of that mesh."""
    points: list[Tensor]
    """[K, 3] world mm, one per expression row."""
    normals: Tensor
    """[K, 3] unit, world axes of the first expression."""


def deformed_surface(problem: Problem, state: FaceState, samples: SurfaceSamples) -> PlacedSamples:
    """M1 at its samples."""
    geometry = surface_geometry(problem.model, state, problem.topology)
    points = [samples.interpolate(one.vertices) for one in geometry]
    normals = normalize(samples.interpolate(geometry[0].normals), dim=-1)
    return PlacedSamples(samples, geometry, problem.topology, points, normals)


def displaced_surface(
    problem: Problem, state: FaceState, dense: DenseSurface, samples: SurfaceSamples
) -> PlacedSamples:
    """M2 at its samples, with the normals of the subdivided M1 that the displacement goes along."""
    sampling = GridSampling.build(state.displacement.shape[-1], samples.resolution, state.displacement.device)
    amount = samples.from_grid(sampling.apply(state.displacement))[:, None]
    geometry, points, normals = [], [], []
    for row in range(state.expression.shape[0]):
        base = dense.positions(m1_vertices(problem.model, state, row))
        geometry.append(SurfaceGeometry(base, vertex_normals(base[None], dense.topology)[0]))
        normals.append(normalize(samples.interpolate(geometry[row].normals), dim=-1))
        points.append(samples.interpolate(base) + normals[row] * amount)
    return PlacedSamples(samples, geometry, dense.topology, points, normals[0])


def displaced_samples(dense: DenseSurface, state: FaceState, resolution: int) -> SurfaceSamples:
    """Samples of the dense mesh: at least one per texel, whatever the map's size."""
    return dense_samples(dense, max(resolution, state.displacement.shape[-1]))

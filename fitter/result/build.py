"""From a fitted state to the fused result: dense mesh, normal map, textures, albedo, coverage, confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fitter.camera import Camera, project, transform_points
from fitter.hierarchy.dense import DenseSurface, dense_samples, dense_surface
from fitter.hierarchy.face import FaceState, m0_vertices, m1_vertices
from fitter.hierarchy.grid import GridSampling
from fitter.hierarchy.samples import SurfaceSamples
from fitter.kernels.surface import vertex_normals
from fitter.optimise.observation import Observation
from fitter.optimise.problem import Problem, landmark_embedding
from fitter.optimise.views import view_visibility
from fitter.render.detail_normals import detail_normals, displacement_gradient_map, vertex_tangents
from fitter.result.albedo import fused_albedo
from fitter.result.patches import patch_light, photographed_patches
from fitter.result.textures import view_textures
from fitter.result.types import DenseMesh, ViewResult
from fitter.texture.fuse import fuse_textures, sharpness_weight
from fitter.texture.inpaint import inpaint_texture
from fitter.texture.unwrap import unwrap_texture

FULL_PARALLAX = 0.5
"""Sine of the angle between two views (30°) at which they determine depth fully."""
ONE_VIEW_CONFIDENCE = 0.3
"""Confidence where one view sees: the model and shading speak there, not parallax."""

SPILL = 0.1
"""Visibility times angle (a cosine of 0.33) below which a photograph gives no texture."""


@dataclass(frozen=True)
class FusedMaps:
    """Maps of the fused result, row 0 is v = 0."""

    texture: Tensor
    albedo: Tensor
    coverage: Tensor
    confidence: Tensor
    valid: Tensor
    normal: Tensor
    patch_weight: Tensor | None = None


def reference_view(state: FaceState) -> int:
    """The view that looks at the face most directly from the front; 0 where there is none."""
    if state.view_count == 0:
        return 0
    forward = state.world_from_model[:3, 2]
    rotation = state.cam_from_world[:, :3, :3]
    centres = -(rotation.transpose(1, 2) @ state.cam_from_world[:, :3, 3:])[..., 0]
    directions = torch.nn.functional.normalize(centres - state.world_from_model[:3, 3], dim=-1)
    return int((directions @ forward).argmax())


def dense_mesh(model, state: FaceState, surface: DenseSurface, row: int) -> DenseMesh:
    """M2 as numpy arrays."""
    vertices, normals = surface.displace(m1_vertices(model, state, row), state.displacement)
    return DenseMesh(
        vertices=vertices.double().cpu().numpy(),
        normals=normals.double().cpu().numpy(),
        triangles=surface.triangles.cpu().numpy(),
        uv=surface.uv.double().cpu().numpy(),
    )


def _view_weights(
    state: FaceState,
    observation: Observation,
    surface: DenseSurface,
    samples: SurfaceSamples,
    geometry: list[tuple[Tensor, Tensor]],
) -> Tensor:
    """[N, K] visibility times angle of every view at samples of M2."""
    weights = []
    for view in range(state.view_count):
        vertices, normals = geometry[state.expression_row(view)]
        points = samples.interpolate(vertices)
        directions = torch.nn.functional.normalize(samples.interpolate(normals), dim=-1)
        weight, _, _ = view_visibility(
            state, view, vertices, surface.topology, points, directions, observation.pyramids[view][0]
        )
        weights.append(weight * samples.usable)
    return torch.stack(weights) if weights else samples.weights.new_zeros(0, samples.count)


def _confidence(state: FaceState, points: Tensor, weights: Tensor) -> Tensor:
    """How well parallax determines the surface at points [K, 3] seen with weights [N, K], in [0, 1].

    Every pair of views counts with the weaker of its two weights and with the angle between its rays.
    """
    if state.view_count == 0:
        return torch.zeros_like(points[:, 0])
    rotation = state.cam_from_world[:, :3, :3]
    centres = -(rotation.transpose(1, 2) @ state.cam_from_world[:, :3, 3:])[..., 0]
    rays = torch.nn.functional.normalize(centres[:, None] - points[None], dim=-1)
    evidence = torch.zeros_like(weights[0])
    for first in range(state.view_count):
        for second in range(first + 1, state.view_count):
            sine = torch.linalg.cross(rays[first], rays[second]).norm(dim=-1)
            parallax = (sine / FULL_PARALLAX).clamp(max=1.0) ** 2
            evidence = evidence + torch.minimum(weights[first], weights[second]) * parallax
    several = 1.0 - torch.exp(-3.0 * evidence)
    one = ONE_VIEW_CONFIDENCE * weights.amax(0).clamp(max=1.0)
    return torch.maximum(several, one)


def _normal_map(state: FaceState, vertices: Tensor, surface: DenseSurface, samples: SurfaceSamples) -> Tensor:
    """[S, S, 3] tangent-space normals of M2 against M1 (x along u, y along v, z out)."""
    base = surface.positions(vertices)
    normals = torch.nn.functional.normalize(
        samples.interpolate(vertex_normals(base[None], surface.topology)[0]), dim=-1
    )
    tangents = samples.interpolate(vertex_tangents(base[None], surface.topology, surface.uv)[0])
    resolution = samples.resolution
    gradient = displacement_gradient_map(state.displacement[None, None])[0].permute(2, 0, 1)
    sampling = GridSampling.build(state.displacement.shape[-1], resolution, gradient.device)
    gradient = samples.from_grid(sampling.apply(gradient).permute(1, 2, 0))
    detailed = detail_normals(normals, tangents, gradient)
    along_u = tangents[:, :3] - (tangents[:, :3] * normals).sum(-1, keepdim=True) * normals
    along_u = torch.nn.functional.normalize(along_u, dim=-1)
    along_v = torch.linalg.cross(normals, along_u)
    local = torch.stack([(detailed * axis).sum(-1) for axis in (along_u, along_v, normals)], -1)
    flat = local.new_tensor([0.0, 0.0, 1.0])
    grid = samples.to_grid(local - flat)
    return torch.nn.functional.normalize(grid + flat, dim=-1)


def fuse_maps(problem: Problem, state: FaceState) -> FusedMaps:
    """Blend all views on the atlas of M2."""
    model, observation, maps = problem.model, problem.observation, problem.configuration.maps
    surface = dense_surface(model, maps.dense_levels)
    geometry = [
        surface.displace(m1_vertices(model, state, row), state.displacement) for row in range(state.expression.shape[0])
    ]
    fine = dense_samples(surface, maps.texture)
    weights = _view_weights(state, observation, surface, fine, geometry)
    valid_fine = fine.to_grid(torch.ones_like(fine.weights[:, 0])) > 0
    # Albedo's corners in the dense mesh are those of the model's albedo, subdivided like its coordinates.
    albedo_vertices = _dense_albedo(problem, state, surface)
    base_albedo = fine.to_grid(fine.interpolate(albedo_vertices))
    patches = None
    filled = refined = base_albedo  # Without photographs the model's own colours are all there is.
    if state.view_count:
        texture, seen = _texture(state, observation, fine, geometry, weights)
        filled = inpaint_texture(texture, seen, valid_fine)
        shares = torch.stack([fine.to_grid(weight) for weight in weights])
        refined = fused_albedo(problem, state, base_albedo, filled, shares)
        patches = photographed_patches(problem, state, maps.texture)
        if patches is not None:
            light = patch_light(refined, filled, shares.amax(0))
            filled = torch.where(patches.weight[..., None] > 0, patches.colour, filled)
            refined = torch.where(patches.weight[..., None] > 0, (patches.colour * light).clamp(0.0, 1.0), refined)

    coarse = dense_samples(surface, maps.displacement)
    coarse_weights = _view_weights(state, observation, surface, coarse, geometry)
    row = state.expression_row(reference_view(state))
    confidence = _confidence(state, coarse.interpolate(geometry[row][0]), coarse_weights)
    return FusedMaps(
        texture=filled,
        albedo=refined,
        coverage=coarse.to_grid(coarse_weights.sum(0)),
        confidence=coarse.to_grid(confidence),
        valid=coarse.to_grid(torch.ones_like(confidence)) > 0,
        normal=_normal_map(state, m1_vertices(model, state, row), surface, coarse),
        patch_weight=None if patches is None else patches.weight,
    )


def _dense_albedo(problem: Problem, state: FaceState, surface: DenseSurface) -> Tensor:
    albedo = problem.model.albedo(state.albedo)
    return surface.positions(albedo).clamp(0.0, 1.0)


def _texture(
    state: FaceState,
    observation: Observation,
    samples: SurfaceSamples,
    geometry: list[tuple[Tensor, Tensor]],
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fused linear texture [T, T, 3] and how well each texel is seen [T, T]."""
    colours, view_weights, sharpness = [], [], []
    for view in range(state.view_count):
        photograph = observation.pyramids[view][0]
        camera = Camera(state.intrinsics[view], state.cam_from_world[view], photograph.size)
        positions = samples.to_grid(samples.interpolate(geometry[state.expression_row(view)][0]))
        weight = samples.to_grid(weights[view])
        sampled = unwrap_texture(photograph.colour.permute(1, 2, 0), camera, positions, weight)
        colours.append(sampled.colour)
        # Next to a silhouette that the fit misses by a pixel stands the background.
        view_weights.append((sampled.weight - SPILL).clamp_min(0.0) / (1.0 - SPILL))
        sharpness.append(sharpness_weight(sampled.footprint))
    colours, sharpness = torch.stack(colours), torch.stack(sharpness)
    # Relative to the sharpest view: a face that is small in every photograph is no less seen.
    view_weights = torch.stack(view_weights) * sharpness / sharpness.amax(0).clamp_min(1e-6)
    if colours.shape[0] == 1:
        return colours[0], view_weights[0]
    fused = fuse_textures(colours, view_weights, equalise=True)
    return fused.colour, fused.weight


def view_results(problem: Problem, names: tuple[str, ...], state: FaceState) -> tuple[ViewResult, ...]:
    """Cameras, coefficients, landmark errors and textures of every view."""
    model, observation = problem.model, problem.observation
    results = []
    for view, name in enumerate(names):
        row = state.expression_row(view)
        m0, m1 = m0_vertices(model, state, row), m1_vertices(model, state, row)
        points = transform_points(state.cam_from_world[view], landmark_embedding(model, observation)(m1))
        fitted = project(points, state.intrinsics[view]).double().cpu().numpy()
        textures = view_textures(problem, state, view, m0, m1)
        results.append(
            ViewResult(
                name=name,
                intrinsics=state.intrinsics[view].double().cpu().numpy(),
                cam_from_world=state.cam_from_world[view].double().cpu().numpy(),
                size=observation.pyramids[view][0].size,
                expression=state.expression[row].double().cpu().numpy(),
                lighting=state.lighting[view].double().cpu().numpy(),
                landmarks_fitted=fitted,
                landmark_error=_landmark_error(observation, view, fitted),
                vertices_m0=m0.double().cpu().numpy(),
                vertices_m1=m1.double().cpu().numpy(),
                texture=textures.texture.cpu().numpy(),
                texture_weight=textures.texture_weight.cpu().numpy(),
                realigned=textures.realigned.cpu().numpy(),
                realigned_weight=textures.realigned_weight.cpu().numpy(),
                realigned_difference=textures.difference,
            )
        )
    return tuple(results)


def _landmark_error(observation: Observation, view: int, fitted: np.ndarray) -> float | None:
    """Mean distance of inner landmarks as a fraction of the distance between the outer eye corners."""
    if observation.landmarks is None or observation.landmark_scheme != "ibug68":
        return None
    detected = observation.landmarks[view].double().cpu().numpy()
    trusted = observation.landmark_confidence[view].cpu().numpy()[17:] > 0
    span = np.linalg.norm(detected[36] - detected[45])
    if not trusted.any() or span < 1e-6:
        return None
    return float(np.linalg.norm(fitted - detected, axis=1)[17:][trusted].mean() / span)

"""Lighting and albedo in closed form, one after the other, on samples of the surface."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fitter.energies.consistency import robust_weight
from fitter.hierarchy.face import FaceState
from fitter.hierarchy.samples import surface_samples
from fitter.kernels.surface import vertex_normals
from fitter.model.morphable import MorphableModel
from fitter.optimise.contours import attended_triangles
from fitter.optimise.observation import Observation, sample_image
from fitter.optimise.scene import joint_basis, posed_vertices
from fitter.optimise.views import view_visibility
from fitter.render import MeshTopology, solve_lighting, spherical_harmonics
from fitter.texture.colour import srgb_to_linear

SAMPLES = 128
"""Samples per side of the atlas."""
ROUNDS = 6
"""Alternations of lighting and albedo."""
ALBEDO_SIGMA = 0.15
"""Expected disagreement of model and photograph, relative to the face's brightness: what one standard deviation of the
albedo prior weighs against."""
INDEPENDENT_SAMPLES = 20.0
"""How many independent looks at the skin the face is worth: neighbouring samples err alike, and skin has colours that
no basis has."""
SHARED_LIMIT = 1.5
"""One light for all views of a rig, unless a light per view leaves a residual smaller by this factor: cameras with
their own flashes."""


@dataclass(frozen=True)
class LitSamples:
    """The photographs' colours on the surface."""

    colour: Tensor
    """[N, K, 3] linear RGB relative to each view's brightness."""
    brightness: Tensor
    """[N] mean linear level of the face in each view."""
    weight: Tensor
    """[N, K] visibility times viewing angle; 0 where clipped or not skin."""
    normals: Tensor
    """[N, K, 3] world, unit."""
    albedo_mean: Tensor
    """[K, 3]."""
    albedo_basis: Tensor
    """[K, 3, A]."""


@torch.no_grad()
def solve_lighting_and_albedo(
    model: MorphableModel, state: FaceState, observation: Observation, *, longest_side: int = 256
) -> FaceState:
    """Fit light and albedo coefficients to the photographs with the geometry held.

    Alternates the lighting of Jin et al. 2021, eq. 5 (weighted least squares, each channel by itself) and a ridge
    regression of the albedo coefficients; both are reweighted by Geman-McClure, so that highlights, shadows, hair and
    make-up count little. How bright the light and how dark the skin cannot be told apart: the prior on the albedo
    decides, and the light takes the rest. Colours are relative to each photograph's own brightness, so an image three
    times darker gives the same albedo and a third of the light.

    Views with their own expression (a casual session) get a light each. A rig has one light in the world, unless a
    light per view fits far better.

    Args:
        model: The face model.
        state: Geometry and cameras; its albedo is the start.
        observation: Photographs.
        longest_side: Level of the photographs, px; light is smooth.

    Returns:
        The state with new lighting and albedo. Views that see no usable skin take the mean light of the others.
    """
    lit = lit_samples(model, state, observation, longest_side)
    casual = state.expression.shape[0] > 1 or state.view_count == 1
    lighting, albedo, residual = _alternate(lit, state.albedo, shared=False)
    brightness = lit.brightness
    if not casual:
        together = _common_scale(lit)
        shared = _alternate(together, state.albedo, shared=True)
        if shared[2] <= SHARED_LIMIT * residual:
            (lighting, albedo, _), brightness = shared, together.brightness
    return replace(state, lighting=lighting * brightness[:, None, None], albedo=albedo)


def _common_scale(lit: LitSamples) -> LitSamples:
    """Colours relative to the mean brightness: one light shows one view its lit side and another its shaded one."""
    mean = lit.brightness.mean().expand_as(lit.brightness)
    return replace(lit, colour=lit.colour * (lit.brightness / mean)[:, None, None], brightness=mean)


@torch.no_grad()
def lit_samples(model: MorphableModel, state: FaceState, observation: Observation, longest_side: int) -> LitSamples:
    """Look the surface's samples up in every photograph."""
    samples = surface_samples(model, SAMPLES)
    topology = MeshTopology.from_triangles(model.triangles, model.vertex_count)
    vertices = posed_vertices(model, state, joint_basis(model))
    corner_normals = vertex_normals(vertices, topology)
    attended = torch.zeros_like(model.regions["face"])
    attended[model.triangles[attended_triangles(model)].flatten()] = True
    skin = (attended[samples.vertices].all(-1) & samples.usable).to(vertices.dtype)
    colours, weights, normals, levels = [], [], [], []
    for view in range(state.view_count):
        row = state.expression_row(view)
        photograph = observation.level(view, longest_side)
        normal = torch.nn.functional.normalize(samples.interpolate(corner_normals[row]), dim=-1)
        points = samples.interpolate(vertices[row])
        weight, _, pixels = view_visibility(state, view, vertices[row], topology, points, normal, photograph)
        photographed = torch.cat([srgb_to_linear(photograph.colour), photograph.usable])
        looked_up = sample_image(photographed, pixels * photograph.scale)
        weight = weight * skin * (looked_up[:, 3] > 0.99)
        level = ((looked_up[:, :3].mean(-1) * weight).sum() / weight.sum().clamp_min(1e-6)).clamp_min(1e-4)
        colours.append(looked_up[:, :3] / level)
        weights.append(weight)
        normals.append(normal)
        levels.append(level)
    basis = (model.albedo_basis[samples.vertices] * samples.weights[..., None, None]).sum(1)
    return LitSamples(
        colour=torch.stack(colours),
        brightness=torch.stack(levels),
        weight=torch.stack(weights),
        normals=torch.stack(normals),
        albedo_mean=samples.interpolate(model.albedo_mean),
        albedo_basis=basis,
    )


def _alternate(lit: LitSamples, start: Tensor, shared: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Lighting [N, 9, 3] relative to the views' brightness, albedo [A], and the robust residual []."""
    coefficients = start
    robust = torch.ones_like(lit.weight)
    lighting = residual = None
    for _ in range(ROUNDS):
        albedo = _albedo(lit, coefficients)
        lighting = _solve_lights(lit, albedo, lit.weight * robust, shared)
        shading = torch.einsum("nks,nsc->nkc", spherical_harmonics(lit.normals), lighting)
        coefficients = _solve_albedo(lit, shading, lit.weight * robust)
        difference = (_albedo(lit, coefficients) * shading - lit.colour).norm(dim=-1)
        # Skin always differs by some percent: a tighter scale would call the first wrong guess an outlier for good.
        scale = 3.0 * _weighted_median(difference, lit.weight).clamp_min(0.05)
        robust = robust_weight(difference, scale)
        weight = lit.weight * robust
        residual = ((weight * difference**2).sum() / weight.sum().clamp_min(1e-6)).sqrt()
    return lighting, coefficients, residual


def _albedo(lit: LitSamples, coefficients: Tensor) -> Tensor:
    """Albedo [K, 3] of the samples; a little above zero, since light divides by it."""
    return (lit.albedo_mean + lit.albedo_basis @ coefficients).clamp(0.005, 1.0)


def _solve_lights(lit: LitSamples, albedo: Tensor, weight: Tensor, shared: bool) -> Tensor:
    """[N, 9, 3]; one for all views if `shared`."""
    views = lit.colour.shape[0]
    repeated = albedo.expand(views, -1, -1)
    if shared:
        light = solve_lighting(
            lit.colour.flatten(0, 1), repeated.flatten(0, 1), lit.normals.flatten(0, 1), weight.flatten(), ridge=1e-3
        )
        return light.expand(views, -1, -1).clone()
    lights = torch.stack(
        [solve_lighting(lit.colour[v], albedo, lit.normals[v], weight[v], ridge=1e-3) for v in range(views)]
    )
    seen = weight.sum(1) > 1.0
    if bool(seen.any()) and not bool(seen.all()):
        lights[~seen] = lights[seen].mean(0)
    return lights


def _solve_albedo(lit: LitSamples, shading: Tensor, weight: Tensor) -> Tensor:
    """Ridge regression of the albedo coefficients [A] under shading [N, K, 3]; the prior has unit variance."""
    amount = weight.sum().clamp_min(1e-6)
    design = lit.albedo_basis[None] * shading[..., None]
    missing = lit.colour - lit.albedo_mean * shading
    weighted = design * weight[..., None, None]
    matrix = torch.einsum("nkca,nkcb->ab", weighted, design) / amount
    right = torch.einsum("nkca,nkc->a", weighted, missing) / amount
    identity = torch.eye(matrix.shape[0], dtype=matrix.dtype).to(matrix)
    return torch.linalg.solve(matrix + ALBEDO_SIGMA**2 / INDEPENDENT_SAMPLES * identity, right)


def _weighted_median(values: Tensor, weight: Tensor) -> Tensor:
    """Median of values with noticeable weight."""
    kept = values[weight > 0.05]
    return kept.median() if kept.numel() else values.new_ones(())

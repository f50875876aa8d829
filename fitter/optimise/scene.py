"""What an Adam step computes once and all energies share: surface, renders, projected landmarks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fitter.camera import project, transform_points
from fitter.energies.contour import RowEdges
from fitter.energies.landmark import JAW_POINTS, JawCandidates, jaw_candidates
from fitter.hierarchy.face import FaceState, deformation_offsets
from fitter.kernels.surface import basis_product, vertex_normals
from fitter.model.morphable import MorphableModel
from fitter.optimise.contours import (
    FaceOutline,
    attended_triangles,
    covered_vertices,
    landmark_visibility,
    outline_edges,
    silhouette_vertices,
)
from fitter.optimise.crops import Crops, face_crops
from fitter.optimise.observation import Observation
from fitter.render import Appearance, MeshTopology, Render, render_face


@dataclass(frozen=True)
class StageInputs:
    """What stays as it is through a stage."""

    model: MorphableModel
    observation: Observation
    topology: MeshTopology
    start: FaceState
    """The state with which the stage began."""
    start_vertices: Tensor
    """[R, V, 3] M1 at the start, world mm."""
    crops: Crops
    brightness: Tensor
    """[N] mean linear level of the face in each photograph: colours are compared relative to it."""
    edges: RowEdges
    """Edges of the face masks in the crops, [N, S]; weight 0 where there is no mask."""
    masks: Tensor
    """[N, S, S] the face masks in the crops."""
    attended: Tensor
    """[F] bool: triangles on which colours are compared."""
    covered: Tensor
    """[V] bool: vertices that the face mask is meant to cover."""
    basis: Tensor
    """[3 V, I + E] identity and expression bases side by side, for one product per expression."""
    jaw: JawCandidates
    deformation_texel_mm: float
    displacement_texel_mm: float
    parts: dict[str, Any] = field(default_factory=dict)
    """What single energies prepared for themselves: networks, a graph."""


@dataclass(frozen=True)
class Choices:
    """Discrete choices, made anew every few steps and without gradient."""

    jaw_vertices: Tensor
    """[N, 17] int64."""
    landmark_weight: Tensor
    """[N, L] in [0, 1]: how well the view sees the landmark."""


@dataclass(frozen=True)
class Scene:
    """One evaluation: everything is differentiable with respect to the stage's free parameters."""

    inputs: StageInputs
    choices: Choices
    state: FaceState
    displacement: Tensor
    """[N, S, S] mm: each view has its own (HRN §3.5)."""
    vertices: Tensor
    """[R, V, 3] M1, world mm, one row per expression."""
    landmarks: Tensor
    """[N, L, 2] projected, px of the full-size photographs; the jaw's slide."""
    render_m1: Render | None
    """All views' crops; None where no energy looks at it."""
    render_m2: Render | None

    @property
    def view_vertices(self) -> Tensor:
        """[N, V, 3] M1 as each view sees it."""
        if self.vertices.shape[0] == self.state.view_count:
            return self.vertices
        return self.vertices.expand(self.state.view_count, -1, -1)

    def renders(self, levels: tuple[str, ...]) -> list[Render]:
        """The renders of the named levels, `m1` or `m2`."""
        return [self.render_m2 if level == "m2" else self.render_m1 for level in levels]

    def crop_pixels(self) -> Tensor:
        """[N, V, 2] projected vertices of M1, px of the crops."""
        cam = transform_points(self.state.cam_from_world, self.view_vertices)
        return self.inputs.crops.pixels(project(cam, self.state.intrinsics))


def joint_basis(model: MorphableModel) -> Tensor:
    """[3 V, I + E] the identity and expression bases side by side."""
    return torch.cat([model.identity_basis, model.expression_basis], -1).flatten(0, 1).contiguous()


def posed_vertices(model: MorphableModel, state: FaceState, basis: Tensor) -> Tensor:
    """M1 [R, V, 3] in world mm, differentiable; `basis` of `joint_basis`."""
    offsets = deformation_offsets(model, state)
    rows = []
    for expression in state.expression:
        shape = model.mean + basis_product(basis, torch.cat([state.identity, expression])).unflatten(0, (-1, 3))
        rows.append(transform_points(state.world_from_model, shape * state.log_scale.exp()) + offsets)
    return torch.stack(rows)


@torch.no_grad()
def stage_inputs(
    model: MorphableModel,
    state: FaceState,
    observation: Observation,
    outlines: tuple[FaceOutline | None, ...],
    size: int,
) -> StageInputs:
    """Cut the crops and prepare what a stage needs; `size` is the crops' side, px."""
    topology = MeshTopology.from_triangles(model.triangles, model.vertex_count)
    basis = joint_basis(model)
    vertices = posed_vertices(model, state, basis)
    covered, attended = covered_vertices(model), attended_triangles(model)
    crops = face_crops(state, observation, vertices[:, covered], size)
    edges, masks = outline_edges(outlines, crops)
    texel = _face_side_mm(model)
    inputs = StageInputs(
        model=model,
        observation=observation,
        topology=topology,
        start=state,
        start_vertices=vertices,
        crops=crops,
        brightness=torch.ones_like(crops.zoom),
        edges=edges,
        masks=masks,
        attended=attended,
        covered=covered,
        basis=basis,
        jaw=jaw_candidates(model),
        deformation_texel_mm=texel / state.deformation.shape[-1],
        displacement_texel_mm=texel / state.displacement.shape[-1],
    )
    seen = render_crops(inputs, state, vertices, None).fragments.triangle_id.long()
    weight = crops.usable * (attended[seen.clamp_min(0)] & (seen >= 0))
    level = (crops.colour.mean(-1) * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-6)
    return StageInputs(**{**vars(inputs), "brightness": level.clamp_min(1e-4)})


def _face_side_mm(model: MorphableModel) -> float:
    """How many millimetres of the face the whole side of the atlas would span: median over the face's triangles."""
    triangles = model.atlas_triangles[model.regions["face"][model.atlas_triangles].all(-1)]
    corners, flat = model.mean[triangles], model.atlas_uv[triangles]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1)
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    area_uv = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).abs().clamp_min(1e-12)
    return float((area / area_uv).sqrt().median())


@torch.no_grad()
def make_choices(inputs: StageInputs, state: FaceState, vertices: Tensor) -> Choices:
    """The jaw's vertices and the landmarks' visibility for the current surface [R, V, 3]."""
    normals = vertex_normals(vertices, inputs.topology)
    scheme = inputs.observation.landmark_scheme
    jaws, weights = [], []
    for view in range(state.view_count):
        row = state.expression_row(view)
        jaws.append(silhouette_vertices(state, view, vertices[row], normals[row], inputs.jaw))
        weights.append(landmark_visibility(inputs.model, state, view, vertices[row], normals[row], scheme))
    return Choices(torch.stack(jaws), torch.stack(weights))


def project_landmarks(inputs: StageInputs, choices: Choices, state: FaceState, vertices: Tensor) -> Tensor:
    """[N, L, 2] px of the full-size photographs."""
    model, scheme = inputs.model, inputs.observation.landmark_scheme
    rows = []
    for view in range(state.view_count):
        surface = vertices[state.expression_row(view)]
        points = model.landmarks(surface) if scheme == "ibug68" else model.mediapipe(surface)
        if scheme == "ibug68":
            points = torch.cat([surface[choices.jaw_vertices[view]], points[JAW_POINTS:]])
        rows.append(project(transform_points(state.cam_from_world[view], points), state.intrinsics[view]))
    return torch.stack(rows)


def render_crops(
    inputs: StageInputs, state: FaceState, vertices: Tensor, displacement: Tensor | None, antialias: bool = False
) -> Render:
    """Render all crops: M1, or M2 with `displacement` [N, S, S] in the normals.

    Silhouettes are not blended unless asked for: the background of a photograph is not known, and a black one would
    push the outline about. What the outline says goes through the contour energy.
    """
    model = inputs.model
    views = state.view_count
    appearance = Appearance(
        vertex_albedo=model.albedo(state.albedo)[None],
        uv=model.atlas_uv,
        lighting=state.lighting,
        displacement_map=None if displacement is None else displacement[:, None],
    )
    surface = vertices if vertices.shape[0] in (1, views) else vertices.expand(views, -1, -1)
    intrinsics = inputs.crops.intrinsics(state.intrinsics)
    size = (inputs.crops.size, inputs.crops.size)
    cameras = state.cam_from_world
    return render_face(surface, inputs.topology, intrinsics, cameras, size, appearance, antialias=antialias)


def build_scene(
    inputs: StageInputs, choices: Choices, state: FaceState, displacement: Tensor, levels: frozenset[str]
) -> Scene:
    """Evaluate the surface and render the levels that some energy looks at."""
    vertices = posed_vertices(inputs.model, state, inputs.basis)
    landmarks = project_landmarks(inputs, choices, state, vertices)
    m1 = render_crops(inputs, state, vertices, None) if "m1" in levels else None
    m2 = render_crops(inputs, state, vertices, displacement) if "m2" in levels else None
    return Scene(inputs, choices, state, displacement, vertices, landmarks, m1, m2)

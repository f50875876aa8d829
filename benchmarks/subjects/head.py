"""The head that a subject starts from: a random identity of the open model as a fine mesh, not yet deformed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import igl.embree
import numpy as np
import torch
from scipy.sparse.csgraph import dijkstra

from benchmarks.subjects.refine import refine
from fitter.mesh_normals import vertex_normals
from fitter.model.morphable import MorphableModel
from fitter.model.open_model import load_open_model
from fitter.model.subdivide import loop_subdivision
from fitter.model.surface_regions import edge_graph

FACE_RADIUS = 90.0
"""The fine part, mm around the nose tip."""
EARS = ((69.0, 100.0), (-52.0, 7.0), (-114.0, -57.0))
"""Box of the left ear on the average head: x, y, z from and to, mm."""
REGIONS = ("skin", "face", "eyes", "lips", "mouth_inside", "sockets", "nostrils", "tongue", "ears")
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmile": 0.55, "cheekSquint": 0.5, "eyeSquint": 0.25, "mouthDimple": 0.2},
    "frown": {"browDown": 0.7, "noseSneer": 0.25, "mouthFrown": 0.45, "eyeSquint": 0.3},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.5, "jawOpen": 0.25},
    "pucker": {"mouthPucker": 0.6, "cheekPuff": 0.15},
    "jaw_open": {"jawOpen": 0.45},
    "blink": {"eyeBlink": 0.9},
}
"""Weights of the model's actions; an action that exists for both sides is named without its side."""


@dataclass(frozen=True, eq=False)
class Head:
    """A fine head inside the model's span. Rest = without expression."""

    rest: np.ndarray
    """[V, 3] mm."""
    expression_offset: np.ndarray
    """[V, 3] mm, to be added."""
    triangles: np.ndarray
    """[F, 3]."""
    landmarks: np.ndarray
    """[68, 3] mm on the rest shape."""
    regions: dict[str, np.ndarray]
    """Name -> [V] share in [0, 1], soft at a border."""
    hidden_depth: np.ndarray
    """[V] mm along the surface behind the opening of a lid or of the mouth; 0 on the outside."""
    wanted_edge: np.ndarray
    """[V] mm, the edge length that the mesh was made for."""
    coarse_triangles: np.ndarray
    """[Fc, 3] of the mesh before refinement, whose vertices come first: the same for every density."""
    identity: np.ndarray
    """[I] the model's coefficients."""
    expression: np.ndarray
    """[E]."""


@cache
def model() -> MorphableModel:
    """The open model, read once."""
    return load_open_model()


def expression_coefficients(weights: dict[str, float], random: np.random.Generator) -> np.ndarray:
    """[E] coefficients; the two sides of an action differ a little, as in people."""
    names = model().expression_names
    coefficients = np.zeros(len(names))
    for action, weight in weights.items():
        sides = [name for name in (action, f"{action}Left", f"{action}Right") if name in names]
        if not sides:
            raise ValueError(f"the model has no action {action!r}")
        for name in sides:
            coefficients[names.index(name)] = weight * random.uniform(0.85, 1.15)
    return coefficients.clip(0.0, 1.0)


@cache
def coarse_regions() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Regions on the model's own mesh, with nostrils, and the depth [V] behind the openings of lids and mouth, mm."""
    vertices, triangles = model().mean.double().numpy(), model().triangles.numpy()
    regions = {name: mask.numpy().copy() for name, mask in model().regions.items()}
    points = model().landmarks(model().mean).double().numpy()
    near = np.flatnonzero((np.linalg.norm(vertices - points[33], axis=1) < 22.0) & regions["skin"])
    normals = vertex_normals(vertices, triangles)
    occlusion = np.zeros(len(vertices))
    occlusion[near] = igl.embree.ambient_occlusion(vertices, triangles, vertices[near], normals[near], 500)
    regions["nostrils"] = (occlusion > 0.8) & (vertices[:, 1] > points[33, 1] - 4.0)

    lower, upper = np.array(EARS).T
    mirrored = vertices * [-1.0, 1.0, 1.0]
    in_box = [((side > lower) & (side < upper)).all(1) for side in (vertices, mirrored)]
    regions["ears"] = regions["skin"] & (in_box[0] | in_box[1])
    hidden = regions["mouth_inside"] | regions["sockets"]
    graph = edge_graph(vertices, triangles[regions["skin"][triangles].all(1)])
    outside = np.flatnonzero(regions["skin"] & ~hidden)
    depth = dijkstra(graph, indices=outside, min_only=True)
    depth[~np.isfinite(depth)] = 0.0
    return regions, depth


def _wanted_edge(vertices: np.ndarray, tip: np.ndarray, edge_mm: float) -> np.ndarray:
    """[V] mm: fine around the nose tip, then growing; coarse where nothing is seen."""
    regions, depth = coarse_regions()
    distance = np.linalg.norm(vertices - tip, axis=1)
    wanted = edge_mm + 0.1 * np.maximum(distance - FACE_RADIUS, 0.0)
    wanted = np.where(regions["skin"], np.maximum(wanted, 0.5 * (depth - 2.0)), np.maximum(wanted, 0.7))
    return np.where(regions["tongue"], 4.0, wanted.clip(max=6.0))


def build_head(random: np.random.Generator, edge_mm: float, expression: dict[str, float], spread: float) -> Head:
    """Draw an identity and refine its mesh.

    Args:
        random: Source of the identity.
        edge_mm: Longest edge within `FACE_RADIUS` of the nose tip.
        expression: Weights as in `EXPRESSIONS`.
        spread: Standard deviation of the identity's coefficients (the model's own is 1).
    """
    known = model()
    identity = (random.normal(size=known.identity_basis.shape[-1]) * spread).clip(-2.5 * spread, 2.5 * spread)
    action = expression_coefficients(expression, random)
    neutral = known.shape(torch.from_numpy(identity).float(), torch.zeros(len(action))).double().numpy()
    offset = (known.expression_basis.double().numpy() @ action).reshape(-1, 3)
    triangles = known.triangles.numpy()
    matrix, triangles = loop_subdivision(triangles, len(neutral))
    regions, depth = coarse_regions()
    tip = known.landmarks(torch.from_numpy(neutral))[30].numpy()
    others = [regions[name] for name in REGIONS] + [depth, _wanted_edge(neutral, tip, edge_mm)]
    attributes = np.asarray(matrix @ np.column_stack([offset, np.column_stack(others).astype(np.float64)]))
    coarse_triangles = triangles
    rest, triangles, attributes = refine(
        np.asarray(matrix @ neutral), triangles, attributes, lambda rows: np.maximum(rows[:, -1], edge_mm)
    )
    embedding = known.landmarks
    landmarks = (rest[embedding.vertices.numpy()] * embedding.weights.double().numpy()[..., None]).sum(1)
    shares = dict(zip(REGIONS, attributes[:, 3 : 3 + len(REGIONS)].clip(0.0, 1.0).T, strict=True))
    return Head(
        rest=rest,
        expression_offset=attributes[:, :3],
        triangles=triangles,
        landmarks=landmarks,
        regions=shares,
        hidden_depth=attributes[:, -2],
        wanted_edge=attributes[:, -1],
        coarse_triangles=coarse_triangles,
        identity=identity,
        expression=action,
    )

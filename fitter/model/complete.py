"""What a published model's files lack is carried over from a template laid onto its mean; and its atlas is made."""

from __future__ import annotations

import numpy as np
import torch

from fitter.errors import InputError
from fitter.model.atlas import atlas_quality
from fitter.model.disc import disc_atlas, largest_component
from fitter.model.foreign import PartialModel, Progress
from fitter.model.morphable import REGIONS, LandmarkEmbedding, MorphableModel
from fitter.model.neutral_albedo import neutral_skin_albedo
from fitter.model.open_model import map_importance
from fitter.model.registration import SearchSurface, fit_template, place

RECIPE = 1
"""Raise this whenever the completion changes, so that caches are rebuilt."""
CARRY_MM = 15.0
"""Vertices farther than this from the fitted template get no region from it."""
POOR_FIT_MM = 6.0
"""Median distance of the fitted template to the mean above which it is no face in our frame and unit."""
EYE_PATCH = 0.055
"""Width of the atlas' corner that holds a separate eyeball."""
TIP_TO_ORIGIN_MM = 45.0


def complete_model(partial: PartialModel, template: MorphableModel, progress: Progress | None = None) -> MorphableModel:
    """Add landmarks, regions, colours, atlas and frame to what the files gave.

    Args:
        partial: A loader's result.
        template: The model whose landmarks and regions are carried over (CPU); the open model, as a rule.
        progress: Called with a label and a fraction in [0, 1].

    Raises:
        InputError: The mean is not a face that the template can be laid onto, or cannot be flattened.
    """
    progress = progress or (lambda label, fraction: None)
    surface = _map_surface(partial)
    anchors = dict(partial.anchors)
    if partial.landmark_vertices is not None:
        anchors |= {row: partial.mean[vertex] for row, vertex in enumerate(partial.landmark_vertices)}
    progress(f"laying the template onto {partial.name}", 0.1)
    visible = partial.triangles[_visible(partial, surface)[partial.triangles].all(1)]
    fit = fit_template(template, partial.mean, visible, anchors)
    if fit.misfit > POOR_FIT_MM:
        raise InputError(
            partial.source.get("from", partial.name),
            f"a mean shape that misses a face by {fit.misfit:.1f} mm",
            "a face in its documented unit, +y up, +z out of the face",
        )
    fitted = fit.vertices

    skin_triangles = partial.triangles[surface[partial.triangles].all(1)]
    skin = SearchSurface(partial.mean, skin_triangles)
    landmarks = _landmarks(partial, template, fitted, skin)
    mediapipe = _carried(template.mediapipe, fitted, skin) if template.mediapipe is not None else None
    progress("carrying over the regions", 0.3)
    regions = _regions(partial, template, fitted, surface)
    points = place(landmarks, partial.mean)
    shift = -np.array([points[[36, 45], 0].mean(), points[27, 1], points[30, 2] - TIP_TO_ORIGIN_MM])
    mean, points = partial.mean + shift, points + shift

    progress("flattening the atlas", 0.4)
    atlas_uv, atlas_triangles = _atlas(partial, mean, points, regions, skin_triangles)
    if partial.albedo_mean is None or partial.albedo_basis is None:
        albedo_mean, albedo_basis = neutral_skin_albedo(len(mean), regions)
    else:
        albedo_mean, albedo_basis = partial.albedo_mean, partial.albedo_basis
    own_uv = partial.uv is not None and partial.uv_triangles is not None
    quality = atlas_quality(atlas_uv, atlas_triangles, regions["face"][atlas_triangles].all(1))
    progress("done", 1.0)
    return MorphableModel(
        name=partial.name,
        mean=_float(mean),
        identity_basis=_float(partial.identity_basis),
        expression_basis=_float(partial.expression_basis),
        expression_names=partial.expression_names,
        expressions_are_named=partial.expressions_are_named,
        albedo_mean=_float(albedo_mean),
        albedo_basis=_float(albedo_basis),
        triangles=_long(partial.triangles),
        uv=_float(partial.uv if own_uv else atlas_uv),
        uv_triangles=_long(partial.uv_triangles if own_uv else partial.triangles),
        landmarks=landmarks,
        mediapipe=mediapipe,
        mediapipe_indices=template.mediapipe_indices if mediapipe is not None else (),
        regions={name: torch.from_numpy(mask) for name, mask in regions.items()},
        atlas_uv=_float(atlas_uv),
        atlas_triangles=_long(atlas_triangles),
        source={
            **partial.source,
            "completed_with": template.name,
            "completion_recipe": str(RECIPE),
            "atlas_flipped_triangles": str(quality.flipped),
            "atlas_face_share": f"{quality.face_share:.3f}",
        },
    )


def _float(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _long(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.int64))


def _map_surface(partial: PartialModel) -> np.ndarray:
    """Boolean [V]: the given skin, or the vertices of the largest component."""
    if partial.map_surface is not None:
        return partial.map_surface
    surface = np.zeros(len(partial.mean), bool)
    surface[partial.triangles[largest_component(partial.triangles)]] = True
    return surface


def _visible(partial: PartialModel, surface: np.ndarray) -> np.ndarray:
    """Boolean [V]: what the template's outer surface may be pulled to; not what is known to lie inside."""
    hidden = np.zeros(len(surface), bool)
    for name in ("mouth_inside", "sockets"):
        if name in partial.regions:
            hidden |= partial.regions[name]
    eyes = partial.regions.get("eyes", np.zeros(len(surface), bool))
    return (surface | eyes) & ~hidden


def _carried(embedding: LandmarkEmbedding, fitted: np.ndarray, skin: SearchSurface) -> LandmarkEmbedding:
    """Points of the fitted template as points of the nearest skin."""
    at = skin.closest(place(embedding, fitted))
    return LandmarkEmbedding(_long(at.vertices), _float(at.weights))


def _landmarks(
    partial: PartialModel, template: MorphableModel, fitted: np.ndarray, skin: SearchSurface
) -> LandmarkEmbedding:
    """The file's own landmarks, or the template's."""
    if partial.landmark_vertices is not None:
        vertices = np.repeat(partial.landmark_vertices[:, None], 3, axis=1)
        weights = np.tile([1.0, 0.0, 0.0], (len(vertices), 1))
        return LandmarkEmbedding(_long(vertices), _float(weights))
    return _carried(template.landmarks, fitted, skin)


def _regions(
    partial: PartialModel, template: MorphableModel, fitted: np.ndarray, surface: np.ndarray
) -> dict[str, np.ndarray]:
    """Documented masks as they are; the others from the nearest point of the fitted template."""
    own = template.triangles.numpy()
    flags = {name: mask.numpy() for name, mask in template.regions.items()}
    hidden = flags.get("sockets", np.zeros(len(fitted), bool)) | flags.get("tongue", np.zeros(len(fitted), bool))
    # Without the linings behind the eyes, which lie close to the eyeballs and to the lids' inside.
    at = SearchSurface(fitted, own[~hidden[own].all(1)]).closest(partial.mean)
    near = at.distances < CARRY_MM

    def carried(name: str) -> np.ndarray:
        if name not in flags:
            return np.zeros(len(partial.mean), bool)
        return ((flags[name][at.vertices] * at.weights).sum(1) > 0.5) & near

    regions = {name: carried(name) for name in dict.fromkeys((*REGIONS, *flags)) if name != "skin"}
    regions |= {name: mask for name, mask in partial.regions.items()}
    regions.setdefault("sockets", np.zeros(len(partial.mean), bool))
    regions.setdefault("skin", surface & ~regions["eyes"])
    for name in ("face", "lips", "brows"):
        if name in regions:
            regions[name] = regions[name] & regions["skin"] & ~regions["mouth_inside"] & ~regions["sockets"]
    return {name: np.ascontiguousarray(mask, bool) for name, mask in regions.items()}


def _atlas(
    partial: PartialModel,
    mean: np.ndarray,
    points: np.ndarray,
    regions: dict[str, np.ndarray],
    skin_triangles: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Atlas coordinates [V, 2] and the triangles that take part in the maps."""
    importance = map_importance(mean, regions, points[30])
    candidates = np.unique(skin_triangles)

    def nearest(point: np.ndarray) -> int:
        return int(candidates[np.linalg.norm(mean[candidates] - point, axis=1).argmin()])

    uv, disc = disc_atlas(mean, skin_triangles, importance, points[30], nearest(points[8]), nearest(points[27]))
    hidden = regions["mouth_inside"] | regions["sockets"] | regions["eyes"]
    taking_part = disc[~hidden[disc].all(1)]
    off_map = np.isnan(uv[:, 0])
    uv[off_map] = (0.5, 0.001)
    for side, corner in ((-1, (0.003, 0.997 - EYE_PATCH)), (1, (0.997 - EYE_PATCH, 0.997 - EYE_PATCH))):
        eye = np.flatnonzero(regions["eyes"] & off_map & (np.sign(mean[:, 0]) == side))
        if len(eye):
            centre = mean[eye[mean[eye, 2].argmax()], :2]
            flat = np.clip((mean[eye, :2] - centre) / 11.0, -1.0, 1.0)
            uv[eye] = np.array(corner) + (flat * 0.46 + 0.5) * EYE_PATCH
    return uv, taking_part

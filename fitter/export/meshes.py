"""The meshes of a result in the session's unit, and what they are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from fitter.export.colour import srgb_encode
from fitter.mesh_normals import vertex_normals
from fitter.model.morphable import MorphableModel
from fitter.obj import ObjMaterial, ObjMesh
from fitter.result.types import FitResult

MATERIAL_LIBRARY = "face.mtl"
"""The material file that face.obj and dense.obj share."""


NO_ROOM = 1e-9
"""Area in texture space, as a fraction of the unit square, of a triangle that is squeezed to a point or a line."""
HELD_MM = 2.0
"""A dense mesh that holds the eyes has them this close to M1's: its subdivision smooths them."""


def texture_area(uv: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unsigned area [F] of the triangles in texture space, as a fraction of the unit square."""
    a, b, c = (uv[triangles[:, corner]] for corner in range(3))
    first, second = b - a, c - a
    return 0.5 * np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])


def in_atlas(model: MorphableModel) -> np.ndarray:
    """[F] bool: triangles of the model that take part in the maps, whatever corner they start at."""

    def keys(triangles: np.ndarray) -> np.ndarray:
        a, b, c = np.sort(triangles.astype(np.int64), 1).T
        return (a * model.vertex_count + b) * model.vertex_count + c

    return np.isin(keys(model.triangles.cpu().numpy()), keys(model.atlas_triangles.cpu().numpy()))


def textured_triangles(model: MorphableModel) -> np.ndarray:
    """[F] bool: triangles of the model that have room of their own on the atlas.

    The skin has; eyeballs may have a patch in a corner; a tongue or an eyeball's back is squeezed to a point or a
    line and wears plain vertex colours instead.
    """
    triangles = model.triangles.cpu().numpy()
    area = texture_area(model.atlas_uv.cpu().numpy().astype(np.float64), triangles)
    return in_atlas(model) | (area > NO_ROOM)


def vertex_colours(result: FitResult) -> np.ndarray:
    """[V, 3] linear RGB of the fitted albedo."""
    model = result.model
    coefficients = torch.as_tensor(result.albedo, dtype=model.albedo_mean.dtype, device=model.albedo_mean.device)
    return model.albedo(coefficients).cpu().numpy().astype(np.float64)


def materials(result: FitResult, textured: np.ndarray) -> tuple[ObjMaterial, ...]:
    """The face's textured material, and a plain one for what has no room on the atlas."""
    bare = np.unique(result.model.triangles.cpu().numpy()[~textured])
    colour = vertex_colours(result)[bare].mean(0) if len(bare) else np.full(3, 0.5)
    plain = tuple(float(channel) for channel in srgb_encode(colour))
    return (ObjMaterial("face", texture="texture.png"), ObjMaterial("inner", plain))


def coarse_mesh(result: FitResult) -> ObjMesh:
    """M0 on the model's topology with the model's own texture coordinates, for textures made for that template."""
    model = result.model
    return ObjMesh(
        vertices=result.vertices_m0 / result.mm_per_unit,
        triangles=model.triangles.cpu().numpy(),
        uv=model.uv.cpu().numpy(),
        uv_triangles=model.uv_triangles.cpu().numpy(),
    )


def face_mesh(result: FitResult, textured: np.ndarray) -> ObjMesh:
    """M1 on the model's topology with the atlas' texture coordinates, which are those of every exported map."""
    triangles = result.model.triangles.cpu().numpy()
    return ObjMesh(
        vertices=result.vertices_m1 / result.mm_per_unit,
        triangles=triangles,
        uv=result.model.atlas_uv.cpu().numpy(),
        uv_triangles=triangles,
        materials=("face", "inner"),
        material_of=np.where(textured, 0, 1),
    )


def inner_parts(result: FitResult) -> np.ndarray:
    """[K, 3] triangles of the model (eyeballs, tongue) that the dense mesh lacks; none where it holds them already.

    The skin's own hidden rims (sockets, inside of the mouth) stay away: they would fight with the displaced surface.
    """
    model = result.model
    triangles = model.triangles.cpu().numpy()
    skin = model.regions["skin"].cpu().numpy()
    inner = triangles[~in_atlas(model) & ~skin[triangles].any(1)]
    if len(inner) and len(result.dense.vertices):
        tree = cKDTree(result.dense.vertices, balanced_tree=False, compact_nodes=False)
        distance, _ = tree.query(result.vertices_m1[np.unique(inner)], distance_upper_bound=HELD_MM)
        if np.isfinite(distance).all():
            return inner[:0]
    return inner


@dataclass(frozen=True)
class WholeHead:
    """M2 with the eyes of M1."""

    vertices: np.ndarray
    """[V, 3] world mm: the dense mesh's, then the inner parts'."""
    normals: np.ndarray
    """[V, 3]."""
    triangles: np.ndarray
    """[F, 3]."""
    uv: np.ndarray
    """[V, 2] atlas coordinates."""
    is_dense: np.ndarray
    """[F] bool: triangles of the dense mesh proper."""
    model_vertices: np.ndarray
    """[K] which of the model's vertices the inner parts are."""


def whole_head(result: FitResult) -> WholeHead:
    """The dense mesh, completed with what it lacks to look like a head."""
    dense = result.dense
    inner = inner_parts(result)
    used, local = np.unique(inner, return_inverse=True)
    normals = vertex_normals(result.vertices_m1, inner)[used]
    return WholeHead(
        vertices=np.concatenate([dense.vertices, result.vertices_m1[used]]),
        normals=np.concatenate([dense.normals, normals]),
        triangles=np.concatenate([dense.triangles, local.reshape(-1, 3) + len(dense.vertices)]),
        uv=np.concatenate([dense.uv, result.model.atlas_uv.cpu().numpy()[used]]),
        is_dense=np.arange(len(dense.triangles) + len(inner)) < len(dense.triangles),
        model_vertices=used,
    )


def dense_mesh(result: FitResult, textured: np.ndarray) -> ObjMesh:
    """M2: the displaced dense mesh with the atlas' texture coordinates and its normals, then M1's eyes.

    Args:
        result: The fit.
        textured: From `textured_triangles`.
    """
    head = whole_head(result)
    # Triangles of a subdivided mesh are as much smaller as they are more.
    least = NO_ROOM * min(1.0, result.model.triangles.shape[0] / max(len(head.triangles), 1))
    material = np.where(texture_area(head.uv, head.triangles) > least, 0, 1)
    has_texture = np.zeros(result.model.vertex_count, bool)
    has_texture[result.model.triangles.cpu().numpy()[textured]] = True
    inner = head.triangles[~head.is_dense] - len(result.dense.vertices)
    material[~head.is_dense] = np.where(has_texture[head.model_vertices[inner]].all(1), 0, 1)
    return ObjMesh(
        vertices=head.vertices / result.mm_per_unit,
        triangles=head.triangles,
        uv=head.uv,
        uv_triangles=head.triangles,
        normals=head.normals,
        normal_triangles=head.triangles,
        materials=("face", "inner"),
        material_of=material,
    )

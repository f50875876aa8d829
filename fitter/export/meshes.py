"""The meshes of a result in the session's unit, and what they are made of."""

from __future__ import annotations

import numpy as np
import torch

from fitter.export.colour import srgb_encode
from fitter.export.obj import ObjMaterial, ObjMesh
from fitter.model.morphable import MorphableModel
from fitter.result.types import FitResult

MATERIAL_LIBRARY = "face.mtl"
"""The material file that face.obj and dense.obj share."""


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

    The skin has; eyeballs may have a patch in a corner; a tongue or an eyeball's back is squeezed to a point or a line and
    wears plain vertex colours instead.
    """
    triangles = model.triangles.cpu().numpy()
    area = texture_area(model.atlas_uv.cpu().numpy().astype(np.float64), triangles)
    return in_atlas(model) | (area > 1e-9)


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


def dense_mesh(result: FitResult) -> ObjMesh:
    """M2: the displaced dense mesh with the atlas' texture coordinates and its normals."""
    dense = result.dense
    return ObjMesh(
        vertices=dense.vertices / result.mm_per_unit,
        triangles=dense.triangles,
        uv=dense.uv,
        uv_triangles=dense.triangles,
        normals=dense.normals,
        normal_triangles=dense.triangles,
        materials=("face",),
        material_of=np.zeros(len(dense.triangles), np.int64),
    )

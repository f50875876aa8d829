"""face.glb read back: geometry, unit, uprightness, names, weights, target deltas, texture, equal bytes."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pygltflib
import pytest
import trimesh
from PIL import Image

from fitter.export.gltf import build_glb, mesh_frame
from fitter.export.maps import colour_png
from fitter.export.meshes import textured_triangles
from fitter.mesh_normals import vertex_normals
from tests.factories import area_weighted_normals, toy_result

TYPES = {5126: np.float32, 5125: np.uint32}
WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}


@pytest.fixture(scope="module")
def result():
    return toy_result()


@pytest.fixture(scope="module")
def glb(result):
    return build_glb(result, colour_png(result.texture))


def _view(document, number: int) -> bytes:
    view = document.bufferViews[number]
    return document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]


def _read(document, number: int) -> np.ndarray:
    """An accessor as an array, sparse ones filled in; written from the specification, not from the exporter."""
    accessor = document.accessors[number]
    width = WIDTH[accessor.type]
    array = np.zeros((accessor.count, width), TYPES[accessor.componentType])
    if accessor.bufferView is not None:
        array = np.frombuffer(_view(document, accessor.bufferView), array.dtype).reshape(array.shape).copy()
    if accessor.sparse is not None:
        indices = np.frombuffer(_view(document, accessor.sparse.indices.bufferView), np.uint32)
        values = np.frombuffer(_view(document, accessor.sparse.values.bufferView), np.float32).reshape(-1, width)
        array[indices] = values
    return array


def test_shown_mesh_is_m1_in_metres_upright(result, glb):
    document = pygltflib.GLTF2.load_from_bytes(glb)
    mesh = document.meshes[0]
    primitive = mesh.primitives[0]
    shown = _read(document, primitive.attributes.POSITION).astype(float)
    for weight, target in zip(mesh.weights, primitive.targets, strict=True):
        shown += weight * _read(document, target["POSITION"])
    placement = np.array(document.asset.extras["world_from_mesh_mm"])
    world = 1000 * shown @ placement[:3, :3].T + placement[:3, 3]
    np.testing.assert_allclose(world, result.vertices_m1, atol=2e-3)
    # Upright: the chin lies below the brows, the nose sticks out along +z.
    landmarks = 1000 * shown[result.model.landmarks.vertices[:, 0].numpy()]
    assert landmarks[8, 1] < landmarks[19, 1] - 50 and landmarks[30, 2] > landmarks[0, 2] + 20
    np.testing.assert_allclose(placement[:3, :3] @ placement[:3, :3].T, np.eye(3), atol=1e-8)


def test_names_and_deltas(result, glb):
    document = pygltflib.GLTF2.load_from_bytes(glb)
    mesh = document.meshes[0]
    assert mesh.extras["targetNames"] == list(result.model.expression_names)
    _, _, scale = mesh_frame(result.world_from_model)
    assert scale == pytest.approx(1.05)
    for primitive in mesh.primitives:
        assert len(primitive.targets) == len(result.model.expression_names)
        for index, target in enumerate(primitive.targets):
            accessor = document.accessors[target["POSITION"]]
            delta = _read(document, target["POSITION"])
            np.testing.assert_allclose(delta, 1.05e-3 * result.model.expression_basis[..., index], atol=1.1e-6)
            np.testing.assert_allclose(accessor.min, delta.min(0), atol=1e-9)
            np.testing.assert_allclose(accessor.max, delta.max(0), atol=1e-9)
    assert any(document.accessors[t["POSITION"]].sparse is not None for t in mesh.primitives[0].targets)


def test_expression_that_moves_nothing(result):
    still = dataclasses.replace(result.model, expression_basis=result.model.expression_basis * 0)
    document = pygltflib.GLTF2.load_from_bytes(build_glb(dataclasses.replace(result, model=still), b"png"))
    for target in document.meshes[0].primitives[0].targets:
        assert not _read(document, target["POSITION"]).any()


def test_trimesh_reads_geometry_uv_and_texture(result, glb):
    scene = trimesh.load(io.BytesIO(glb), file_type="glb", process=False)
    geometries = list(scene.geometry.values())
    assert sum(len(g.faces) for g in geometries) == len(result.model.triangles)
    face = next(g for g in geometries if g.visual.kind == "texture" and g.visual.material.baseColorTexture)
    assert 0.1 < np.ptp(face.vertices[:, 1]) < 0.3  # a head in metres
    # trimesh turns v back to a bottom-left origin.
    np.testing.assert_allclose(face.visual.uv, result.model.atlas_uv, atol=1e-6)
    texture = Image.open(io.BytesIO(colour_png(result.texture)))
    np.testing.assert_array_equal(np.asarray(face.visual.material.baseColorTexture.convert("RGB")), np.asarray(texture))


def test_eyes_have_no_room_on_the_toy_atlas(result):
    textured = textured_triangles(result.model)
    assert textured.sum() == len(result.model.atlas_triangles) and (~textured).sum() == 16


def test_same_input_same_bytes(result, glb):
    assert build_glb(result, colour_png(result.texture)) == glb


def test_vertex_normals_agree_with_a_plain_loop(result):
    triangles = result.model.triangles.numpy()
    expected = area_weighted_normals(result.vertices_m1, triangles)
    np.testing.assert_allclose(vertex_normals(result.vertices_m1, triangles), expected, atol=1e-12)
    lonely = np.concatenate([result.vertices_m1, [[0.0, 0, 0]]])
    np.testing.assert_array_equal(vertex_normals(lonely, triangles, unreferenced=(0, 0, 1))[-1], [0, 0, 1])

"""face.glb: M1 with its texture and the expressions as named morph targets; metres, upright, looking along +z.

glTF wants metres and y up (glTF 2.0, 3.4). The mesh is therefore the fitted one turned back into the model's upright
frame, at its true (world) size; `asset.extras.world_from_mesh_mm` places it in the session again. The stored shape is
the neutral one and the reference photograph's expression is the mesh's default weights: programs show M1, and all
weights at zero give the neutral face.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pygltflib as gl

from fitter.export.meshes import textured_triangles, vertex_colours
from fitter.mesh_normals import vertex_normals
from fitter.result.types import FitResult

METRES_PER_MM = 0.001
SPARSE_BELOW = 0.5
"""Morph targets that move less than this share of the vertices are stored as sparse accessors."""
STILL_MM = 1e-3
"""Movements up to a micrometre count as none."""


@dataclass
class _Buffer:
    """The one binary chunk of a GLB, and the views and accessors into it."""

    data: bytearray = field(default_factory=bytearray)
    views: list[gl.BufferView] = field(default_factory=list)
    accessors: list[gl.Accessor] = field(default_factory=list)

    def view(self, content: bytes, target: int | None = None) -> int:
        """Append bytes (padded to 4) and return the number of their view."""
        self.views.append(gl.BufferView(buffer=0, byteOffset=len(self.data), byteLength=len(content), target=target))
        self.data += content + b"\0" * (-len(content) % 4)
        return len(self.views) - 1

    def accessor(self, array: np.ndarray, kind: str, component: int, target: int | None, bounds: bool = False) -> int:
        """Append an array as a plain accessor."""
        number = self.view(array.tobytes(), target)
        entry = gl.Accessor(bufferView=number, componentType=component, count=len(array), type=kind)
        if bounds:
            entry.min, entry.max = array.min(0).tolist(), array.max(0).tolist()
        self.accessors.append(entry)
        return len(self.accessors) - 1

    def sparse_accessor(self, offsets: np.ndarray, moved: np.ndarray) -> int:
        """Append offsets [V, 3] of which only the rows `moved` are not zero."""
        indices = self.view(moved.astype(np.uint32).tobytes())
        values = self.view(offsets[moved].tobytes())
        sparse = gl.Sparse(
            count=len(moved),
            indices=gl.AccessorSparseIndices(bufferView=indices, byteOffset=0, componentType=gl.UNSIGNED_INT),
            values=gl.AccessorSparseValues(bufferView=values, byteOffset=0),
        )
        entry = gl.Accessor(componentType=gl.FLOAT, count=len(offsets), type=gl.VEC3, sparse=sparse)
        entry.min, entry.max = offsets.min(0).tolist(), offsets.max(0).tolist()
        self.accessors.append(entry)
        return len(self.accessors) - 1


def mesh_frame(world_from_model: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation [3, 3], origin [3] (mm) and scale: world = rotation @ mesh + origin, mesh = scale * model."""
    linear = world_from_model[:3, :3]
    scale = float(np.cbrt(np.linalg.det(linear)))
    return linear / scale, world_from_model[:3, 3], scale


def _targets(buffer: _Buffer, basis: np.ndarray) -> list[dict[str, int]]:
    """Morph targets of the expression basis [V, 3, E], mm in the mesh's frame."""
    targets = []
    for offsets in np.moveaxis(basis, -1, 0):
        moved = np.flatnonzero(np.abs(offsets).max(1) > STILL_MM)
        metres = np.zeros(offsets.shape, np.float32)
        metres[moved] = offsets[moved] * METRES_PER_MM
        if len(moved) == 0:
            moved = np.array([0])  # a sparse accessor needs one entry at least
        if len(moved) < SPARSE_BELOW * len(offsets):
            targets.append({"POSITION": buffer.sparse_accessor(metres, moved)})
        else:
            targets.append({"POSITION": buffer.accessor(metres, gl.VEC3, gl.FLOAT, None, bounds=True)})
    return targets


def build_glb(result: FitResult, texture_png: bytes) -> bytes:
    """The bytes of face.glb.

    Args:
        result: The fit.
        texture_png: The fused texture as a PNG file, top row at v = 1.
    """
    model = result.model
    rotation, origin, scale = mesh_frame(result.world_from_model)
    basis = model.expression_basis.cpu().numpy().astype(np.float64) * scale
    weights = np.asarray(result.expression, np.float64)
    worn = (result.vertices_m1 - origin) @ rotation
    triangles = model.triangles.cpu().numpy()
    textured = textured_triangles(model)

    buffer = _Buffer()
    attributes = gl.Attributes(
        POSITION=buffer.accessor(
            ((worn - basis @ weights) * METRES_PER_MM).astype(np.float32),
            gl.VEC3,
            gl.FLOAT,
            gl.ARRAY_BUFFER,
            bounds=True,
        ),
        # Targets carry no normals of their own, so the stored ones are those of the face as it is first shown.
        NORMAL=buffer.accessor(
            vertex_normals(worn, triangles, unreferenced=(0.0, 0.0, 1.0)).astype(np.float32),
            gl.VEC3,
            gl.FLOAT,
            gl.ARRAY_BUFFER,
        ),
        # glTF counts v from the top.
        TEXCOORD_0=buffer.accessor(
            (model.atlas_uv.cpu().numpy() * [1.0, -1.0] + [0.0, 1.0]).astype(np.float32),
            gl.VEC2,
            gl.FLOAT,
            gl.ARRAY_BUFFER,
        ),
    )
    targets = _targets(buffer, basis)
    primitives = [_primitive(buffer, attributes, targets, triangles[textured], material=0)]
    if not textured.all():
        colours = vertex_colours(result).astype(np.float32)
        plain = gl.Attributes(POSITION=attributes.POSITION, NORMAL=attributes.NORMAL)
        plain.COLOR_0 = buffer.accessor(colours, gl.VEC3, gl.FLOAT, gl.ARRAY_BUFFER)
        primitives.append(_primitive(buffer, plain, targets, triangles[~textured], material=1))
    image = buffer.view(texture_png)
    mesh = gl.Mesh(name="face", primitives=primitives)
    if targets:
        mesh.weights = [float(weight) for weight in weights]
        mesh.extras = {"targetNames": list(model.expression_names)}
    placement = np.eye(4)
    placement[:3, :3], placement[:3, 3] = rotation, origin
    return _assemble(buffer, mesh, image, placement, result)


def _primitive(
    buffer: _Buffer, attributes: gl.Attributes, targets: list, triangles: np.ndarray, material: int
) -> gl.Primitive:
    indices = buffer.accessor(
        triangles.reshape(-1).astype(np.uint32), gl.SCALAR, gl.UNSIGNED_INT, gl.ELEMENT_ARRAY_BUFFER
    )
    return gl.Primitive(attributes=attributes, indices=indices, targets=targets, material=material)


def _material(name: str, texture: bool) -> gl.Material:
    """A matt material, seen from both sides as a mesh with open edges has to be."""
    surface = gl.PbrMetallicRoughness(metallicFactor=0.0, roughnessFactor=0.8)
    if texture:
        surface.baseColorTexture = gl.TextureInfo(index=0)
    return gl.Material(name=name, pbrMetallicRoughness=surface, doubleSided=True)


def _assemble(buffer: _Buffer, mesh: gl.Mesh, image: int, placement: np.ndarray, result: FitResult) -> bytes:
    extras = {
        "unit": "metre",
        "metric": result.metric,
        "world_from_mesh_mm": placement.round(9).tolist(),
        "mm_per_session_unit": result.mm_per_unit,
        "model": result.model.name,
    }
    document = gl.GLTF2(
        asset=gl.Asset(version="2.0", generator="hrn-fitter", extras=extras),
        scene=0,
        scenes=[gl.Scene(nodes=[0])],
        nodes=[gl.Node(name=result.session.name, mesh=0)],
        meshes=[mesh],
        materials=[_material("face", texture=True), _material("inner", texture=False)],
        textures=[gl.Texture(source=0, sampler=0)],
        samplers=[
            gl.Sampler(
                magFilter=gl.LINEAR, minFilter=gl.LINEAR_MIPMAP_LINEAR, wrapS=gl.CLAMP_TO_EDGE, wrapT=gl.CLAMP_TO_EDGE
            )
        ],
        images=[gl.Image(name="texture", bufferView=image, mimeType="image/png")],
        buffers=[gl.Buffer(byteLength=len(buffer.data))],
        bufferViews=buffer.views,
        accessors=buffer.accessors,
    )
    document.set_binary_blob(bytes(buffer.data))
    return b"".join(document.save_to_bytes())

"""Wavefront OBJ: written in bulk, read without touching the vertex order or merging texture seams."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fitter.atomic import write_bytes
from fitter.errors import InputError
from fitter.number_text import decimal_lines, integer_lines


@dataclass(frozen=True)
class ObjMaterial:
    """One material of an MTL file."""

    name: str
    diffuse: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Kd, sRGB-encoded as most programs read it."""
    texture: str | None = None
    """File name of map_Kd, relative to the MTL file."""


@dataclass(frozen=True)
class ObjMesh:
    """A mesh as an OBJ file holds it: positions, texture coordinates and normals each with their own triangles."""

    vertices: np.ndarray
    """[V, 3] float64, in the file's unit and order."""
    triangles: np.ndarray
    """[F, 3] int64."""
    uv: np.ndarray | None = None
    """[T, 2] float64, origin bottom-left."""
    uv_triangles: np.ndarray | None = None
    """[F, 3] int64 rows of `uv`; -1 where the file gives none."""
    normals: np.ndarray | None = None
    """[N, 3] float64."""
    normal_triangles: np.ndarray | None = None
    """[F, 3] int64 rows of `normals`; -1 where the file gives none."""
    materials: tuple[str, ...] = field(default=())
    """Names that the file uses, in the order in which `material_of` numbers them."""
    material_of: np.ndarray | None = None
    """[F] int64 row of `materials` for each triangle; -1 before the first `usemtl`."""


def decimals_for(mm_per_unit: float) -> int:
    """Decimals that keep a coordinate to a ten-thousandth of a millimetre; six at least."""
    return max(6, 4 + math.ceil(math.log10(mm_per_unit)))


def _face_rows(mesh: ObjMesh, chosen: slice) -> bytes:
    columns, separators = [mesh.triangles[chosen] + 1], [" "]
    if mesh.uv_triangles is not None:
        columns.append(mesh.uv_triangles[chosen] + 1)
        separators.append("/")
    if mesh.normal_triangles is not None:
        columns.append(mesh.normal_triangles[chosen] + 1)
        separators.append("/" if mesh.uv_triangles is not None else "//")
    return integer_lines("f", np.stack(columns, -1).reshape(len(columns[0]), -1), separators * 3)


def _faces(mesh: ObjMesh) -> bytes:
    """The face lines, in the mesh's order, with a `usemtl` wherever the material changes."""
    if mesh.material_of is None:
        return _face_rows(mesh, slice(None))
    changes = np.flatnonzero(np.diff(mesh.material_of)) + 1
    starts = [0, *changes.tolist(), len(mesh.triangles)]
    parts = []
    for start, end in itertools.pairwise(starts):
        parts.append(f"usemtl {mesh.materials[mesh.material_of[start]]}\n".encode("ascii"))
        parts.append(_face_rows(mesh, slice(start, end)))
    return b"".join(parts)


def format_obj(mesh: ObjMesh, *, material_library: str | None = None, decimals: int = 6, comment: str = "") -> bytes:
    """The bytes of an OBJ file. Every uv and normal index must be given (no -1).

    Args:
        mesh: What to write.
        material_library: File name for `mtllib`, or None.
        decimals: Digits after the point of the positions; texture coordinates and normals have six.
        comment: Lines for the head of the file, without the hash.

    Raises:
        ValueError: A coordinate is not finite.
    """
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    if material_library:
        head += f"mtllib {material_library}\n"
    parts = [head.encode("ascii"), decimal_lines("v", mesh.vertices, decimals)]
    if mesh.uv is not None:
        parts.append(decimal_lines("vt", mesh.uv, 6))
    if mesh.normals is not None:
        parts.append(decimal_lines("vn", mesh.normals, 6))
    parts.append(_faces(mesh))
    return b"".join(parts)


def write_obj(path: str | Path, mesh: ObjMesh, **options) -> None:
    """Write `mesh` to `path`, whole or not at all; options as for `format_obj`."""
    write_bytes(path, format_obj(mesh, **options))


def format_mtl(materials: tuple[ObjMaterial, ...]) -> bytes:
    """The bytes of an MTL file: matt materials, so that every program shows the texture and little else."""
    parts = []
    for material in materials:
        red, green, blue = material.diffuse
        parts.append(f"newmtl {material.name}\nKa 0 0 0\nKd {red:.6f} {green:.6f} {blue:.6f}\nKs 0 0 0\nillum 1\n")
        if material.texture:
            parts.append(f"map_Kd {material.texture}\n")
        parts.append("\n")
    return "".join(parts).encode("ascii")


def read_obj(path: str | Path) -> ObjMesh:
    """Read an OBJ file: vertex order untouched, seams not merged, polygons cut into fans.

    Raises:
        InputError: The file cannot be read, has no vertex or no face, or a face names a vertex that is not there.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().replace(b"\\\n", b" ").splitlines()
    except OSError as error:
        raise InputError(path, f"a file that cannot be read ({error.strerror})", "an OBJ mesh") from error
    tables: dict[bytes, list[bytes]] = {b"v": [], b"vt": [], b"vn": []}
    faces: list[bytes] = []
    face_materials: list[int] = []
    counts: list[tuple[int, int, int]] = []
    names: dict[str, int] = {}
    material = -1
    for line in lines:
        keyword, _, rest = line.strip().partition(b" ")
        if keyword in tables:
            tables[keyword].append(rest)
        elif keyword == b"f":
            faces.append(rest)
            face_materials.append(material)
            if b"-" in rest:
                counts.append((len(tables[b"v"]), len(tables[b"vt"]), len(tables[b"vn"])))
            else:
                counts.append((0, 0, 0))
        elif keyword == b"usemtl":
            material = names.setdefault(rest.strip().decode("utf-8", "replace"), len(names))
    try:
        return _assemble(tables, faces, np.array(face_materials, np.int64), tuple(names), counts)
    except (ValueError, IndexError) as error:
        raise InputError(path, f"an OBJ file that cannot be understood ({error})", "vertices and faces") from error


def _assemble(
    tables: dict[bytes, list[bytes]],
    faces: list[bytes],
    material_of: np.ndarray,
    names: tuple[str, ...],
    counts: list[tuple[int, int, int]],
) -> ObjMesh:
    vertices = _number_table(tables[b"v"], 3)
    if vertices is None or not faces:
        raise ValueError("no vertices" if vertices is None else "no faces")
    indices, owner = _uniform_corners(faces)
    if indices is None:
        indices, owner = _general_corners(faces, counts)
    uv, normals = _number_table(tables[b"vt"], 2), _number_table(tables[b"vn"], 3)
    for column, table in enumerate((vertices, uv, normals)):
        limit = 0 if table is None else len(table)
        if indices[..., column].max() >= limit or (column == 0 and indices[..., 0].min() < 0):
            raise ValueError("a face names an entry that is not there")
    has_uv = uv is not None and bool((indices[..., 1] >= 0).any())
    has_normals = normals is not None and bool((indices[..., 2] >= 0).any())
    return ObjMesh(
        vertices=vertices,
        triangles=np.ascontiguousarray(indices[..., 0]),
        uv=uv if has_uv else None,
        uv_triangles=np.ascontiguousarray(indices[..., 1]) if has_uv else None,
        normals=normals if has_normals else None,
        normal_triangles=np.ascontiguousarray(indices[..., 2]) if has_normals else None,
        materials=names,
        material_of=material_of[owner] if names else None,
    )


def _number_table(rows: list[bytes], columns: int) -> np.ndarray | None:
    """The first `columns` numbers of each row (a vertex may carry colours or w behind them)."""
    if not rows:
        return None
    flat = b" ".join(rows).split()
    if len(flat) % len(rows) == 0:
        width = len(flat) // len(rows)
        # An equal share per row is the rule; rows of mixed widths that happen to divide are caught by the recount.
        if width >= columns and len(rows[0].split()) == width and len(rows[-1].split()) == width:
            return np.ascontiguousarray(np.array(flat, dtype=np.float64).reshape(len(rows), width)[:, :columns])
    return np.array([[float(number) for number in row.split()[:columns]] for row in rows], np.float64)


def _uniform_corners(faces: list[bytes]) -> tuple[np.ndarray | None, np.ndarray]:
    """Fast path for plain triangles that all have the same form; None where the general path is needed."""
    first = faces[0].split()
    slashes = first[0].count(b"/")
    joined = b" ".join(faces)
    plain = len(first) == 3 and b"-" not in joined and joined.count(b"/") == 3 * slashes * len(faces)
    double = b"//" in first[0]
    if not plain or joined.count(b"//") != (3 * len(faces) if double else 0):
        return None, np.zeros(0, np.int64)
    numbers = joined.replace(b"//", b" ").replace(b"/", b" ").split()
    width = 2 if double else slashes + 1
    if len(numbers) != 3 * width * len(faces):
        return None, np.zeros(0, np.int64)
    table = np.array(numbers, dtype=np.int64).reshape(len(faces), 3, width) - 1
    indices = np.full((len(faces), 3, 3), -1, np.int64)
    columns = [0, 2] if double else list(range(width))
    indices[..., columns] = table
    return indices, np.arange(len(faces))


def _general_corners(faces: list[bytes], counts: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Any mixture of polygons, missing parts and negative (relative) indices."""
    triangles, owner = [], []
    for number, (face, defined) in enumerate(zip(faces, counts, strict=True)):
        corners = []
        for corner in face.split():
            parts = [int(part) if part else 0 for part in corner.split(b"/")]
            parts += [0] * (3 - len(parts))
            corners.append([p + total if p < 0 else p - 1 for p, total in zip(parts, defined, strict=True)])
        for step in range(1, len(corners) - 1):
            triangles.append([corners[0], corners[step], corners[step + 1]])
            owner.append(number)
    return np.array(triangles, np.int64).reshape(-1, 3, 3), np.array(owner, np.int64)

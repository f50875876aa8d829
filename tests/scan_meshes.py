"""Generated surfaces for the tests of scans, and writers for the file formats that do not share the readers' code."""

from __future__ import annotations

import numpy as np


def grid_triangles(rows: int, columns: int) -> np.ndarray:
    """Triangles [F, 3] of a grid of vertices numbered row by row, counter-clockwise for (row, column) = (y, x)."""
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]))
    return np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])


def face_height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height in mm of a smooth thing with a face's size and curvature: a cap with a nose and ripples."""
    nose = 22 * np.exp(-(x**2 / 260 + (y + 5) ** 2 / 500))
    return 90 - (x**2 + 0.7 * y**2) / 150 + nose + 1.5 * np.sin(x / 9) * np.cos(y / 11)


def face_sheet(edge: float = 3.0, half: float = 75.0, noise: float = 0.0, seed: int = 0):
    """Vertices [V, 3] mm and triangles of that surface, with irregular vertices; noise along the normal, mm."""
    random = np.random.default_rng(seed)
    ticks = np.arange(-half, half + edge / 2, edge)
    x, y = np.meshgrid(ticks, ticks)
    x, y = (values + random.uniform(-0.2, 0.2, x.shape) * edge for values in (x, y))
    step = 1e-4
    slope_x = (face_height(x + step, y) - face_height(x - step, y)) / (2 * step)
    slope_y = (face_height(x, y + step) - face_height(x, y - step)) / (2 * step)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(x)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    vertices = np.stack([x, y, face_height(x, y)], -1) + random.normal(0, 1, x.shape)[..., None] * noise * normal
    return vertices.reshape(-1, 3), grid_triangles(len(ticks), len(ticks))


def sphere(radius: float = 90.0, rows: int = 20, columns: int = 32, centre=(0.0, 0.0, 0.0)):
    """Vertices and outward triangles of a closed sphere."""
    polar = np.linspace(0, np.pi, rows)[1:-1, None]
    turn = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    ring = np.stack(np.broadcast_arrays(np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)), -1)
    vertices = np.concatenate([[[0, 0, 1.0]], ring.reshape(-1, 3), [[0, 0, -1.0]]])
    number = 1 + np.arange((rows - 2) * columns).reshape(rows - 2, columns)
    after = np.roll(number, -1, axis=1)
    top = np.stack([np.zeros(columns, int), number[0], after[0]], -1)
    bottom = np.stack([np.full(columns, len(vertices) - 1), after[-1], number[-1]], -1)
    upper = np.stack([number[:-1], number[1:], after[1:]], -1).reshape(-1, 3)
    lower = np.stack([number[:-1], after[1:], after[:-1]], -1).reshape(-1, 3)
    return vertices * radius + np.asarray(centre), np.concatenate([top, upper, lower, bottom])


def joined(*meshes):
    """Several meshes as one."""
    offsets = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    return (
        np.concatenate([vertices for vertices, _ in meshes]),
        np.concatenate([triangles + offset for (_, triangles), offset in zip(meshes, offsets, strict=False)]),
    )


def ply_bytes(vertices, triangles, text: bool = False, order: str = "<") -> bytes:
    """A PLY file, binary of either byte order or text, with colours, as scanners write it."""
    kind = "ascii" if text else {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    head = (
        f"ply\nformat {kind} 1.0\ncomment made by a test\nelement vertex {len(vertices)}\nproperty float x\n"
        "property float y\nproperty float z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()
    if text:
        lines = [f"{x:.6f} {y:.6f} {z:.6f} 200 150 120" for x, y, z in vertices]
        lines += [f"3 {a} {b} {c}" for a, b, c in triangles]
        return head + ("\n".join(lines) + "\n").encode()
    points = np.zeros(len(vertices), np.dtype([("p", f"{order}f4", 3), ("c", "u1", 3)]))
    points["p"] = vertices
    faces = np.zeros(len(triangles), np.dtype([("n", "u1"), ("i", f"{order}i4", 3)]))
    faces["n"], faces["i"] = 3, triangles
    return head + points.tobytes() + faces.tobytes()


def stl_bytes(vertices, triangles, text: bool = False) -> bytes:
    """An STL file: every triangle with corners of its own."""
    corners = np.asarray(vertices)[triangles]
    if text:
        lines = ["solid test"]
        for triangle in corners:
            lines += ["facet normal 0 0 0", "outer loop"]
            lines += [f"vertex {x:.6e} {y:.6e} {z:.6e}" for x, y, z in triangle]
            lines += ["endloop", "endfacet"]
        return ("\n".join([*lines, "endsolid test"]) + "\n").encode()
    rows = np.zeros(len(corners), np.dtype([("n", "<f4", 3), ("p", "<f4", (3, 3)), ("a", "<u2")]))
    rows["p"] = corners
    return b"solid in name only".ljust(80) + np.array(len(corners), "<u4").tobytes() + rows.tobytes()


def obj_bytes(vertices, triangles) -> bytes:
    """An OBJ file with texture coordinates of its own numbering."""
    lines = ["# test", "mtllib nowhere.mtl", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices), "vt 0 0"]
    return ("\n".join([*lines, *(f"f {a + 1}/1 {b + 1}/1 {c + 1}/1" for a, b, c in triangles)]) + "\n").encode()


def canonical(vertices, triangles) -> np.ndarray:
    """[F, 9] corners of each triangle, rotated and sorted: equal for equal oriented surfaces, whatever the order."""
    corners = np.round(np.asarray(vertices, np.float64), 3)[triangles]
    first = np.lexsort(corners.transpose(2, 0, 1)[::-1], axis=1)[:, 0]
    turned = np.take_along_axis(corners, ((first[:, None] + np.arange(3)) % 3)[..., None], axis=1)
    rows = turned.reshape(len(corners), 9) + 0.0
    return rows[np.lexsort(rows.T[::-1])]

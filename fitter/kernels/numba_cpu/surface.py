"""Vertex normals and the basis product on the CPU, forward and backward."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .raster import JIT


@njit(parallel=True, **JIT)
def face_cross(vertices, triangles, cross):
    """Cross products [F, 3] of two triangle edges: normals of twice the area's length."""
    for face in prange(triangles.shape[0]):
        a, b, c = triangles[face, 0], triangles[face, 1], triangles[face, 2]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        cross[face, 0] = uy * vz - uz * vy
        cross[face, 1] = uz * vx - ux * vz
        cross[face, 2] = ux * vy - uy * vx


@njit(parallel=True, **JIT)
def gather_normals(cross, corner_offsets, corners, normals, lengths):
    """Unit sums [V, 3] of the faces around each vertex and their lengths [V]; zero where there is no area."""
    for vertex in prange(normals.shape[0]):
        x, y, z = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for entry in range(corner_offsets[vertex], corner_offsets[vertex + 1]):
            face = corners[entry] // 3
            x += cross[face, 0]
            y += cross[face, 1]
            z += cross[face, 2]
        length = np.sqrt(x * x + y * y + z * z)
        lengths[vertex] = length
        inverse = np.float32(1.0) / length if length > np.float32(0.0) else np.float32(0.0)
        normals[vertex, 0] = x * inverse
        normals[vertex, 1] = y * inverse
        normals[vertex, 2] = z * inverse


@njit(parallel=True, **JIT)
def normals_backward(vertices, triangles, corner_offsets, corners, normals, lengths, grad_out, grad_sum, grad_vertices):
    """Gradient [V, 3] of the unit normals with respect to the vertices; grad_sum [V, 3] is scratch."""
    for vertex in prange(normals.shape[0]):
        length = lengths[vertex]
        inverse = np.float32(1.0) / length if length > np.float32(0.0) else np.float32(0.0)
        along = (
            grad_out[vertex, 0] * normals[vertex, 0]
            + grad_out[vertex, 1] * normals[vertex, 1]
            + grad_out[vertex, 2] * normals[vertex, 2]
        )
        for k in range(3):
            grad_sum[vertex, k] = (grad_out[vertex, k] - along * normals[vertex, k]) * inverse
    for vertex in prange(normals.shape[0]):
        x, y, z = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for entry in range(corner_offsets[vertex], corner_offsets[vertex + 1]):
            face, corner = corners[entry] // 3, corners[entry] % 3
            following, last = triangles[face, (corner + 1) % 3], triangles[face, (corner + 2) % 3]
            gx = grad_sum[vertex, 0] + grad_sum[following, 0] + grad_sum[last, 0]
            gy = grad_sum[vertex, 1] + grad_sum[following, 1] + grad_sum[last, 1]
            gz = grad_sum[vertex, 2] + grad_sum[following, 2] + grad_sum[last, 2]
            ex = vertices[following, 0] - vertices[last, 0]
            ey = vertices[following, 1] - vertices[last, 1]
            ez = vertices[following, 2] - vertices[last, 2]
            x += ey * gz - ez * gy
            y += ez * gx - ex * gz
            z += ex * gy - ey * gx
        grad_vertices[vertex, 0] = x
        grad_vertices[vertex, 1] = y
        grad_vertices[vertex, 2] = z


# Re-association lets the compiler use vector registers for the sum, which is the whole point of this kernel.
@njit(parallel=True, fastmath={"reassoc", "contract", "nsz"}, **JIT)
def basis_product(basis, coefficients, out):
    """out [N] = basis [N, K] @ coefficients [K]."""
    for row in prange(basis.shape[0]):
        total = np.float32(0.0)
        for k in range(basis.shape[1]):
            total += basis[row, k] * coefficients[k]
        out[row] = total


@njit(parallel=True, fastmath={"contract", "nsz"}, **JIT)
def basis_product_backward(basis, grad_out, partial):
    """partial [T, K (padded to whole cache lines)] = the threads' shares of basis^T @ grad_out."""
    n_parts = partial.shape[0]
    n_rows, n_columns = basis.shape
    for part in prange(n_parts):
        total = np.zeros(n_columns, np.float32)
        for row in range(part * n_rows // n_parts, (part + 1) * n_rows // n_parts):
            g = grad_out[row]
            for k in range(n_columns):
                total[k] += basis[row, k] * g
        for k in range(n_columns):
            partial[part, k] = total[k]

"""Warp kernels: closest points of a mesh, and where rays meet it."""

from __future__ import annotations

import warp as wp


@wp.kernel
def closest_points(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    reach: float,
    triangles: wp.array(dtype=int),
    weights: wp.array(dtype=wp.vec3),
):
    """Triangle and barycentric weights of the closest point within `reach`; -1 where there is none."""
    i = wp.tid()
    query = wp.mesh_query_point_no_sign(mesh, points[i], reach)
    if query.result:
        triangles[i] = query.face
        weights[i] = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)
    else:
        triangles[i] = -1


@wp.kernel
def cast_rays(
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    reach: float,
    triangles: wp.array(dtype=int),
    weights: wp.array(dtype=wp.vec3),
    lengths: wp.array(dtype=float),
):
    """First triangle that a ray meets within `reach`, with weights and length; -1 where there is none."""
    i = wp.tid()
    query = wp.mesh_query_ray(mesh, origins[i], directions[i], reach)
    if query.result:
        triangles[i] = query.face
        weights[i] = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)
        lengths[i] = query.t
    else:
        triangles[i] = -1

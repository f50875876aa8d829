"""Warp kernels: rasterization and vertex normals, one source for CUDA and for Warp's host compiler.

A thread per triangle takes an atomic minimum of (depth, triangle number), packed into 64 bits; triangles that cover
much of the image go to a second launch that deals their rows out to many threads. The same fixed-point edge functions
as on the CPU (`fitter.kernels.numba_cpu.raster`), so the same pixels.
"""

# In a Warp kernel, int() and float() make variables of constants.
# ruff: noqa: UP018, RUF046

import warp as wp

wp.set_module_options({"enable_backward": False})

SUBPIXEL = wp.constant(256.0)
LIMIT = wp.constant(1048576.0)
LARGE_PIXELS = wp.constant(wp.int64(1024))  # box size from which rows are dealt out
STRIPS = wp.constant(64)
EMPTY = wp.constant(wp.uint64(0xFFFFFFFFFFFFFFFF))


@wp.func
def snap(ndc: float, extent: float) -> wp.int64:
    position = wp.clamp((ndc * 0.5 + 0.5) * extent, -LIMIT, LIMIT)
    return wp.int64(wp.floor(position * SUBPIXEL + 0.5))


@wp.func
def floor_pixel(value: wp.int64) -> wp.int64:
    return value >> wp.int64(8)


@wp.func
def pack(depth: float, triangle: int) -> wp.uint64:
    """Order-preserving key: depth bits above, triangle number below."""
    bits = wp.cast(depth, wp.uint32)
    sign = wp.uint32(1) << wp.uint32(31)
    if (bits & sign) == sign:
        bits = ~bits
    else:
        bits = bits | sign
    return (wp.uint64(bits) << wp.uint64(32)) | wp.uint64(triangle)


@wp.func
def inclusive(dx: wp.int64, dy: wp.int64) -> wp.int64:
    """Tie rule: 0 if a pixel centre on this edge is inside, 1 if not."""
    zero = wp.int64(0)
    if dy < zero or (dy == zero and dx > zero):
        return zero
    return wp.int64(1)


@wp.func
def fill(
    p: wp.vec4,
    q: wp.vec4,
    r: wp.vec4,
    triangle: int,
    view: int,
    height: int,
    width: int,
    strip: int,
    n_strips: int,
    keys: wp.array3d(dtype=wp.uint64),
) -> bool:
    """Z-test one triangle in front of the near plane; returns False if it is large and n_strips is 1 (nothing done)."""
    if p[3] <= 0.0 or q[3] <= 0.0 or r[3] <= 0.0:
        return True
    w, h = float(width), float(height)
    inverse_p, inverse_q, inverse_r = 1.0 / p[3], 1.0 / q[3], 1.0 / r[3]
    xa, ya = snap(p[0] * inverse_p, w), snap(p[1] * inverse_p, h)
    xb, yb = snap(q[0] * inverse_q, w), snap(q[1] * inverse_q, h)
    xc, yc = snap(r[0] * inverse_r, w), snap(r[1] * inverse_r, h)
    za = wp.float64(p[2] * inverse_p)
    zb = wp.float64(q[2] * inverse_q)
    zc = wp.float64(r[2] * inverse_r)
    zero, half, low_half = wp.int64(0), wp.int64(128), wp.int64(127)
    column_first = wp.max(floor_pixel(wp.min(xa, wp.min(xb, xc)) + low_half), zero)
    column_last = wp.min(floor_pixel(wp.max(xa, wp.max(xb, xc)) - half), wp.int64(width - 1))
    row_first = wp.max(floor_pixel(wp.min(ya, wp.min(yb, yc)) + low_half), zero)
    row_last = wp.min(floor_pixel(wp.max(ya, wp.max(yb, yc)) - half), wp.int64(height - 1))
    if column_first > column_last or row_first > row_last:
        return True
    n_pixels = (column_last - column_first + wp.int64(1)) * (row_last - row_first + wp.int64(1))
    if n_strips == 1 and n_pixels > LARGE_PIXELS:
        return False
    area = (xb - xa) * (yc - ya) - (yb - ya) * (xc - xa)
    if area == zero:
        return True
    if area < zero:
        x_swap, y_swap, z_swap = xb, yb, zb
        xb, yb, zb = xc, yc, zc
        xc, yc, zc = x_swap, y_swap, z_swap
        area = -area
    dxa, dya = xc - xb, yc - yb
    dxb, dyb = xa - xc, ya - yc
    dxc, dyc = xb - xa, yb - ya
    tie_a, tie_b, tie_c = inclusive(dxa, dya), inclusive(dxb, dyb), inclusive(dxc, dyc)
    scale = wp.float64(1.0) / wp.float64(area)
    step = wp.int64(256)
    row = row_first + wp.int64(strip)
    while row <= row_last:
        py = row * step + half
        px = column_first * step + half
        ea = dxa * (py - yb) - dya * (px - xb)
        eb = dxb * (py - yc) - dyb * (px - xc)
        ec = dxc * (py - ya) - dyc * (px - xa)
        column = column_first
        while column <= column_last:
            if ea >= tie_a and eb >= tie_b and ec >= tie_c:
                z = float((wp.float64(ea) * za + wp.float64(eb) * zb + wp.float64(ec) * zc) * scale)
                if z < 1.0:
                    wp.atomic_min(keys, view, int(row), int(column), pack(z, triangle))
            ea -= dya * step
            eb -= dyb * step
            ec -= dyc * step
            column += wp.int64(1)
        row += wp.int64(n_strips)
    return True


@wp.func
def cut(inner: wp.vec4, outer: wp.vec4) -> wp.vec4:
    """Where an edge meets the near plane, from its inner end."""
    d_inner, d_outer = inner[2] + inner[3], outer[2] + outer[3]
    return inner + (d_inner / (d_inner - d_outer)) * (outer - inner)


@wp.func
def clip_and_fill(
    p: wp.vec4,
    q: wp.vec4,
    r: wp.vec4,
    triangle: int,
    view: int,
    height: int,
    width: int,
    strip: int,
    n_strips: int,
    keys: wp.array3d(dtype=wp.uint64),
) -> bool:
    """Clip to z >= -w, then fill; returns False if a piece was left to the second launch."""
    in_p, in_q, in_r = p[2] >= -p[3], q[2] >= -q[3], r[2] >= -r[3]
    count = int(0)
    if in_p:
        count += 1
    if in_q:
        count += 1
    if in_r:
        count += 1
    if count == 0:
        return True
    if count == 3:
        return fill(p, q, r, triangle, view, height, width, strip, n_strips, keys)
    # Turn the triangle so that its odd corner comes first.
    a, b, c = p, q, r
    odd = count == 1
    if in_q == odd and in_p != odd:
        a, b, c = q, r, p
    elif in_r == odd and in_p != odd:
        a, b, c = r, p, q
    if count == 1:
        return fill(a, cut(a, b), cut(a, c), triangle, view, height, width, strip, n_strips, keys)
    ab, ca = cut(b, a), cut(c, a)
    first = fill(ab, b, c, triangle, view, height, width, strip, n_strips, keys)
    second = fill(ab, c, ca, triangle, view, height, width, strip, n_strips, keys)
    return first and second


@wp.kernel
def fill_triangles(
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    height: int,
    width: int,
    keys: wp.array3d(dtype=wp.uint64),
    large: wp.array(dtype=wp.int32),
    n_large: wp.array(dtype=wp.int32),
):
    view, triangle = wp.tid()
    corners = triangles[triangle]
    p, q, r = clip[view, corners[0]], clip[view, corners[1]], clip[view, corners[2]]
    if not clip_and_fill(p, q, r, triangle, view, height, width, 0, 1, keys):
        slot = wp.atomic_add(n_large, 0, 1)
        large[slot] = view * triangles.shape[0] + triangle


@wp.kernel
def fill_large_triangles(
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    height: int,
    width: int,
    keys: wp.array3d(dtype=wp.uint64),
    large: wp.array(dtype=wp.int32),
    n_large: wp.array(dtype=wp.int32),
    n_threads: int,
):
    work = wp.tid()
    total = n_large[0] * STRIPS
    while work < total:
        entry = large[work // STRIPS]
        view = entry // triangles.shape[0]
        triangle = entry - view * triangles.shape[0]
        corners = triangles[triangle]
        p = clip[view, corners[0]]
        q = clip[view, corners[1]]
        r = clip[view, corners[2]]
        clip_and_fill(p, q, r, triangle, view, height, width, work % STRIPS, STRIPS, keys)
        work += n_threads


@wp.func
def offset_from_pixel(vertex: wp.vec4, px: float, py: float) -> wp.vec2:
    return wp.vec2(vertex[0] - px * vertex[3], vertex[1] - py * vertex[3])


@wp.func
def cross2(a: wp.vec2, b: wp.vec2) -> float:
    return a[0] * b[1] - a[1] * b[0]


@wp.kernel
def resolve(
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    keys: wp.array3d(dtype=wp.uint64),
    ids: wp.array3d(dtype=wp.int32),
    barycentric: wp.array3d(dtype=wp.vec2),
    depth: wp.array3d(dtype=float),
):
    view, row, column = wp.tid()
    key = keys[view, row, column]
    if key == EMPTY:
        ids[view, row, column] = -1
        barycentric[view, row, column] = wp.vec2(0.0, 0.0)
        depth[view, row, column] = 1.0
        return
    triangle = int(wp.uint32(key & wp.uint64(0xFFFFFFFF)))
    corners = triangles[triangle]
    a, b, c = clip[view, corners[0]], clip[view, corners[1]], clip[view, corners[2]]
    px = (float(column) + 0.5) * (2.0 / float(keys.shape[2])) - 1.0
    py = (float(row) + 0.5) * (2.0 / float(keys.shape[1])) - 1.0
    qa, qb, qc = offset_from_pixel(a, px, py), offset_from_pixel(b, px, py), offset_from_pixel(c, px, py)
    weights = wp.vec3(cross2(qb, qc), cross2(qc, qa), cross2(qa, qb))
    total = weights[0] + weights[1] + weights[2]
    if total == 0.0:
        weights = wp.vec3(1.0, 1.0, 1.0)
        total = float(3.0)
    weights = weights / total
    # Snapping can put the centre a little outside the exact triangle.
    weights = wp.vec3(wp.max(weights[0], 0.0), wp.max(weights[1], 0.0), wp.max(weights[2], 0.0))
    weights = weights / (weights[0] + weights[1] + weights[2])
    z = weights[0] * a[2] + weights[1] * b[2] + weights[2] * c[2]
    w = weights[0] * a[3] + weights[1] * b[3] + weights[2] * c[3]
    ids[view, row, column] = triangle
    barycentric[view, row, column] = wp.vec2(weights[0], weights[1])
    depth[view, row, column] = z / w


@wp.func
def add_corner(grad_clip: wp.array3d(dtype=float), view: int, vertex: int, gx: float, gy: float, px: float, py: float):
    wp.atomic_add(grad_clip, view, vertex, 0, gx)
    wp.atomic_add(grad_clip, view, vertex, 1, gy)
    wp.atomic_add(grad_clip, view, vertex, 3, -(px * gx + py * gy))


@wp.kernel
def resolve_backward(
    clip: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    ids: wp.array3d(dtype=wp.int32),
    grad_barycentric: wp.array3d(dtype=wp.vec2),
    grad_clip: wp.array3d(dtype=float),
):
    view, row, column = wp.tid()
    triangle = ids[view, row, column]
    grad = grad_barycentric[view, row, column]
    if triangle < 0 or (grad[0] == 0.0 and grad[1] == 0.0):
        return
    corners = triangles[triangle]
    px = (float(column) + 0.5) * (2.0 / float(ids.shape[2])) - 1.0
    py = (float(row) + 0.5) * (2.0 / float(ids.shape[1])) - 1.0
    a = offset_from_pixel(clip[view, corners[0]], px, py)
    b = offset_from_pixel(clip[view, corners[1]], px, py)
    c = offset_from_pixel(clip[view, corners[2]], px, py)
    wa, wb, wc = cross2(b, c), cross2(c, a), cross2(a, b)
    total = wa + wb + wc
    if total == 0.0:
        return
    mean = (grad[0] * wa + grad[1] * wb) / total
    ga, gb, gc = (grad[0] - mean) / total, (grad[1] - mean) / total, -mean / total
    add_corner(grad_clip, view, corners[0], gc * b[1] - gb * c[1], gb * c[0] - gc * b[0], px, py)
    add_corner(grad_clip, view, corners[1], ga * c[1] - gc * a[1], gc * a[0] - ga * c[0], px, py)
    add_corner(grad_clip, view, corners[2], gb * a[1] - ga * b[1], ga * b[0] - gb * a[0], px, py)


@wp.kernel
def gather_normals(
    vertices: wp.array2d(dtype=wp.vec3),
    triangles: wp.array(dtype=wp.vec3i),
    offsets: wp.array(dtype=wp.int32),
    corners: wp.array(dtype=wp.int32),
    normals: wp.array2d(dtype=wp.vec3),
    lengths: wp.array2d(dtype=float),
):
    view, vertex = wp.tid()
    total = wp.vec3(0.0, 0.0, 0.0)
    for entry in range(offsets[vertex], offsets[vertex + 1]):
        face = triangles[corners[entry] // 3]
        a = vertices[view, face[0]]
        total += wp.cross(vertices[view, face[1]] - a, vertices[view, face[2]] - a)
    length = wp.length(total)
    lengths[view, vertex] = length
    if length > 0.0:
        total = total / length
    normals[view, vertex] = total


@wp.kernel
def project_normal_gradient(
    normals: wp.array2d(dtype=wp.vec3),
    lengths: wp.array2d(dtype=float),
    grad_out: wp.array2d(dtype=wp.vec3),
    grad_sum: wp.array2d(dtype=wp.vec3),
):
    view, vertex = wp.tid()
    normal, grad, length = normals[view, vertex], grad_out[view, vertex], lengths[view, vertex]
    total = wp.vec3(0.0, 0.0, 0.0)
    if length > 0.0:
        total = (grad - wp.dot(grad, normal) * normal) / length
    grad_sum[view, vertex] = total


@wp.kernel
def gather_normal_gradient(
    vertices: wp.array2d(dtype=wp.vec3),
    triangles: wp.array(dtype=wp.vec3i),
    offsets: wp.array(dtype=wp.int32),
    corners: wp.array(dtype=wp.int32),
    grad_sum: wp.array2d(dtype=wp.vec3),
    grad_vertices: wp.array2d(dtype=wp.vec3),
):
    view, vertex = wp.tid()
    total = wp.vec3(0.0, 0.0, 0.0)
    for entry in range(offsets[vertex], offsets[vertex + 1]):
        number = corners[entry]
        face = triangles[number // 3]
        corner = number % 3
        following, last = face[(corner + 1) % 3], face[(corner + 2) % 3]
        grad = grad_sum[view, vertex] + grad_sum[view, following] + grad_sum[view, last]
        total += wp.cross(vertices[view, following] - vertices[view, last], grad)
    grad_vertices[view, vertex] = total

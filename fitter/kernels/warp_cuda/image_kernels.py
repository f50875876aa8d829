"""Warp kernels: attribute interpolation, texture sampling and silhouette antialiasing, a thread per pixel.

The antialiasing walk is that of `fitter.kernels.numba_cpu.antialias`; gradients are added with float atomics, so their
last digits depend on the order of execution.
"""

# In a Warp kernel, int() and float() make variables of constants.
# ruff: noqa: UP018, RUF046

import warp as wp

wp.set_module_options({"enable_backward": False})

MAX_STEPS = wp.constant(64)


@wp.kernel
def interpolate(
    attributes: wp.array3d(dtype=float),
    triangles: wp.array(dtype=wp.vec3i),
    ids: wp.array3d(dtype=wp.int32),
    barycentric: wp.array3d(dtype=wp.vec2),
    out: wp.array4d(dtype=float),
):
    view, row, column = wp.tid()
    triangle = ids[view, row, column]
    if triangle < 0:
        for k in range(attributes.shape[2]):
            out[view, row, column, k] = 0.0
        return
    source = wp.min(view, attributes.shape[0] - 1)
    corners, weight = triangles[triangle], barycentric[view, row, column]
    last = 1.0 - weight[0] - weight[1]
    for k in range(attributes.shape[2]):
        out[view, row, column, k] = (
            weight[0] * attributes[source, corners[0], k]
            + weight[1] * attributes[source, corners[1], k]
            + last * attributes[source, corners[2], k]
        )


@wp.kernel
def interpolate_backward(
    attributes: wp.array3d(dtype=float),
    triangles: wp.array(dtype=wp.vec3i),
    ids: wp.array3d(dtype=wp.int32),
    barycentric: wp.array3d(dtype=wp.vec2),
    grad_out: wp.array4d(dtype=float),
    want_attributes: int,
    grad_attributes: wp.array3d(dtype=float),
    grad_barycentric: wp.array3d(dtype=wp.vec2),
):
    view, row, column = wp.tid()
    triangle = ids[view, row, column]
    ga, gb = float(0.0), float(0.0)
    if triangle >= 0:
        source = wp.min(view, attributes.shape[0] - 1)
        corners, weight = triangles[triangle], barycentric[view, row, column]
        last = 1.0 - weight[0] - weight[1]
        for k in range(attributes.shape[2]):
            g = grad_out[view, row, column, k]
            base = attributes[source, corners[2], k]
            ga += g * (attributes[source, corners[0], k] - base)
            gb += g * (attributes[source, corners[1], k] - base)
            if want_attributes != 0:
                wp.atomic_add(grad_attributes, source, corners[0], k, weight[0] * g)
                wp.atomic_add(grad_attributes, source, corners[1], k, weight[1] * g)
                wp.atomic_add(grad_attributes, source, corners[2], k, last * g)
    grad_barycentric[view, row, column] = wp.vec2(ga, gb)


@wp.func
def tap(coordinate: float, extent: int) -> wp.vec2:
    """Clamped texel position (x) and 1 if it was free, 0 if clamped (y)."""
    position = coordinate * float(extent) - 0.5
    if not position > 0.0:
        return wp.vec2(0.0, 0.0)
    if position >= float(extent - 1):
        return wp.vec2(float(extent - 1), 0.0)
    return wp.vec2(position, 1.0)


@wp.func
def pixel_level(levels: wp.array3d(dtype=float), view: int, row: int, column: int, n_levels: int) -> float:
    """Fractional mip level; a missing level map means level 0."""
    if levels.shape[1] == 0:
        return 0.0
    return wp.clamp(levels[view, row, column], 0.0, float(n_levels - 1))


@wp.func
def hidden(ids: wp.array3d(dtype=wp.int32), view: int, row: int, column: int) -> bool:
    """True in the background; without ids nothing is."""
    if ids.shape[1] == 0:
        return False
    return ids[view, row, column] < 0


@wp.kernel
def sample(
    pyramid: wp.array3d(dtype=float),
    shapes: wp.array(dtype=wp.vec3i),
    uv: wp.array3d(dtype=wp.vec2),
    levels: wp.array3d(dtype=float),
    ids: wp.array3d(dtype=wp.int32),
    out: wp.array4d(dtype=float),
):
    view, row, column = wp.tid()
    for k in range(pyramid.shape[2]):
        out[view, row, column, k] = 0.0
    if hidden(ids, view, row, column):
        return
    source = wp.min(view, pyramid.shape[0] - 1)
    level = pixel_level(levels, view, row, column, shapes.shape[0])
    low = int(level)
    blend = level - float(low)
    at = uv[view, row, column]
    for side in range(2):
        weight = blend
        if side == 0:
            weight = 1.0 - blend
        if weight > 0.0:
            shape = shapes[wp.min(low + side, shapes.shape[0] - 1)]
            tx, ty = tap(at[0], shape[2]), tap(at[1], shape[1])
            x0, y0 = int(tx[0]), int(ty[0])
            fx, fy = tx[0] - float(x0), ty[0] - float(y0)
            x1, y1 = wp.min(x0 + 1, shape[2] - 1), wp.min(y0 + 1, shape[1] - 1)
            below, above = shape[0] + y0 * shape[2], shape[0] + y1 * shape[2]
            for k in range(pyramid.shape[2]):
                bottom = (1.0 - fx) * pyramid[source, below + x0, k] + fx * pyramid[source, below + x1, k]
                top = (1.0 - fx) * pyramid[source, above + x0, k] + fx * pyramid[source, above + x1, k]
                out[view, row, column, k] = out[view, row, column, k] + weight * ((1.0 - fy) * bottom + fy * top)


@wp.kernel
def sample_backward(
    pyramid: wp.array3d(dtype=float),
    shapes: wp.array(dtype=wp.vec3i),
    uv: wp.array3d(dtype=wp.vec2),
    levels: wp.array3d(dtype=float),
    ids: wp.array3d(dtype=wp.int32),
    grad_out: wp.array4d(dtype=float),
    want_texture: int,
    grad_pyramid: wp.array3d(dtype=float),
    grad_uv: wp.array3d(dtype=wp.vec2),
):
    view, row, column = wp.tid()
    gu, gv = float(0.0), float(0.0)
    if not hidden(ids, view, row, column):
        source = wp.min(view, pyramid.shape[0] - 1)
        level = pixel_level(levels, view, row, column, shapes.shape[0])
        low = int(level)
        blend = level - float(low)
        at = uv[view, row, column]
        for side in range(2):
            weight = blend
            if side == 0:
                weight = 1.0 - blend
            if weight > 0.0:
                shape = shapes[wp.min(low + side, shapes.shape[0] - 1)]
                tx, ty = tap(at[0], shape[2]), tap(at[1], shape[1])
                x0, y0 = int(tx[0]), int(ty[0])
                fx, fy = tx[0] - float(x0), ty[0] - float(y0)
                x1, y1 = wp.min(x0 + 1, shape[2] - 1), wp.min(y0 + 1, shape[1] - 1)
                below, above = shape[0] + y0 * shape[2], shape[0] + y1 * shape[2]
                for k in range(pyramid.shape[2]):
                    g = weight * grad_out[view, row, column, k]
                    t00 = float(pyramid[source, below + x0, k])
                    t01 = float(pyramid[source, below + x1, k])
                    t10 = float(pyramid[source, above + x0, k])
                    t11 = float(pyramid[source, above + x1, k])
                    across = (1.0 - fy) * (t01 - t00) + fy * (t11 - t10)
                    up = (1.0 - fx) * (t10 - t00) + fx * (t11 - t01)
                    gu += g * across * float(shape[2]) * tx[1]
                    gv += g * up * float(shape[1]) * ty[1]
                    if want_texture != 0:
                        wp.atomic_add(grad_pyramid, source, below + x0, k, g * (1.0 - fx) * (1.0 - fy))
                        wp.atomic_add(grad_pyramid, source, below + x1, k, g * fx * (1.0 - fy))
                        wp.atomic_add(grad_pyramid, source, above + x0, k, g * (1.0 - fx) * fy)
                        wp.atomic_add(grad_pyramid, source, above + x1, k, g * fx * fy)
    grad_uv[view, row, column] = wp.vec2(gu, gv)


@wp.kernel
def screen_positions(clip: wp.array2d(dtype=wp.vec4), height: int, width: int, screen: wp.array2d(dtype=wp.vec2)):
    view, vertex = wp.tid()
    p = clip[view, vertex]
    if p[2] < -p[3] or p[3] <= 0.0:
        screen[view, vertex] = wp.vec2(wp.nan, wp.nan)
    else:
        inverse = 1.0 / p[3]
        half_x, half_y = 0.5 * float(width), 0.5 * float(height)
        screen[view, vertex] = wp.vec2(p[0] * inverse * half_x + half_x, p[1] * inverse * half_y + half_y)


@wp.func
def signed_area(a: wp.vec2, b: wp.vec2, c: wp.vec2) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@wp.func
def crossing_on(p: wp.vec2, q: wp.vec2, across: float, axis: int) -> float:
    """Coordinate along `axis` where the edge p-q meets the line at `across` on the other axis."""
    other = 1 - axis
    return p[axis] + (across - p[other]) / (q[other] - p[other]) * (q[axis] - p[axis])


@wp.func
def walk(
    screen: wp.array2d(dtype=wp.vec2),
    triangles: wp.array(dtype=wp.vec3i),
    neighbours: wp.array(dtype=wp.vec3i),
    view: int,
    start: int,
    stop: int,
    centre: wp.vec2,
    axis: int,
    direction: float,
) -> int:
    """Silhouette edge between two pixel centres: 3 * triangle + edge, or -1 if there is none."""
    other = 1 - axis
    across, along = centre[other], centre[axis]
    triangle = int(start)
    came_from = int(-1)
    for _step in range(MAX_STEPS):
        corners = triangles[triangle]
        around = neighbours[triangle]
        facing = signed_area(screen[view, corners[0]], screen[view, corners[1]], screen[view, corners[2]])
        if wp.isnan(facing):
            return -1
        exit_edge = int(-1)
        reach = float(-1.0e30)
        for edge in range(3):
            p = screen[view, corners[edge]]
            q = screen[view, corners[(edge + 1) % 3]]
            if (p[other] <= across) != (q[other] <= across):
                if came_from < 0 or around[edge] != came_from:
                    crossing = (crossing_on(p, q, across, axis) - along) * direction
                    if crossing > reach:
                        exit_edge = edge
                        reach = crossing
        if exit_edge < 0 or reach > 1.0:
            return -1
        following = around[exit_edge]
        silhouette = bool(following < 0)
        if following >= 0:
            ahead = triangles[following]
            turned = signed_area(screen[view, ahead[0]], screen[view, ahead[1]], screen[view, ahead[2]])
            if wp.isnan(turned):
                return -1
            silhouette = (turned > 0.0) != (facing > 0.0)
        if silhouette:
            span = screen[view, corners[(exit_edge + 1) % 3]] - screen[view, corners[exit_edge]]
            steep, flat = wp.abs(span[other]), wp.abs(span[axis])
            if steep < flat or (steep == flat and axis == 1):
                return -1
            return 3 * triangle + exit_edge
        if following == stop:
            return -1
        came_from = triangle
        triangle = following
    return -1


@wp.kernel
def antialias(
    colour: wp.array4d(dtype=float),
    screen: wp.array2d(dtype=wp.vec2),
    triangles: wp.array(dtype=wp.vec3i),
    neighbours: wp.array(dtype=wp.vec3i),
    ids: wp.array3d(dtype=wp.int32),
    depth: wp.array3d(dtype=float),
    records: wp.array4d(dtype=wp.vec3i),
    distances: wp.array4d(dtype=float),
    out: wp.array4d(dtype=float),
):
    """Blend one pixel with its right (axis 0) or lower (axis 1) neighbour; keeps (i, j, forward) for the backward."""
    view, row, column, axis = wp.tid()
    records[view, row, column, axis] = wp.vec3i(-1, -1, 0)
    next_row, next_column = row + axis, column + 1 - axis
    if next_row >= ids.shape[1] or next_column >= ids.shape[2]:
        return
    here, there = ids[view, row, column], ids[view, next_row, next_column]
    if here == there:
        return
    forward = bool(there < 0)
    if here >= 0 and depth[view, row, column] <= depth[view, next_row, next_column]:
        forward = True
    start, stop, direction = int(there), int(here), float(-1.0)
    near_row, near_column, far_row, far_column = int(next_row), int(next_column), int(row), int(column)
    if forward:
        start, stop, direction = int(here), int(there), float(1.0)
        near_row, near_column, far_row, far_column = int(row), int(column), int(next_row), int(next_column)
    centre = wp.vec2(float(near_column) + 0.5, float(near_row) + 0.5)
    found = walk(screen, triangles, neighbours, view, start, stop, centre, axis, direction)
    if found < 0:
        return
    corners, edge = triangles[found // 3], found % 3
    i, j = corners[edge], corners[(edge + 1) % 3]
    distance = (crossing_on(screen[view, i], screen[view, j], centre[1 - axis], axis) - centre[axis]) * direction
    distance = wp.max(distance, 0.0)
    records[view, row, column, axis] = wp.vec3i(i, j, wp.where(forward, 1, 0))
    distances[view, row, column, axis] = distance
    alpha = distance - 0.5
    target_row, target_column = int(near_row), int(near_column)
    if alpha > 0.0:
        target_row, target_column = far_row, far_column
    for k in range(colour.shape[3]):
        step = alpha * (colour[view, near_row, near_column, k] - colour[view, far_row, far_column, k])
        wp.atomic_add(out, view, target_row, target_column, k, step)


@wp.kernel
def antialias_backward(
    colour: wp.array4d(dtype=float),
    clip: wp.array2d(dtype=wp.vec4),
    records: wp.array4d(dtype=wp.vec3i),
    distances: wp.array4d(dtype=float),
    grad_out: wp.array4d(dtype=float),
    grad_colour: wp.array4d(dtype=float),
    grad_clip: wp.array3d(dtype=float),
):
    view, row, column, axis = wp.tid()
    record = records[view, row, column, axis]
    if record[0] < 0:
        return
    near_row, near_column, far_row, far_column = int(row), int(column), int(row + axis), int(column + 1 - axis)
    direction = float(1.0)
    if record[2] == 0:
        near_row, near_column, far_row, far_column = int(row + axis), int(column + 1 - axis), int(row), int(column)
        direction = float(-1.0)
    alpha = distances[view, row, column, axis] - 0.5
    target_row, target_column = int(near_row), int(near_column)
    if alpha > 0.0:
        target_row, target_column = far_row, far_column
    grad = float(0.0)
    for k in range(colour.shape[3]):
        g = grad_out[view, target_row, target_column, k]
        grad += g * (colour[view, near_row, near_column, k] - colour[view, far_row, far_column, k])
        wp.atomic_add(grad_colour, view, near_row, near_column, k, alpha * g)
        wp.atomic_add(grad_colour, view, far_row, far_column, k, -alpha * g)
    if grad == 0.0:
        return
    other = 1 - axis
    size_along, size_across, pixel = float(colour.shape[2]), float(colour.shape[1]), int(near_row)
    if axis == 1:
        size_along, size_across, pixel = float(colour.shape[1]), float(colour.shape[2]), int(near_column)
    across = (float(pixel) + 0.5) * (2.0 / size_across) - 1.0
    p, q = clip[view, record[0]], clip[view, record[1]]
    along_p, across_p, along_q, across_q = p[axis] / p[3], p[other] / p[3], q[axis] / q[3], q[other] / q[3]
    slope = (along_q - along_p) / (across_q - across_p)
    share_q = (across - across_p) / (across_q - across_p)
    grad = grad * direction * 0.5 * size_along
    gp, gq = grad * (1.0 - share_q) / p[3], grad * share_q / q[3]
    wp.atomic_add(grad_clip, view, record[0], axis, gp)
    wp.atomic_add(grad_clip, view, record[0], other, -gp * slope)
    wp.atomic_add(grad_clip, view, record[0], 3, -gp * (along_p - slope * across_p))
    wp.atomic_add(grad_clip, view, record[1], axis, gq)
    wp.atomic_add(grad_clip, view, record[1], other, -gq * slope)
    wp.atomic_add(grad_clip, view, record[1], 3, -gq * (along_q - slope * across_q))

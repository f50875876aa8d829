"""The face mask for the contour energy where none is given: the model's outline, refined by colour.

This is no matting or parsing network, and it knows nothing of what skin is. It starts from where the fitted model
projects and moves that outline, within a narrow band, to where the colours change: one closed path is sought (dynamic
programming) along which the colours on the two sides differ most, which is smooth and near the model's outline, and
which leaves colours like those well inside of the face on its inner side. Where nothing changes (the chin in front of
the neck, a background of the colour of skin, a start that is farther off than the band) the path stays about where the
model put it, and the confidence says so: a row and side without a colour edge is not to be pulled at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.measure import find_contours

COLOUR_NOISE = 2.0
"""CIELAB units added to every colour's spread: below it a difference is noise or shading."""

EDGE_RANGE = (5.0, 14.0)
"""Colour steps, CIELAB units: no edge below the first, a certain edge from the second on. Within a cheek or a beard the
steps of neighbouring patches are mostly below 5; against hair, cloth or background they exceed 12."""


@dataclass(frozen=True)
class FaceMask:
    """A face mask and how far its outline can be trusted."""

    mask: np.ndarray
    """[H, W] float32 in [0, 1]; the outline is its 0.5 level."""
    left_confidence: np.ndarray
    """[H] float32 in [0, 1]: whether there is a real edge at the left end of the row; 0 in rows without face."""
    right_confidence: np.ndarray
    """[H] float32 in [0, 1]."""


def landmark_outline(points: np.ndarray, *, forehead: float = 0.6) -> np.ndarray:
    """A rough outline of the face from iBUG-68 landmarks, for want of a fitted model.

    Args:
        points: [68, 2] px.
        forehead: How far the brows are raised, as a fraction of half the distance from chin to brows.

    Returns:
        [N, 2] px polygon.
    """
    up = points[19:25].mean(0) - points[8]
    brows = points[26:16:-1] + 0.5 * forehead * up * np.sin(np.linspace(0.15, np.pi - 0.15, 10))[:, None]
    return np.concatenate([points[:17], brows])


def polygon_mask(outline: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels [H, W] bool whose centres lie in a polygon [N, 2], px, (0.5, 0.5) the centre of the top-left one."""
    return _coverage(outline, size, lines=1) > 0.5


def segment_face(
    image: np.ndarray, model_mask: np.ndarray, *, band: float = 0.06, colours: int = 4, seed: int = 0
) -> FaceMask:
    """Refine the projected outline of the face by the photograph's colours.

    Args:
        image: [H, W, 3] sRGB-encoded, [0, 1].
        model_mask: [H, W] bool, where the fitted model's face projects (or the inside of `landmark_outline`).
        band: Half the width of the band in which the outline may move, as a fraction of the root of the mask's area.
        colours: Components of each colour model.
        seed: Of the colour models' initialisation.

    Returns:
        The mask and its confidence. A mask that is empty, full or too small to have a band comes back as it is, without
        confidence.
    """
    model_mask = model_mask.astype(bool)
    left, right = np.zeros((2, image.shape[0]), np.float32)
    reach = max(4.0, band * float(np.sqrt(model_mask.sum())))
    if model_mask.sum() < (4.0 * reach) ** 2 or model_mask.all():
        return FaceMask(model_mask.astype(np.float32), left, right)
    rows, columns = _window(model_mask, int(np.ceil(4 * reach)))
    lab = rgb2lab(np.clip(image[rows, columns], 0.0, 1.0)).astype(np.float64)
    inside = model_mask[rows, columns]
    outline, normals = _outline(inside, reach)
    evidence = _region_evidence(lab, _signed_distance(inside), reach, colours, np.random.default_rng(seed))
    offset, strength = _best_path(lab, evidence, outline, normals, reach)
    moved = outline + offset[:, None] * normals
    mask = np.zeros(model_mask.shape, np.float32)
    mask[rows, columns] = _coverage(moved, inside.shape)
    # At the end of the band the search ended, which is no edge; fades over the last fifth.
    strength = strength * np.clip((1.0 - np.abs(offset) / reach) / 0.2, 0.0, 1.0)
    left[rows], right[rows] = _row_confidence(mask[rows, columns], moved, strength)
    return FaceMask(mask, left, right)


def _window(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The mask's bounding box with a margin: nothing outside of it matters, and photographs are large."""
    return tuple(
        slice(max(0, int(found[0]) - margin), int(found[-1]) + 1 + margin)
        for found in (np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0)))
    )


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance to the outline, px, positive inside; 0 lies between the pixels on either side."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    inner, outer = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    return np.where(mask, inner - 0.5, 0.5 - outer)


def _outline(mask: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """The mask's longest outline as points [N, 2] (x, y) px about 1 px apart, and outward unit normals [N, 2]."""
    soft = ndimage.gaussian_filter(np.pad(mask.astype(np.float64), 1), 1.0)
    path = max(find_contours(soft, 0.5), key=len)[:, ::-1] - 0.5  # undo the padding, centres to +0.5
    if np.linalg.norm(path[0] - path[-1]) < 1e-9:
        path = path[:-1]
    closed = np.concatenate([path, path[:1]])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    at = np.arange(0.0, length[-1] - 0.5, 1.0)
    points = np.stack([np.interp(at, length, closed[:, axis]) for axis in range(2)], -1)
    # Normals of a smoothed path, so that neighbouring ones do not cross within the band.
    smooth = ndimage.gaussian_filter1d(points, 0.5 * reach, axis=0, mode="wrap")
    tangent = np.roll(smooth, -1, 0) - np.roll(smooth, 1, 0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
    normals = np.stack([tangent[:, 1], -tangent[:, 0]], -1)
    following = np.roll(points, -1, 0)
    area = np.sum(points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1])
    return points, normals if area > 0 else -normals


def _region_evidence(
    lab: np.ndarray, distance: np.ndarray, reach: float, colours: int, random: np.random.Generator
) -> np.ndarray:
    """Log ratio [H, W] of each band pixel's colour inside to outside of the face, in [-3, 3]; 0 beyond the band."""
    in_band = np.abs(distance) <= reach
    # Colours are learnt in rings beside the band: the cheek tells more about the outline than the nose does.
    inner = (distance > reach) & (distance < 4.0 * reach)
    outer = (distance < -reach) & (distance > -3.0 * reach)
    evidence = np.zeros_like(distance)
    if inner.sum() >= 50 and outer.sum() >= 50:
        ratio = _log_likelihood(lab[in_band], lab[inner], colours, random)
        ratio -= _log_likelihood(lab[in_band], lab[outer], colours, random)
        evidence[in_band] = np.clip(ratio, -3.0, 3.0)
    return evidence


def _best_path(
    lab: np.ndarray, evidence: np.ndarray, outline: np.ndarray, normals: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Offset [N] px of the outline along its normals, and the strength [N] in [0, 1] of the colour edge there."""
    step = 0.5
    count = int(np.ceil(reach / step))
    pad = int(5 / step)
    offsets = step * np.arange(-count - pad, count + pad + 1)
    at = outline[:, None] + offsets[:, None] * normals[:, None]
    coordinates = np.stack([at[..., 1], at[..., 0]]) - 0.5

    def profile(plane: np.ndarray) -> np.ndarray:
        sampled = ndimage.map_coordinates(plane, coordinates, order=1, mode="nearest")
        # Averaged along the outline: an edge is longer than it is wide, noise and hairs are not.
        return ndimage.gaussian_filter1d(sampled, 2.0, axis=0, mode="wrap")

    colour = np.stack([profile(lab[..., channel]) for channel in range(3)], -1)
    # Mean colours from 1 to 4 px on either side of each offset.
    width = int(3 / step) + 1
    means = ndimage.uniform_filter1d(colour, width, axis=1, mode="nearest")
    shift = round(2.5 / step)
    inner, outer = means[:, pad - shift : -pad - shift], means[:, pad + shift : means.shape[1] - pad + shift]
    contrast = np.linalg.norm(inner - outer, axis=-1)
    strength = np.clip((contrast - EDGE_RANGE[0]) / np.ptp(EDGE_RANGE), 0.0, 1.0)
    # A strong edge saturates over several pixels; relative to the peak nearby it says where it is.
    peaked = (contrast / np.maximum(ndimage.maximum_filter1d(contrast, int(8 / step) + 1, axis=1), 1e-6)) ** 2
    votes = profile(evidence)[:, pad:-pad] / (3.0 * strength.shape[1])
    region = 2.0 * np.cumsum(votes, 1) - votes - votes.sum(1, keepdims=True)
    offsets = offsets[pad:-pad]
    path = _closed_path(strength * peaked + 0.5 * region - 0.4 * (offsets / reach) ** 2, 0.15)
    chosen = np.arange(len(path)), path
    # The path runs on the grid of offsets; its steps are no property of the outline.
    return ndimage.gaussian_filter1d(offsets[path], 2.0, mode="wrap"), strength[chosen]


def _closed_path(score: np.ndarray, bend: float) -> np.ndarray:
    """Column of each row of [N, M] scores that maximises their sum less `bend` per change of column, at most 1 each.

    Closed by running around twice and keeping the middle: its ends have then forgotten where the search began.
    """
    count = len(score)
    path = _best_columns(np.ascontiguousarray(score), bend)
    half = count // 2
    return np.roll(path[half : half + count], half)


@njit(cache=True, nogil=True)
def _best_columns(score, bend):
    """Columns of the best path that runs around twice, [2 N]."""
    count, width = score.shape
    origin = np.zeros((2 * count, width), np.int8)
    total, before = score[0].copy(), np.empty(width)
    for row in range(1, 2 * count):
        before[:] = total
        for column in range(width):
            best, move = before[column], 0
            if column > 0 and before[column - 1] - bend > best:
                best, move = before[column - 1] - bend, -1
            if column < width - 1 and before[column + 1] - bend > best:
                best, move = before[column + 1] - bend, 1
            total[column] = best + score[row % count, column]
            origin[row, column] = move
    path = np.empty(2 * count, np.int64)
    path[-1] = total.argmax()
    for row in range(2 * count - 1, 0, -1):
        path[row - 1] = path[row] + origin[row, path[row]]
    return path


def _log_likelihood(
    colours_at: np.ndarray, samples: np.ndarray, colours: int, random: np.random.Generator
) -> np.ndarray:
    """Log density [N] of the colours [N, 3] under a Gaussian mixture learnt from samples [M, 3]."""
    if len(samples) > 3000:
        samples = samples[random.choice(len(samples), 3000, replace=False)]
    # Around their middle, so that the polynomials below lose no digits.
    middle = samples.mean(0)
    mixture = _fit_mixture(samples - middle, colours, random)
    density = _monomials(colours_at - middle) @ _log_density(*mixture)
    peak = density.max(1)
    return peak + np.log(np.exp(density - peak[:, None]).sum(1))


def _fit_mixture(
    samples: np.ndarray, colours: int, random: np.random.Generator, steps: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussian mixture by expectation–maximisation: means [K, 3], covariances [K, 3, 3], shares [K]."""
    floor = np.eye(3) * COLOUR_NOISE**2
    means = samples[random.choice(len(samples), 1)]
    for _ in range(colours - 1):
        # k-means++: far colours first, so that a small patch of its own colour gets a component.
        nearest = ((samples[:, None] - means) ** 2).sum(-1).min(1) + 1e-9
        means = np.concatenate([means, samples[random.choice(len(samples), 1, p=nearest / nearest.sum())]])
    covariances = np.repeat((np.cov(samples.T) / colours + floor)[None], colours, 0)
    shares = np.full(colours, 1.0 / colours)
    # One product gives every component's density, and one all of their moments.
    monomials = _monomials(samples)
    for _ in range(steps):
        density = monomials @ _log_density(means, covariances, shares)
        density = np.exp(density - density.max(1, keepdims=True))
        moments = (density / density.sum(1, keepdims=True)).T @ monomials
        total = moments[:, 0] + 1e-3
        shares = total / total.sum()
        means = (moments[:, 1:4] + 1e-3 * means) / total[:, None]
        # Of offsets from the new means; the thousandth of a sample that the old mean counts has none.
        squares = moments[:, 4:][:, SQUARES]
        sums = moments[:, 1:4, None] * means[:, None]
        centred = squares - sums - sums.transpose(0, 2, 1) + moments[:, 0, None, None] * _outer(means)
        covariances = centred / total[:, None, None] + floor
    return means, covariances, shares


SQUARES = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
"""Which of the six monomials of second degree belongs to each pair of axes."""


def _monomials(samples: np.ndarray) -> np.ndarray:
    """[N, 10] of [N, 3]: 1, the axes, and their six products."""
    x, y, z = samples.T
    return np.stack([np.ones_like(x), x, y, z, x * x, x * y, x * z, y * y, y * z, z * z], -1)


def _outer(vectors: np.ndarray) -> np.ndarray:
    """[K, 3, 3] of [K, 3]."""
    return vectors[:, :, None] * vectors[:, None]


def _log_density(means: np.ndarray, covariances: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """[10, K]: log of share times density of each component, as a polynomial of `_monomials`."""
    precision = np.linalg.inv(covariances)
    linear = np.einsum("kij,kj->ki", precision, means)
    constant = np.log(shares) - 0.5 * (
        np.einsum("ki,ki->k", linear, means) + np.linalg.slogdet(covariances)[1] + 3.0 * np.log(2.0 * np.pi)
    )
    # A product of two different axes stands in the sum twice.
    second = np.stack([-(0.5 if i == j else 1.0) * precision[:, i, j] for i in range(3) for j in range(i, 3)], -1)
    return np.concatenate([constant[:, None], linear, second], 1).T


def _coverage(outline: np.ndarray, size: tuple[int, int], lines: int = 4) -> np.ndarray:
    """Share [H, W] of each pixel that lies inside of a polygon [N, 2]: exact along each of `lines` lines per row."""
    start, end = outline, np.roll(outline, -1, 0)
    # Every edge crosses the lines between its two heights; each crossing switches the inside on or off to its right.
    heights = np.stack([start[:, 1], end[:, 1]]) * lines - 0.5
    first, last = np.ceil(heights.min(0)).astype(int), np.ceil(heights.max(0)).astype(int)
    edge = np.repeat(np.arange(len(outline)), last - first)
    line = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - (last - first), last - first) + first[edge]
    along = (line - heights[0, edge]) / (heights[1, edge] - heights[0, edge])
    x = np.clip(start[edge, 0] + along * (end[edge, 0] - start[edge, 0]), 0.0, size[1])
    sign = np.where(end[edge, 1] > start[edge, 1], 1.0, -1.0)
    seen = (line >= 0) & (line < size[0] * lines)
    line, x, sign = line[seen], x[seen], sign[seen]
    pixel = np.minimum(x.astype(int), size[1] - 1)
    change = np.zeros((size[0] * lines, size[1] + 1))
    np.add.at(change, (line, pixel), sign * (pixel + 1 - x))
    np.add.at(change, (line, pixel + 1), sign * (x - pixel))
    covered = np.minimum(np.abs(np.cumsum(change, 1)[:, :-1]), 1.0)
    return covered.reshape(size[0], lines, size[1]).mean(1).astype(np.float32)


def _row_confidence(mask: np.ndarray, outline: np.ndarray, strength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence [H] of the left and the right end of each row: that of the outline's points which lie there."""
    height, width = mask.shape
    inside = mask > 0.5
    some = inside.any(1)
    ends = (inside.argmax(1) + 0.0, width - inside[:, ::-1].argmax(1) + 0.0)
    row = np.clip(outline[:, 1].astype(int), 0, height - 1)
    result = []
    for end in ends:
        here = np.abs(outline[:, 0] - end[row]) < 2.0
        total = np.bincount(row[here], strength[here], height)
        number = np.bincount(row[here], minlength=height)
        confidence = np.where(some & (number > 0), total / np.maximum(number, 1), 0.0)
        # One row's luck is no edge: the median over neighbours, and never more than the row itself says.
        steady = np.minimum(confidence, ndimage.median_filter(confidence, 7, mode="nearest"))
        result.append(steady.astype(np.float32))
    return result[0], result[1]

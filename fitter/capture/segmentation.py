"""The face mask for the contour energy where none is given: the model's outline, refined by colour.

This is no matting or parsing network, and it knows nothing of what skin is. It starts from where the fitted model
projects, learns the colours well inside and well outside of that outline from the photograph itself, and moves the
outline within a narrow band to where the colours change. Where they do not (the chin in front of the neck, a background
of the colour of skin, a start that is farther off than the band) the outline stays about where the model put it, and
the confidence says so: a row and side without a colour edge is not to be pulled at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.draw import polygon2mask

LIGHTNESS_NOISE = 2.0
"""CIELAB units added to every colour's spread: below it a difference is noise or shading."""


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
    return polygon2mask(size, outline[:, ::-1] - 0.5)


def segment_face(
    image: np.ndarray,
    model_mask: np.ndarray,
    *,
    band: float = 0.06,
    colours: int = 4,
    iterations: int = 3,
    seed: int = 0,
) -> FaceMask:
    """Refine the projected outline of the face by the photograph's colours.

    Args:
        image: [H, W, 3] sRGB-encoded, [0, 1].
        model_mask: [H, W] bool, where the fitted model's face projects (or the inside of `landmark_outline`).
        band: Half the width of the band in which the outline may move, as a fraction of the root of the mask's area.
        colours: Components of each colour model.
        iterations: Rounds of posterior, smoothing along image edges, and relearning of the colours.
        seed: Of the colour models' initialisation.

    Returns:
        The mask and its confidence. An empty mask comes back as it is, with no confidence.
    """
    model_mask = model_mask.astype(bool)
    empty = np.zeros(image.shape[0], np.float32)
    if not model_mask.any():
        return FaceMask(model_mask.astype(np.float32), empty, empty.copy())
    reach = max(3.0, band * float(np.sqrt(model_mask.sum())))
    rows, columns = _window(model_mask, int(np.ceil(4 * reach)))
    inside = model_mask[rows, columns]
    lab = rgb2lab(np.clip(image[rows, columns], 0.0, 1.0)).astype(np.float64)
    distance = _signed_distance(inside)
    posterior = _refine(lab, distance, reach, colours, iterations, np.random.default_rng(seed))
    mask = np.zeros(model_mask.shape, np.float32)
    mask[rows, columns] = _largest_part(posterior)
    left, right = empty, empty.copy()
    left[rows], right[rows] = _edge_confidence(lab, mask[rows, columns], distance, reach)
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


def _refine(
    lab: np.ndarray, distance: np.ndarray, reach: float, colours: int, iterations: int, random: np.random.Generator
) -> np.ndarray:
    """Posterior [H, W] of being face."""
    # The prior keeps the model's outline where colour is silent; at the ends of the band it decides alone.
    prior = np.clip(4.0 * distance / reach, -8.0, 8.0)
    inside_only, outside_only = distance > reach, distance < -reach
    # Colours are learnt in rings beside the band: the cheek tells more about the outline than the nose does.
    near_inside = inside_only & (distance < 4.0 * reach)
    near_outside = outside_only & (distance > -3.0 * reach)
    if near_inside.sum() < 50 or near_outside.sum() < 50:
        return 1.0 / (1.0 + np.exp(-prior))
    in_band = ~(inside_only | outside_only)
    inner, outer = near_inside, near_outside
    radius = max(2, round(0.25 * reach))
    logit = np.zeros_like(distance)
    posterior = inside_only.astype(np.float64)
    for _ in range(iterations):
        face, other = lab[inner], lab[outer]
        ratio = _log_likelihood(lab[in_band], face, colours, random)
        ratio -= _log_likelihood(lab[in_band], other, colours, random)
        # A single pixel is weak evidence: its likelihoods count at most a little more than the prior at the band's end.
        logit[:] = 0.5 * prior + np.where(distance > 0, 6.0, -6.0)
        logit[in_band] = 0.5 * prior[in_band] + np.clip(ratio, -6.0, 6.0)
        smooth = _guided_smoothing(_discriminant(lab, face, other), logit, radius, 0.5)
        posterior = 1.0 / (1.0 + np.exp(-np.clip(smooth, -30.0, 30.0)))
        posterior = np.where(inside_only, 1.0, np.where(outside_only, 0.0, posterior))
        # Pixels of the band that are sure by now teach their colours as well.
        inner = near_inside | (in_band & (posterior > 0.95))
        outer = near_outside | (in_band & (posterior < 0.05))
    return posterior


def _discriminant(lab: np.ndarray, face: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Fisher's linear discriminant [H, W] of the two sets of colours [N, 3], spread 1 within a set: a guide image."""
    within = 0.5 * (np.cov(face.T) + np.cov(other.T)) + np.eye(3) * LIGHTNESS_NOISE**2
    axis = np.linalg.solve(within, face.mean(0) - other.mean(0))
    return (lab - face.mean(0)) @ (axis / max(float(np.sqrt(axis @ within @ axis)), 1e-6))


def _log_likelihood(
    colours_at: np.ndarray, samples: np.ndarray, colours: int, random: np.random.Generator
) -> np.ndarray:
    """Log density [N] of the colours [N, 3] under a Gaussian mixture learnt from samples [M, 3]."""
    if len(samples) > 3000:
        samples = samples[random.choice(len(samples), 3000, replace=False)]
    density = _component_log_density(colours_at, *_fit_mixture(samples, colours, random))
    peak = density.max(1)
    return peak + np.log(np.exp(density - peak[:, None]).sum(1))


def _fit_mixture(
    samples: np.ndarray, colours: int, random: np.random.Generator, steps: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussian mixture by expectation–maximisation: means [K, 3], covariances [K, 3, 3], shares [K]."""
    floor = np.eye(3) * LIGHTNESS_NOISE**2
    means = samples[random.choice(len(samples), 1)]
    for _ in range(colours - 1):
        # k-means++: far colours first, so that a small patch of its own colour gets a component.
        nearest = ((samples[:, None] - means) ** 2).sum(-1).min(1) + 1e-9
        means = np.concatenate([means, samples[random.choice(len(samples), 1, p=nearest / nearest.sum())]])
    covariances = np.repeat((np.cov(samples.T) / colours + floor)[None], colours, 0)
    shares = np.full(colours, 1.0 / colours)
    for _ in range(steps):
        density = _component_log_density(samples, means, covariances, shares)
        density = np.exp(density - density.max(1, keepdims=True))
        member = density / density.sum(1, keepdims=True)
        total = member.sum(0) + 1e-3
        shares = total / total.sum()
        means = (member.T @ samples + 1e-3 * means) / total[:, None]
        offset = samples[:, None] - means
        covariances = np.einsum("nk,nki,nkj->kij", member, offset, offset) / total[:, None, None] + floor
    return means, covariances, shares


def _component_log_density(
    samples: np.ndarray, means: np.ndarray, covariances: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """Log of share times density, [N, K]."""
    # Whitened one component after the other: much faster than one product over [N, K, 3].
    result = np.empty((len(samples), len(means)))
    for number, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        factor = np.linalg.cholesky(np.linalg.inv(covariance))
        squared = (((samples - mean) @ factor) ** 2).sum(1)
        constant = np.linalg.slogdet(covariance)[1] + 3.0 * np.log(2.0 * np.pi)
        result[:, number] = np.log(shares[number]) - 0.5 * (squared + constant)
    return result


def _guided_smoothing(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Guided filter (He et al. 2010) of [H, W] values along the edges of a grey guide [H, W]."""

    def mean(item: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(item, 2 * radius + 1, mode="nearest")

    guide_mean, values_mean = mean(guide), mean(values)
    slope = (mean(guide * values) - guide_mean * values_mean) / (mean(guide**2) - guide_mean**2 + epsilon)
    return mean(slope) * guide + mean(values_mean - slope * guide_mean)


def _largest_part(posterior: np.ndarray) -> np.ndarray:
    """The posterior with everything but its largest connected part (and with its holes) decided."""
    labels, count = ndimage.label(posterior > 0.5)
    if count == 0:
        return posterior.astype(np.float32)
    face = labels == 1 + np.argmax(ndimage.sum_labels(np.ones_like(labels), labels, np.arange(1, count + 1)))
    foreign = (labels > 0) & ~face
    holes = ndimage.binary_fill_holes(face) & ~face
    return np.where(foreign, 0.0, np.where(holes, 1.0, posterior)).astype(np.float32)


def _edge_confidence(
    lab: np.ndarray, mask: np.ndarray, distance: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Confidence [H] of the left and the right end of each row's face.

    Compares the colours just inside and just outside of the edge, along the row and averaged over a few rows: their
    distance in units of their own spread and of noise. An edge at the end of the band is where the search ended, and
    no edge at all.
    """
    height, width = mask.shape
    inside = mask > 0.5
    some = inside.any(1)
    ends = np.stack([inside.argmax(1), width - 1 - inside[:, ::-1].argmax(1)])
    smooth = ndimage.gaussian_filter1d(lab, 1.5, axis=0)
    span = np.arange(2, max(6, round(0.6 * reach)))
    confidence = np.zeros((2, height), np.float32)
    for side, direction in enumerate((-1, 1)):
        rows = np.flatnonzero(some)
        at = ends[side, rows]
        outer = at[:, None] + direction * span
        inner = at[:, None] - direction * span
        usable = (outer.min(1) >= 0) & (outer.max(1) < width) & (inner.min(1) >= 0) & (inner.max(1) < width)
        rows, outer, inner = rows[usable], outer[usable], inner[usable]
        first, second = smooth[rows[:, None], inner], smooth[rows[:, None], outer]
        spread = np.sqrt(0.5 * (first.var(1).sum(-1) + second.var(1).sum(-1)) + (2.0 * LIGHTNESS_NOISE) ** 2)
        step = np.linalg.norm(first.mean(1) - second.mean(1), axis=-1)
        strength = np.clip((step / spread - 0.75) / 1.5, 0.0, 1.0)
        # Shading is a slope: it changes little right at the edge, and more the farther one looks. A step does not.
        near = np.linalg.norm(first[:, :3].mean(1) - second[:, :3].mean(1), axis=-1)
        strength *= np.clip((near / np.maximum(step, 1e-6) - 0.45) / 0.3, 0.0, 1.0)
        # Fades over the last fifth of the band.
        free = np.clip((1.0 - np.abs(distance[rows, ends[side, rows]]) / reach) / 0.2, 0.0, 1.0)
        confidence[side, rows] = strength * free
        confidence[side] *= some
    # One row's luck is no edge: the median over neighbours, then never more than the row itself says.
    steady = np.minimum(confidence, ndimage.median_filter(confidence, size=(1, 7), mode="nearest"))
    return steady[0], steady[1]

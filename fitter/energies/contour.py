"""The contour-aware energy of HRN (Lei et al. 2023, eq. 1–2): the model's outline against the edges of a face mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LOWER_PART = 100.0 / 224.0
"""HRN's δ = 100 px of its 224 px crops, as a fraction of the image's height: rows below take part."""


@dataclass(frozen=True)
class RowEdges:
    """Where each image row enters and leaves the face."""

    left: Tensor
    """[..., H] px, x of the left edge."""
    right: Tensor
    """[..., H] px, x of the right edge."""
    left_weight: Tensor
    """[..., H] in [0, 1], how much to trust the left edge; 0 where the row has no face."""
    right_weight: Tensor
    """[..., H] in [0, 1]."""


def mask_row_edges(
    mask: Tensor, left_confidence: Tensor | None = None, right_confidence: Tensor | None = None
) -> RowEdges:
    """Left and right end of the longest run of face pixels in every row.

    Only the longest run counts, so specks and a hand beside the face do no harm. A soft mask gives the edge at its 0.5
    level between pixel centres; of a binary mask it is the pixel's border. A run that touches the image's border has no
    edge on that side: its weight is 0. Not differentiable.

    Args:
        mask: [..., H, W] face mask in [0, 1].
        left_confidence: [..., H] in [0, 1], multiplied into the weights, or None for 1.
        right_confidence: Likewise.

    Returns:
        The edges, px; (0.5, 0.5) is the centre of the top-left pixel.
    """
    width = mask.shape[-1]
    inside = mask > 0.5
    before = torch.nn.functional.pad(inside, (1, 0))[..., :-1]
    run = (inside & ~before).cumsum(-1) * inside
    lengths = torch.zeros((*mask.shape[:-1], width + 1), dtype=mask.dtype, device=mask.device)
    lengths.scatter_add_(-1, run, inside.to(mask.dtype))
    longest = lengths[..., 1:].argmax(-1, keepdim=True) + 1
    member = (run == longest).to(torch.int8)
    first = member.argmax(-1, keepdim=True)
    last = width - 1 - member.flip(-1).argmax(-1, keepdim=True)
    exists = member.any(-1)

    def level(outer: Tensor, inner: Tensor) -> Tensor:
        """Fraction of the way from the outer to the inner pixel centre where the mask passes 0.5."""
        low, high = mask.gather(-1, outer.clamp(0, width - 1)), mask.gather(-1, inner)
        return ((0.5 - low) / (high - low).clamp_min(1e-6)).clamp(0.0, 1.0)

    left = torch.where(first > 0, first - 0.5 + level(first - 1, first), torch.zeros_like(mask[..., :1]))
    right = torch.where(
        last < width - 1, last + 1.5 - level(last + 1, last), torch.full_like(mask[..., :1], float(width))
    )
    left_weight = (exists & (first > 0)[..., 0]).to(mask.dtype)
    right_weight = (exists & (last < width - 1)[..., 0]).to(mask.dtype)
    if left_confidence is not None:
        left_weight = left_weight * left_confidence
    if right_confidence is not None:
        right_weight = right_weight * right_confidence
    return RowEdges(left[..., 0], right[..., 0], left_weight, right_weight)


def contour_energy(
    points: Tensor,
    edges: RowEdges,
    size: tuple[int, int],
    *,
    margin: float = 0.01,
    lower_part: float = LOWER_PART,
    vertex_weights: Tensor | None = None,
) -> Tensor:
    """Pull the outline of the projected vertices to the edges of the mask (HRN eq. 1–2).

    With l and r the horizontal vectors from a point p' to the two edges of its row,
    f = |relu(l·r / max(|l|, |r|) + λ) - λ|. As l and r point apart inside the face and the same way outside, the
    fraction is minus the distance to the nearer edge inside, plus that distance outside. Hence f is

    * λ, without gradient, deeper inside than λ,
    * the distance to the nearer edge within λ of it and everywhere outside,

    so vertices in the margin and outside are drawn to the edge, and the rest of the face is left alone. Distances are
    divided by the image's width: λ = 0.01 is 2.24 px of HRN's 224. The sum runs over the rows below `lower_part` and
    is divided by the number of *all* points, as eq. 1 does. Points in rows without face contribute nothing.

    The row of a point is not differentiated (l and r are horizontal), only its x.

    Args:
        points: [..., N, 2] projected vertices, px; only those that the mask is meant to cover (the face, not the neck).
        edges: Edges of each row, [..., H]; the weight of the nearer edge multiplies a point's term.
        size: (height, width) of the image, px.
        margin: λ, as a fraction of the image's width.
        lower_part: δ, as a fraction of the image's height.
        vertex_weights: [..., N] weight of each point, or None for 1.

    Returns:
        Scalar, in image widths.
    """
    height, width = size
    row = (points[..., 1].detach() - 0.5).nan_to_num(-1.0)
    in_image = (row >= -0.5) & (row <= height - 0.5) & (points[..., 1].detach() > lower_part * height)
    left, left_weight = _at_rows(edges.left, edges.left_weight, row)
    right, right_weight = _at_rows(edges.right, edges.right_weight, row)
    to_left = (left - points[..., 0]) / width
    to_right = (right - points[..., 0]) / width
    far = torch.maximum(to_left.abs(), to_right.abs()).clamp_min(1e-9)
    term = (torch.relu(to_left * to_right / far + margin) - margin).abs()
    nearer_is_left = to_left.abs() < to_right.abs()
    weight = torch.where(nearer_is_left, left_weight, right_weight) * in_image
    if vertex_weights is not None:
        weight = weight * vertex_weights
    # A masked-out point may be NaN (behind the camera): select, do not multiply.
    term = torch.where(weight > 0, term * weight, torch.zeros_like(term))
    return term.mean()


def _at_rows(edge: Tensor, weight: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Edge and its weight at fractional rows: linear between two rows with an edge, the nearer one beside a gap."""
    last = edge.shape[-1] - 1
    row = row.clamp(0.0, float(last))
    lower = row.floor().long().clamp(0, last)
    upper = (lower + 1).clamp(max=last)
    fraction = row - lower
    edge, weight = (item.to(row.dtype).expand(*row.shape[:-1], item.shape[-1]) for item in (edge, weight))
    low_weight, high_weight = weight.gather(-1, lower), weight.gather(-1, upper)
    nearest = torch.where(fraction < 0.5, lower, upper)
    both = (low_weight > 0) & (high_weight > 0)
    blended = torch.lerp(edge.gather(-1, lower), edge.gather(-1, upper), fraction)
    return (
        torch.where(both, blended, edge.gather(-1, nearest)),
        torch.where(both, torch.lerp(low_weight, high_weight, fraction), weight.gather(-1, nearest)),
    )

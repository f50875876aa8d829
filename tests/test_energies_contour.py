"""The contour-aware energy: hand-computed numbers of eq. 1–2 and the row edges of masks."""

import pytest
import torch

from fitter.energies.contour import RowEdges, contour_energy, mask_row_edges

SIZE = (100, 200)
MARGIN = 0.01 * 200  # λ in px


def _edges(left: float = 40.0, right: float = 160.0) -> RowEdges:
    ones = torch.ones(SIZE[0], dtype=torch.float64)
    return RowEdges(left * ones, right * ones, ones, ones)


def _single(x: float, y: float = 80.5, **settings) -> tuple[float, torch.Tensor]:
    point = torch.tensor([[x, y]], dtype=torch.float64, requires_grad=True)
    energy = contour_energy(point, _edges(), SIZE, **settings)
    energy.backward()
    return float(energy.detach()), point.grad[0]


def test_deep_inside_counts_lambda_without_gradient():
    for x in (43.0, 100.0, 157.5):
        energy, gradient = _single(x)
        assert energy == pytest.approx(0.01) and gradient.tolist() == [0.0, 0.0]


def test_within_the_margin_and_outside_it_is_the_distance_to_the_edge():
    # 1 px inside of the left edge: min(|l|, |r|) = 1/200 < λ.
    energy, gradient = _single(41.0)
    assert energy == pytest.approx(1.0 / 200) and gradient.tolist() == pytest.approx([1 / 200, 0.0])
    # 8 px left of the left edge.
    energy, gradient = _single(32.0)
    assert energy == pytest.approx(8.0 / 200) and gradient.tolist() == pytest.approx([-1 / 200, 0.0])
    # 30 px right of the right edge.
    energy, gradient = _single(190.0)
    assert energy == pytest.approx(30.0 / 200) and gradient.tolist() == pytest.approx([1 / 200, 0.0])


def test_descent_brings_outliers_to_the_edge_and_leaves_the_inside():
    points = torch.tensor([[25.0, 70.0], [41.5, 70.0], [90.0, 70.0], [175.0, 70.0]], requires_grad=True)
    optimiser = torch.optim.SGD([points], lr=20.0)
    for _ in range(900):
        optimiser.zero_grad()
        contour_energy(points, _edges(), SIZE).backward()
        optimiser.step()
    assert points.detach()[:, 0].tolist() == pytest.approx([40.0, 40.0, 90.0, 160.0], abs=0.2)


def test_upper_part_and_missing_rows_contribute_nothing():
    assert _single(10.0, y=44.0)[0] == 0.0  # δ = 100/224 of 100 px
    assert _single(10.0, y=46.0)[0] > 0.0
    assert _single(10.0, y=150.0)[0] == 0.0
    assert _single(float("nan"), y=float("nan"))[0] == 0.0
    edges = _edges()
    edges.left_weight[80] = 0.0
    point = torch.tensor([[10.0, 80.5]], dtype=torch.float64)
    assert float(contour_energy(point, edges, SIZE)) == 0.0


def test_sum_is_divided_by_all_points_and_weighted():
    points = torch.tensor([[32.0, 80.5], [32.0, 10.0]], dtype=torch.float64)
    assert float(contour_energy(points, _edges(), SIZE)) == pytest.approx(0.5 * 8 / 200)
    weights = torch.tensor([0.5, 1.0], dtype=torch.float64)
    assert float(contour_energy(points, _edges(), SIZE, vertex_weights=weights)) == pytest.approx(0.25 * 8 / 200)


def test_edges_are_interpolated_between_rows():
    edges = _edges()
    edges.left[:] = torch.arange(100, dtype=torch.float64)
    point = torch.tensor([[60.0, 80.75]], dtype=torch.float64)  # a quarter of the way from row 80 to row 81
    assert float(contour_energy(point, edges, SIZE)) == pytest.approx((80.25 - 60.0) / 200)


def test_gradcheck_for_a_batch_of_views():
    points = torch.tensor([[[20.3, 80.2], [41.1, 60.7]], [[170.4, 90.1], [158.9, 55.0]]], dtype=torch.float64)
    ones = torch.ones(2, 100, dtype=torch.float64)
    edges = RowEdges(40 * ones, 160 * ones, ones, ones)
    rows = points[..., 1:]

    def energy(x):
        return contour_energy(torch.cat([x, rows], -1), edges, SIZE)

    assert torch.autograd.gradcheck(energy, (points[..., :1].clone().requires_grad_(),))


def test_row_edges_of_a_binary_mask():
    mask = torch.zeros(5, 10)
    mask[1, 3:7] = 1.0
    mask[2, [0, 1, 4, 5, 6]] = 1.0  # the longer run wins over the speck
    mask[3, 5:] = 1.0
    mask[4, :] = 1.0
    edges = mask_row_edges(mask)
    assert edges.left[1:4].tolist() == [3.0, 4.0, 5.0]
    assert edges.right[1:4].tolist() == [7.0, 7.0, 10.0]
    assert edges.left_weight.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert edges.right_weight.tolist() == [0.0, 1.0, 1.0, 0.0, 0.0]  # touching the border is no edge


def test_row_edges_of_a_soft_mask_are_subpixel():
    centres = torch.arange(40, dtype=torch.float64) + 0.5
    left, right = 10.3, 29.8
    mask = ((centres - left) / 4 + 0.5).clamp(0, 1) * ((right - centres) / 4 + 0.5).clamp(0, 1)
    mask = mask[None]
    edges = mask_row_edges(mask, torch.tensor([0.5], dtype=torch.float64))
    assert float(edges.left) == pytest.approx(left, abs=1e-6) and float(edges.right) == pytest.approx(right, abs=1e-6)
    assert float(edges.left_weight) == 0.5 and float(edges.right_weight) == 1.0


def test_row_edges_match_a_naive_loop_on_random_masks():
    mask = (torch.rand(3, 20, 17, generator=torch.Generator().manual_seed(3)) > 0.4).float()
    edges = mask_row_edges(mask)
    for view in range(3):
        for row in range(20):
            best, start = (0, 0), None
            for column in range(18):
                inside = column < 17 and mask[view, row, column] > 0.5
                if inside and start is None:
                    start = column
                if not inside and start is not None:
                    if column - start > best[1] - best[0]:
                        best = (start, column)
                    start = None
            assert (float(edges.left[view, row]), float(edges.right[view, row])) == best

"""Landmarks of calibrated photographs, carried over to the scan: where their rays meet it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fitter.capture.types import ScanLandmarks, Session, View
from fitter.errors import InputError
from fitter.kernels.mesh_queries import MeshQueries

REACH_MM = 20_000.0
INNER = slice(17, 68)
"""Points with a fixed place on the skin; the jaw line slides with the view."""
LEAST_COSINE = 0.35
"""A ray that meets the surface more obliquely than this tells little of where its point is."""
AGREEMENT_MM = 8.0
"""Hits of other views further than this from a point's median are guesses at a hidden half."""
LEAST_SHARE = 0.3
"""Share of the points that have to meet the scan in the better half of the views."""


def carried_landmarks(session: Session) -> ScanLandmarks | None:
    """iBUG-68 landmarks of a session's calibrated photographs, on its scan; None where no photograph has such.

    Each view casts its points on the scan. A point's place is the median of its hits, weighted by how squarely the ray
    meets the surface, among the hits that agree with it, brought back on the surface.

    Raises:
        InputError: Hardly any ray meets the scan: the cameras are in another frame or unit.
    """
    views = [view for view in session.views if view.landmarks is not None and view.landmarks.scheme == "ibug68"]
    if not views:
        return None
    scan = session.scan
    vertices, triangles = torch.from_numpy(scan.vertices), torch.from_numpy(scan.triangles)
    queries = MeshQueries(vertices, triangles)
    hits, weights = zip(*(_cast(view, queries, vertices) for view in views), strict=True)
    hits, weights = torch.stack(hits), torch.stack(weights)
    met = float((weights > 0).double().mean(1).max())
    if met < LEAST_SHARE:
        raise InputError(
            scan.path,
            f"only {100 * met:.0f} % of the photographs' landmarks on the scan",
            "a scan in the frame and unit of the cameras",
            "Check --unit, or fit without the cameras: --cameras none.",
        )
    points, indices = [], []
    for landmark in range(hits.shape[1]):
        found = _agreed(hits[:, landmark], weights[:, landmark])
        if found is not None:
            points.append(found)
            indices.append(INNER.start + landmark)
    placed = torch.stack(points)
    at = queries.closest(placed)
    on_surface = queries.interpolate(vertices, at)
    return ScanLandmarks(on_surface.numpy(), np.array(indices, np.int64), "photographs", marked=False)


def _cast(view: View, queries: MeshQueries, vertices: Tensor) -> tuple[Tensor, Tensor]:
    """Hits [51, 3] of a view's inner landmarks and their weights [51]; 0 where a ray meets nothing."""
    camera = view.camera
    pixels = torch.from_numpy(view.landmarks.points[INNER]).double()
    ones = torch.ones_like(pixels[:, :1])
    rotation = camera.cam_from_world[:3, :3].double().cpu()
    rays = torch.cat([pixels, ones], -1) @ torch.linalg.inv(camera.intrinsics.double().cpu()).T @ rotation
    rays = torch.nn.functional.normalize(rays, dim=-1)
    at = queries.cast(camera.centre.double().cpu().expand_as(rays), rays, REACH_MM)
    corners = vertices[queries.triangles[at.triangle]]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    cosine = -(torch.nn.functional.normalize(normals, dim=-1) * rays).sum(-1)
    trusted = torch.from_numpy(view.landmarks.confidence[INNER]).double()
    weight = trusted * at.found * ((cosine - LEAST_COSINE) / (1.0 - LEAST_COSINE)).clamp(0.0, 1.0) ** 2
    return queries.interpolate(vertices, at), weight


def _agreed(hits: Tensor, weights: Tensor) -> Tensor | None:
    """Weighted mean [3] of the hits near their best-supported one, or None where there is none."""
    if not bool((weights > 0).any()):
        return None
    distance = torch.cdist(hits, hits)
    support = ((distance < AGREEMENT_MM) * weights[None]).sum(1) * (weights > 0)
    chosen = (distance[int(support.argmax())] < AGREEMENT_MM) * weights
    return (chosen[:, None] * hits).sum(0) / chosen.sum()

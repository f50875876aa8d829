"""Distances on a scan, shown: a colour scale with a round end, and the scan as a coloured PLY."""

from __future__ import annotations

import numpy as np

from fitter.export.colour import ERROR, colour_map, to_bytes

LIMITS_MM = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
FINE_LIMITS_MM = (0.05, 0.1, 0.2, *LIMITS_MM)
"""For fits to this very scan, which lie closer than fits to photographs."""
FINE_SHARE = 90.0
"""Per cent of the surface on a scale for M2 alone: eyes' openings, which no fit follows, would widen it otherwise."""


def error_limit(distances: np.ndarray, limits: tuple[float, ...] = LIMITS_MM, share: float = 97.0) -> float:
    """Round end of the colour scale, mm, out of `limits`: `share` per cent of the surface lie below it."""
    if not len(distances):
        return limits[-1]
    wanted = float(np.percentile(distances, share))
    return next((limit for limit in limits if limit >= wanted), limits[-1])


def finest_limit(distances: np.ndarray) -> float:
    """Round end, mm, of a colour scale for what lies closest; the rest is all dark red."""
    return error_limit(distances, FINE_LIMITS_MM, FINE_SHARE)


def error_colours(distances: np.ndarray, limit: float) -> np.ndarray:
    """sRGB-encoded colours [P, 3] of distances in mm."""
    return colour_map(distances / limit, ERROR)


def error_ply(
    vertices: np.ndarray,
    triangles: np.ndarray,
    distances: np.ndarray,
    *,
    limit: float,
    mm_per_unit: float,
    about: tuple[str, ...],
    flags: dict[str, np.ndarray] | None = None,
) -> bytes:
    """Binary PLY of a surface in its own unit, with colours and the distance (mm) per vertex.

    Args:
        vertices: [P, 3] mm.
        triangles: [Q, 3].
        distances: [P] mm.
        limit: End of the colour scale, mm.
        mm_per_unit: The surface's unit, so that the PLY lies on the file that it comes from.
        about: Lines for the header's comments, plain ASCII.
        flags: Name -> [P] bool, further properties (0 or 1).
    """
    flags = flags or {}
    fields = [("xyz", "<f4", 3), ("rgb", "u1", 3), ("distance", "<f4"), *((name, "u1") for name in flags)]
    rows = np.zeros(len(vertices), fields)
    rows["xyz"], rows["distance"] = vertices / mm_per_unit, distances
    rows["rgb"] = to_bytes(error_colours(distances, limit))
    for name, values in flags.items():
        rows[name] = values
    faces = np.zeros(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, triangles
    comments = "".join(f"comment {line}\n" for line in about)
    header = (
        f"ply\nformat binary_little_endian 1.0\n{comments}"
        f"element vertex {len(rows)}\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nproperty float distance\n"
        + "".join(f"property uchar {name}\n" for name in flags)
        + f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    return header.encode("ascii") + rows.tobytes() + faces.tobytes()

"""Heat maps: per subject, the mean error over everything scored on the same scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.protocols.store import load_surface
from benchmarks.protocols.types import Outcome
from fitter.atomic import write_bytes
from fitter.compare.picture import heat_picture
from fitter.export.error_mesh import error_limit
from fitter.export.maps import png
from fitter.mesh_normals import vertex_normals


def write_heat_maps(
    out: Path,
    outcomes: Sequence[tuple[Outcome, str | None]],
    *,
    title: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """One picture per subject and scan into `heat_maps`; all of one run on one scale, so that they compare.

    Args:
        out: The result folder.
        outcomes: Outcomes with the names of their surfaces (see `store.load`).
        title: Of the protocol, for the pictures' lines.
        progress: Called with how many are done, of how many.
    """
    together: dict[tuple[str, str], list[Outcome]] = {}
    for outcome, surface in outcomes:
        if surface is not None:
            together.setdefault((outcome.subject, surface), []).append(outcome)
    if not together:
        return []
    limit = error_limit(np.concatenate([outcome.distances for group in together.values() for outcome in group]))
    surfaces = Counter(subject for subject, _ in together)
    written = []
    for done, ((subject, surface), group) in enumerate(sorted(together.items(), key=lambda entry: entry[1][0].name)):
        progress(done, len(together))
        # A subject with one scan has one picture; else a picture is called by the first item that it shows.
        name = subject if surfaces[subject] == 1 else group[0].name
        path = out / "heat_maps" / f"{name.replace('/', '_')}.png"
        write_bytes(path, png(_picture(out, surface, group, title, limit)))
        written.append(path)
    progress(len(together), len(together))
    return written


def _picture(out: Path, surface: str, group: Sequence[Outcome], title: str, limit: float) -> np.ndarray:
    shown = load_surface(out, surface)
    mean = np.mean([outcome.distances.astype(np.float64) for outcome in group], axis=0)
    subject = group[0].subject
    who = group[0].name if len(group) == 1 else f"subject {subject}" if subject.isdigit() else subject
    what = f", mean of {len(group)} items" if len(group) > 1 else ""
    label = f"{title}: {who}{what}, distance in mm   (median {np.median(mean):.2f}, mean {mean.mean():.2f})"
    normals = vertex_normals(shown.vertices, shown.triangles)
    return heat_picture(shown.vertices, shown.triangles, normals, mean, (shown.forward, shown.up), label, limit=limit)

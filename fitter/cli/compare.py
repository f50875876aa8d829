"""`hrn compare FIT SCAN`: how far a fit is from a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from rich.table import Table

    from fitter.compare.run import Comparison


TABLE_WIDTH = 100


def compare_command(
    fit: Annotated[Path, tyro.conf.Positional],
    scan: Annotated[Path, tyro.conf.Positional],
    unit: Literal["mm", "cm", "m"] = "mm",
    radius: float = 80.0,
    out: Path | None = None,
    scan_landmarks: Path | None = None,
) -> None:
    """Measure a fit against a scan: distances, normals, completeness; raw, and after rigid and similarity alignment.

    Counted are the scan's vertices within the radius of its nose tip whose normal points forward, each to the closest
    point of the fitted surface. "raw" means no alignment: it says something where both are in one frame. Writes
    compare.json, error.ply (the scan, coloured) and error.png.

    Args:
        fit: Result folder of `hrn fit`.
        scan: Mesh to compare with (PLY, OBJ, STL, GLB).
        unit: Unit of the scan (and of its landmarks).
        radius: Radius around the nose tip, mm.
        out: Folder for the files; by default `compare` in the fit's folder.
        scan_landmarks: 68 iBUG landmarks on the scan (text, .npy, .json or .pp): they say where its nose is and where
            it looks, and start the alignment of a fit that lies elsewhere.
    """
    # Late, so that --help stays quick.
    from rich.console import Console

    from fitter.compare.picture import write_comparison
    from fitter.compare.run import compare_fit, load_fit
    from fitter.compare.scan import MM_PER_UNIT, load_scan, load_scan_landmarks
    from fitter.errors import InputError

    if not 0 < radius < 1000:
        raise InputError("--radius", f"{radius:g}", "millimetres between 0 and 1000")
    landmarks = None if scan_landmarks is None else load_scan_landmarks(scan_landmarks, unit)
    comparison = compare_fit(load_fit(fit), load_scan(scan, unit), radius=radius, scan_landmarks=landmarks)
    console = Console()
    # The table needs its width; a pipe or a log has no edge to keep to.
    console.width = max(console.width, TABLE_WIDTH)
    console.print(comparison_table(comparison))
    for line in remarks(comparison):
        console.print(line)
    written = write_comparison(comparison, out or fit / "compare", mm_per_unit=MM_PER_UNIT[unit])
    console.print("wrote " + ", ".join(str(path) for path in written), soft_wrap=True, highlight=False)


def comparison_table(comparison: Comparison) -> Table:
    """The scores as a table for the terminal."""
    from rich import box
    from rich.table import Table

    title = (
        f"{len(comparison.points)} scan vertices within {comparison.radius:g} mm of the nose tip\n"
        "distances in mm; normals (median, mean) in degrees"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    table.add_column("level")
    table.add_column("alignment")
    for name in ("median", "mean", "rms", "90 %", "95 %", "normals", "mean", "≤1 mm", "≤2 mm", "scale"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for entry in comparison.measurements:
        score = entry.score
        if last not in (None, entry.level):
            table.add_section()
        table.add_row(
            entry.level if entry.level != last else "",
            entry.alignment,
            *(f"{value:.3f}" for value in (score.median, score.mean, score.rms, score.p90, score.p95)),
            *(f"{value:.2f}" for value in (score.normal_median, score.normal_mean)),
            *(f"{100 * value:.1f} %" for value in (score.within_1mm, score.within_2mm)),
            f"{entry.pose.scale:.4f}",
        )
        last = entry.level
    return table


def remarks(comparison: Comparison) -> list[str]:
    """What a reader of the table has to know about this comparison."""
    lines = []
    if comparison.start != "in place":
        lines.append(
            f"The fit does not lie on the scan: the alignments start from {comparison.start}, "
            "and the raw distances mean little."
        )
    if comparison.start == "search":
        lines.append("The start was searched for; look at error.png, or give --scan-landmarks to be sure.")
    if not comparison.metric:
        lines.append("The fit's scale is estimated, not measured: prefer the similarity rows.")
    return lines

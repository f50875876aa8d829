"""Tables as files: Markdown to read, CSV to compute with, JSON with everything."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from benchmarks.protocols.types import Protocol, Row, Table

PUBLISHED = "published"
OURS = "measured here"
DASH = "–"


def cell_text(value: float | str | None, decimals: int) -> str:
    """A figure with the table's decimals; a dash where there is none."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool | str):
        return str(value)
    return str(value) if isinstance(value, int) else f"{value:.{decimals}f}"


def markdown(table: Table) -> str:
    """One table: ours, then the published rows in italics with their sources as numbered notes."""
    sources = list(dict.fromkeys(row.source for row in table.rows if row.source))
    head = ["method", *table.columns, ""]
    lines = [f"### {table.title}", "", _line(head), _line([":--", *["--:"] * len(table.columns), ":--"])]
    for row in table.rows:
        cells = [cell_text(row.cells.get(column), table.decimals) for column in table.columns]
        if row.source:
            lines.append(_line([f"*{row.name}*", *cells, f"{PUBLISHED} [{sources.index(row.source) + 1}]"]))
        else:
            lines.append(_line([f"**{row.name}**", *(cell if cell == DASH else f"**{cell}**" for cell in cells), OURS]))
    lines += ["", *(f"[{number}] {source}  " for number, source in enumerate(sources, 1))]
    return "\n".join(lines).rstrip() + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def report(protocol: Protocol, tables: Sequence[Table], counts: Sequence[str], notes: Sequence[str]) -> str:
    """The whole Markdown file."""
    parts = [f"# {protocol.title}\n", "\n".join(f"- {line}" for line in counts) + "\n"]
    parts += [markdown(table) for table in tables]
    parts.append("### Notes\n\n" + "\n".join(f"- {note}" for note in notes) + "\n")
    return "\n".join(parts)


def comma_separated(tables: Sequence[Table]) -> str:
    """All cells in one long CSV: table, method, origin, column, value."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["table", "method", "origin", "source", "column", "value"])
    for table in tables:
        for row in table.rows:
            for column in table.columns:
                if row.cells.get(column) is not None:
                    origin = PUBLISHED if row.source else OURS
                    writer.writerow([table.title, row.name, origin, row.source, column, _number(row.cells[column])])
    return buffer.getvalue()


def _number(value: float | str | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def record(table: Table) -> dict:
    """A table for JSON."""

    def line(row: Row) -> dict:
        return {"method": row.name, "origin": PUBLISHED if row.source else OURS, "source": row.source, **row.cells}

    return {"title": table.title, "columns": list(table.columns), "rows": [line(row) for row in table.rows]}

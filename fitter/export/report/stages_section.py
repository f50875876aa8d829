"""The report's table of stages."""

from __future__ import annotations

from html import escape

from fitter.export.report.parts import decimal
from fitter.result.types import FitResult, StageRecord


def _stage_rows(stage: StageRecord) -> str:
    residuals = ", ".join(
        f"{escape(name.replace('_', ' '))} {decimal(value)}" for name, value in stage.residuals.items()
    )
    note = f'<div class="lead">{escape(stage.note)}</div>' if stage.note else ""
    energies = list(stage.energies.items()) or [("–", (float("nan"), float("nan")))]
    rows = []
    for index, (name, (before, after)) in enumerate(energies):
        lead = (
            f'<td rowspan="{len(energies)}"><b>{escape(stage.name)}</b>{note}</td>'
            f'<td class="number" rowspan="{len(energies)}">{stage.steps}</td>'
            if index == 0
            else ""
        )
        tail = f'<td rowspan="{len(energies)}">{residuals or "–"}</td>' if index == 0 else ""
        rows.append(
            f"<tr{' class=first' if index == 0 else ''}>{lead}<td>{escape(name.replace('_', ' '))}</td>"
            f'<td class="number">{decimal(before)}</td><td class="number">{decimal(after)}</td>{tail}</tr>\n'
        )
    return "".join(rows)


def stages_section(result: FitResult) -> str:
    """What each stage did to its energies."""
    head = (
        '<tr><th>stage</th><th class="number">steps</th><th>energy (weighted)</th><th class="number">before</th>'
        '<th class="number">after</th><th>residuals</th></tr>'
    )
    rows = "".join(_stage_rows(stage) for stage in result.stages)
    return (
        '<h2>How the fit went</h2><p class="explain">'
        "Each stage lowers a sum of energies. Residuals are in the unit that their name says.</p>"
        f'<div class="scroll"><table>{head}{rows}</table></div>\n'
    )

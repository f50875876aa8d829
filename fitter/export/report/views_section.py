"""The report's part on single photographs."""

from __future__ import annotations

from html import escape

from fitter.export.report import pictures
from fitter.export.report.parts import image
from fitter.result.types import FitResult


def views_section(result: FitResult, studio: pictures.Studio) -> str:
    """Input, overlay and the three levels of each photograph; nothing where there is none."""
    if not result.views:
        return ""
    parts = [
        '<h2>Each photograph</h2><p class="explain">'
        "The fit is laid half-transparent over the photograph: eyes, nose, lips and outline "
        'should agree. Points: <span class="dot detected"></span>detected <span class="dot fitted"></span>fitted.</p>\n'
    ]
    if result.session.kind == "casual" and len(result.views) > 1:
        reference = escape(result.views[result.reference_view].name)
        parts.append(f'<p class="explain">M2 is shown with the expression of “{reference}” everywhere.</p>\n')
    size = pictures.picture_size(len(result.views))
    by_name = {view.name: view for view in result.session.views}
    for found in result.views:
        row = studio.view(by_name[found.name], found, size)
        name = escape(found.name)
        error = (
            ""
            if found.landmark_error is None
            else f" · points miss by {100 * found.landmark_error:.1f} % of the eye distance"
        )
        cells = (
            (row.photograph, "photograph"),
            (row.overlay, "fit over photograph"),
            (row.m0, "M0: face model"),
            (row.m1, "M1: and deformation"),
            (row.m2, "M2: and displacement"),
        )
        figures = "".join(image(picture, escape(label), alt=f"{found.name}: {label}") for picture, label in cells)
        parts.append(
            f'<h3>{name}<span class="lead" style="font-weight:400">{escape(error)}</span></h3>'
            f'<div class="row five">{figures}</div>\n'
        )
    return "".join(parts)


def view_textures(result: FitResult) -> str:
    """T and T' of the reference view."""
    if not result.views:
        return ""
    view = result.views[result.reference_view]
    shown = pictures.view_texture_pictures(view)
    if not shown:
        return ""
    difference = view.realigned_difference
    miss = "" if difference is None else f" It misses what the photograph shows there by {255 * difference:.1f} of 255."
    figures = "".join(image(picture, escape(label), alt=label) for label, picture in shown)
    return (
        f'<h3>Texture of “{escape(view.name)}” alone</h3><p class="explain">Read off the photograph through the face '
        f"model, then moved along with the deformation.{miss} What it does not show was filled in.</p>"
        f'<div class="row three">{figures}</div>\n'
    )

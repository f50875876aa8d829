"""The page itself: HTML around the pictures, in words that an artist and a reviewer can both use."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
import yaml
from PIL import Image

from fitter import __version__
from fitter.export.cameras import unit_name
from fitter.export.records import DISTRIBUTION, all_warnings, plain
from fitter.export.report import pictures
from fitter.export.report.style import STYLE
from fitter.result.types import FitResult, StageRecord

JPEG_QUALITY = 84

FILES = (
    ("face.obj", "the fitted face on the model's topology (M1), with texture.png"),
    ("dense.obj", "the same face with fine detail in the geometry (M2)"),
    ("m0.obj", "the face model alone (M0), with the model's own texture coordinates"),
    ("face.glb", "for engines and viewers: metres, upright, with the expressions as blendshapes"),
    (
        "displacement.exr, displacement.png",
        "fine detail in millimetres; in the PNG mid-grey is zero, its range is in maps.json",
    ),
    ("deformation.exr", "what the model could not say, in millimetres: x, y, z as red, green, blue"),
    ("normal.png, albedo.png, texture.png", "for materials; normals are tangent space with OpenGL green"),
    ("views/", "each photograph's own texture: T through M0, T' realigned to M1; alpha is how well it is seen"),
    ("coverage.png, confidence.png", "how many photographs see a place, and how well they determine it"),
    ("cameras.json, transforms.json", "the cameras, in OpenCV's and in nerfstudio's convention"),
    ("coefficients.json, fit.json, timings.json", "the model's coefficients; the record of the fit; how long it took"),
)


def build_report(result: FitResult) -> bytes:
    """The bytes of report.html: one self-contained page; equal results give equal bytes (no dates, no durations)."""
    studio = pictures.Studio(result)
    title = f"{escape(result.session.name)} · face fit"
    body = "".join(
        (
            _head(result),
            _warnings(result),
            _result(studio),
            _views(result, studio),
            _doubt(studio),
            _maps(result),
            _view_textures(result),
            _stages(result),
            _settings(result),
        )
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><main>\n{body}</main></body></html>\n"
    )
    return page.encode("utf-8")


def _image(pixels: np.ndarray, caption: str, *, alt: str, kind: str = "") -> str:
    """A figure with its picture embedded; `caption` is HTML."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True
    )
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    image = f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="data:image/jpeg;base64,{data}">'
    label = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure class="{kind}">{image}{label}</figure>\n' if kind else f"<figure>{image}{label}</figure>\n"


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"


def _head(result: FitResult) -> str:
    photographs = _count(len(result.views), "photograph", "photographs")
    unit = unit_name(result)
    if result.metric:
        scale = f"true to scale, in {unit}"
    else:
        scale = f"scale estimated from head size: 1 unit is about {result.mm_per_unit:.4g} mm"
    kind = "taken at one instant" if result.session.kind == "rig" else "taken one after the other"
    facts = (
        ("Photographs", f"{photographs}, {kind}" if len(result.views) > 1 else photographs),
        ("Size", scale),
        ("Face model", f"{result.model.name}, {result.model.vertex_count:,} points"),
        ("Fine mesh", f"{len(result.dense.triangles):,} triangles"),
        ("Version", f"{DISTRIBUTION} {__version__}, seed {result.seed}, {result.device}"),
    )
    items = "".join(f"<li><b>{escape(name)}</b>{escape(str(value))}</li>" for name, value in facts)
    return f'<h1>{escape(result.session.name)}</h1><ul class="facts">{items}</ul>\n'


def _warnings(result: FitResult) -> str:
    notes = [escape(text) for text in all_warnings(result)]
    notes += [f"{escape(name)} was left out: {escape(reason)}" for name, reason in result.session.skipped]
    if not notes:
        return '<h2>Please note</h2><p class="explain">Nothing unusual was found.</p>\n'
    return '<h2>Please note</h2><ul class="notes">' + "".join(f"<li>{note}</li>" for note in notes) + "</ul>\n"


def _turned(images: list[np.ndarray], what: str) -> str:
    figures = (
        _image(image, escape(f"{what}, {side}"), alt=f"{what}, {side}")
        for image, (_, side) in zip(images, pictures.TURNS, strict=True)
    )
    return f'<div class="row three">{"".join(figures)}</div>'


def _result(studio: pictures.Studio) -> str:
    return (
        '<h2>The face</h2><p class="explain">'
        "Above with the colours of the photographs, below in grey clay with all its detail.</p>\n"
        + _turned(studio.textured_turns(), "textured")
        + '<div style="height:10px"></div>'
        + _turned(studio.clay_turns(), "geometry")
    )


def _views(result: FitResult, studio: pictures.Studio) -> str:
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
        figures = "".join(_image(image, escape(label), alt=f"{found.name}: {label}") for image, label in cells)
        parts.append(
            f'<h3>{name}<span class="lead" style="font-weight:400">{escape(error)}</span></h3>'
            f'<div class="row five">{figures}</div>\n'
        )
    return "".join(parts)


def _doubt(studio: pictures.Studio) -> str:
    legend = _image(pictures.doubt_legend(), "", alt="colour scale from unsure to sure", kind="legend")
    return (
        '<h2>Where to be careful</h2><p class="explain">'
        "Grey places are well determined by the photographs. Yellow and red ones are "
        "seen by few of them, at a flat angle, or not at all: there the shape is mostly the model's guess.</p>\n"
        + _turned(studio.doubt_turns(), "certainty")
        + legend
    )


def _maps(result: FitResult) -> str:
    figures = [
        _image(
            image,
            f"<b>{escape(title)}</b> {escape(text)}",
            alt=title,
            kind="wide" if image.shape[1] > 1.5 * image.shape[0] else "",
        )
        for title, text, image in pictures.map_pictures(result)
    ]
    return (
        '<h2>Maps</h2><p class="explain">All on the texture coordinates of face.obj and dense.obj.</p>'
        f'<div class="row maps">{"".join(figures)}</div>\n'
    )


def _view_textures(result: FitResult) -> str:
    if not result.views:
        return ""
    view = result.views[result.reference_view]
    shown = pictures.view_texture_pictures(view)
    if not shown:
        return ""
    difference = view.realigned_difference
    miss = "" if difference is None else f" It misses what the photograph shows there by {255 * difference:.1f} of 255."
    figures = "".join(_image(image, escape(label), alt=label) for label, image in shown)
    return (
        f'<h3>Texture of “{escape(view.name)}” alone</h3><p class="explain">Read off the photograph through the face '
        f"model, then moved along with the deformation.{miss} What it does not show was filled in.</p>"
        f'<div class="row three">{figures}</div>\n'
    )


def _number(value: float) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.4g}"


def _stage_rows(stage: StageRecord) -> str:
    residuals = ", ".join(
        f"{escape(name.replace('_', ' '))} {_number(value)}" for name, value in stage.residuals.items()
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
            f'<td class="number">{_number(before)}</td><td class="number">{_number(after)}</td>{tail}</tr>\n'
        )
    return "".join(rows)


def _stages(result: FitResult) -> str:
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


def _settings(result: FitResult) -> str:
    settings = yaml.safe_dump(plain(result.configuration), sort_keys=False, allow_unicode=True, width=100)
    source = yaml.safe_dump(plain(result.model.source), sort_keys=True, allow_unicode=True, width=100)
    files = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in FILES)
    skipped = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(reason)}</td></tr>" for name, reason in result.session.skipped
    )
    left_out = (
        f'<h3>Left out</h3><div class="scroll"><table><tr><th>file</th><th>reason</th></tr>{skipped}</table></div>'
        if skipped
        else ""
    )
    return (
        f'<h2>Files</h2><div class="scroll"><table>{files}</table></div>{left_out}\n'
        "<h2>Settings</h2><details><summary>All settings of this fit</summary>"
        f"<pre>{escape(settings)}</pre></details>\n"
        f"<details><summary>Where the face model comes from</summary><pre>{escape(source)}</pre></details>\n"
    )

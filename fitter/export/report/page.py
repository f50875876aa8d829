"""The page itself: HTML around the pictures, in words that an artist and a reviewer can both use."""

from __future__ import annotations

from html import escape

import yaml

from fitter import __version__
from fitter.export.cameras import unit_name
from fitter.export.records import DISTRIBUTION, all_warnings, plain
from fitter.export.report import pictures
from fitter.export.report.parts import count, image, three_turns
from fitter.export.report.scan_pictures import ScanStudio
from fitter.export.report.scan_section import scan_facts, scan_section
from fitter.export.report.stages_section import stages_section
from fitter.export.report.style import STYLE
from fitter.export.report.views_section import view_textures, views_section
from fitter.result.types import FitResult

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
    ("normal.png", "for materials; normals are tangent space with OpenGL green"),
)
PHOTOGRAPH_FILES = (
    ("albedo.png, texture.png", "skin colour without light; colour of the photographs"),
    ("views/", "each photograph's own texture: T through M0, T' realigned to M1; alpha is how well it is seen"),
    ("coverage.png", "how many photographs see a place"),
    ("cameras.json, transforms.json", "the cameras, in OpenCV's and in nerfstudio's convention"),
)
PLAIN_FILES = (("albedo.png, texture.png", "the face model's own colours: there was no photograph"),)
SCAN_FILES = (
    ("valid.png", "white where the surface was measured on the scan"),
    ("scan_error.ply", "the scan, coloured by its distance to M2; the distance in mm is a property of its vertices"),
    ("scan_error.png", "the coloured scan from three sides, for M0, M1 and M2"),
)
LAST_FILES = (
    ("confidence.png, confidence.exr", "how well the surface is determined"),
    ("coefficients.json, fit.json, timings.json", "the model's coefficients; the record of the fit; how long it took"),
)


def _files(result: FitResult) -> tuple[tuple[str, str], ...]:
    """(names, meaning) of the files that this result has."""
    colours = PHOTOGRAPH_FILES if result.views else PLAIN_FILES
    return FILES + colours + (() if result.scan is None else SCAN_FILES) + LAST_FILES


def build_report(result: FitResult, scan_studio: ScanStudio | None = None) -> bytes:
    """The bytes of report.html: one self-contained page; equal results give equal bytes (no dates, no durations).

    Args:
        result: The fit.
        scan_studio: What draws its scan, where it is at hand already.
    """
    studio = pictures.Studio(result) if scan_studio is None else scan_studio.studio
    if result.scan is not None and scan_studio is None:
        scan_studio = ScanStudio(studio)
    title = f"{escape(result.session.name)} · face fit"
    body = "".join(
        (
            _head(result),
            _warnings(result),
            _result(result, studio),
            "" if scan_studio is None else scan_section(result, scan_studio),
            views_section(result, studio),
            _doubt(result, studio),
            _maps(result),
            view_textures(result),
            stages_section(result),
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


def _head(result: FitResult) -> str:
    unit = unit_name(result)
    if result.metric:
        scale = f"true to scale, in {unit}"
    else:
        scale = f"scale estimated from head size: 1 unit is about {result.mm_per_unit:.4g} mm"
    facts = [
        ("Size", scale),
        ("Face model", f"{result.model.name}, {result.model.vertex_count:,} points"),
        ("Fine mesh", f"{len(result.dense.triangles):,} triangles"),
        ("Version", f"{DISTRIBUTION} {__version__}, seed {result.seed}, {result.device}"),
    ]
    if result.views:
        facts.insert(0, ("Photographs", _photographs(result)))
    if result.scan is not None:
        facts.insert(0, ("Scan", scan_facts(result)))
    items = "".join(f"<li><b>{escape(name)}</b>{escape(str(value))}</li>" for name, value in facts)
    return f'<h1>{escape(result.session.name)}</h1><ul class="facts">{items}</ul>\n'


def _photographs(result: FitResult) -> str:
    photographs = count(len(result.views), "photograph", "photographs")
    kind = "taken at one instant" if result.session.kind == "rig" else "taken one after the other"
    return f"{photographs}, {kind}" if len(result.views) > 1 else photographs


def _warnings(result: FitResult) -> str:
    notes = [escape(text) for text in all_warnings(result)]
    notes += [f"{escape(name)} was left out: {escape(reason)}" for name, reason in result.session.skipped]
    if not notes:
        return '<h2>Please note</h2><p class="explain">Nothing unusual was found.</p>\n'
    return '<h2>Please note</h2><ul class="notes">' + "".join(f"<li>{note}</li>" for note in notes) + "</ul>\n"


def _result(result: FitResult, studio: pictures.Studio) -> str:
    if not result.views:
        return (
            '<h2>The face</h2><p class="explain">In grey clay with all its detail. There was no photograph, so it has '
            "no colours of its own.</p>\n" + three_turns(studio.clay_turns(), "geometry")
        )
    return (
        '<h2>The face</h2><p class="explain">'
        "Above with the colours of the photographs, below in grey clay with all its detail.</p>\n"
        + three_turns(studio.textured_turns(), "textured")
        + '<div style="height:10px"></div>'
        + three_turns(studio.clay_turns(), "geometry")
    )


def _doubt(result: FitResult, studio: pictures.Studio) -> str:
    if pictures.only_the_scan(result):
        words = (
            '<span class="patch measured"></span>Grey was measured on the scan. <span class="patch guessed"></span>Red '
            "was not: the eyes' openings, the inside of the mouth, holes, and all beyond the scan's edge. There the "
            "shape is the model's guess, carried on smoothly from the measured part."
        )
        if result.views:
            words += " Photographs gave no shape to this fit: what only they show is red too."
        legend = ""
    else:
        sources = "photographs" if result.scan is None else "scan or the photographs"
        words = (
            f"Grey places are well determined by the {sources}. Yellow and red ones are "
            "seen by few photographs, at a flat angle, or not at all: there the shape is mostly the model's guess."
        )
        legend = f'<div class="legend">{image(pictures.doubt_legend(sources), "", alt="from unsure to sure")}</div>\n'
    return (
        f'<h2>Where to be careful</h2><p class="explain">{words}</p>\n'
        + three_turns(studio.doubt_turns(), "certainty")
        + legend
    )


def _maps(result: FitResult) -> str:
    figures = [
        image(
            picture,
            f"<b>{escape(title)}</b> {escape(text)}",
            alt=title,
            kind="wide" if picture.shape[1] > 1.5 * picture.shape[0] else "",
        )
        for title, text, picture in pictures.map_pictures(result)
    ]
    return (
        '<h2>Maps</h2><p class="explain">All on the texture coordinates of face.obj and dense.obj.</p>'
        f'<div class="row maps">{"".join(figures)}</div>\n'
    )


def _settings(result: FitResult) -> str:
    settings = yaml.safe_dump(plain(result.configuration), sort_keys=False, allow_unicode=True, width=100)
    source = yaml.safe_dump(plain(result.model.source), sort_keys=True, allow_unicode=True, width=100)
    files = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in _files(result))
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

"""Sessions for the tests of data sets: folders whose fits are invented in no time, and one that is really fitted."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from fitter.capture.types import Scan, Session
from fitter.errors import InputError
from fitter.result.types import FitResult, LevelResiduals
from priors.dataset.make import make_dataset
from priors.dataset.options import DatasetOptions, DatasetSummary, Progress
from priors.dataset.sources import find_sessions
from tests.factories import toy_model, toy_result
from tests.scan_meshes import ply_bytes

SIDE = 16
"""Texels per side of the invented maps."""


@lru_cache(maxsize=1)
def small_toy() -> FitResult:
    """The toy result with small maps and textures of its own per view; made once: its naive normals take a second."""
    toy = toy_result(resolution=SIDE)
    views = tuple(
        replace(
            view,
            texture=view.texture[:SIDE, :SIDE] / (1 + number),
            texture_weight=view.texture_weight[:SIDE, :SIDE],
            realigned=view.realigned[:SIDE, :SIDE],
            realigned_weight=view.realigned_weight[:SIDE, :SIDE],
        )
        for number, view in enumerate(toy.views)
    )
    return replace(toy, views=views)


def write_folder(folder: Path, content: str, photographs: bool = True) -> Path:
    """A session's folder as the search sees it; what is in the files is not looked at, only told apart."""
    folder.mkdir(parents=True)
    (folder / "scan.ply").write_text(content)
    for name in ("front", "left") if photographs else ():
        (folder / f"{name}.png").write_text(f"{name} {content}")
        (folder / f"{name}.pts").write_text("points")
    return folder


def invented_load(task) -> Session:
    """Stands for loading a session: two small views, or none, and a scan; `bad` in the scan's file is an error."""
    content = task.source.scan.read_text()
    if "bad" in content:
        raise InputError(task.source.scan, "a scan that is bad", "a good one", "Scan again.")
    folder = task.source.folder
    views = small_toy().session.views if task.source.photographs else ()
    views = tuple(replace(view, path=folder / view.path.name) for view in views)
    scan = Scan(
        name="scan",
        path=task.source.scan,
        vertices=np.zeros((3, 3)),
        triangles=np.array([[0, 1, 2]]),
        unit="mm",
        mm_per_unit=1.0,
        noise_mm=0.01,
        edge_mm=1.0,
    )
    return Session(task.source.name, views, "rig", "mm", 1.0, (f"Look at {folder}/front.png.",), scan=scan)


def invented_fit(session: Session, model, configuration) -> FitResult:
    """Stands for the fit: the toy result, its identity and displacement drawn from what the scan's file says."""
    base = small_toy()
    digest = hashlib.sha256(session.scan.path.read_bytes()).digest()
    random = np.random.default_rng(list(digest[:8]))
    level = LevelResiduals(100, 0.4, 0.5, 1.0, 3.0, float("nan"))
    outcome = SimpleNamespace(  # what a data set asks of a ScanOutcome
        alignment={"method": "search", "certain": True, "score": 0.2, "runner_up": float("nan"), "warnings": []},
        residuals={name: {"all": level, "skin": level} for name in ("M0", "M1", "M2")},
        flipped_triangles=0,
        counted_triangles=10,
        noise_mm=0.01,
        edge_mm=1.0,
        valid=base.map_valid & (np.arange(SIDE) > 4),
    )
    return replace(
        base,
        session=session,
        views=base.views if session.views else (),
        scan=outcome,
        configuration={"maps": {"dense_levels": configuration.maps.dense_levels}},
        identity=random.normal(size=3),
        displacement_map=random.normal(size=(SIDE, SIDE)).astype(np.float32),
        warnings=session.warnings,
    )


def blank(grey: int) -> torch.Tensor:
    """Previews of one grey."""
    return torch.full((2, 24, 24, 3), grey, dtype=torch.uint8)


def invent(monkeypatch) -> list[str]:
    """Put the inventions in place of loading, fitting and the model; the list of sessions fitted from now on."""
    fitted: list[str] = []

    def fit(session, model, configuration, options):
        fitted.append(session.name)
        return invented_fit(session, model, configuration)

    monkeypatch.setattr("priors.dataset.session_work.load", invented_load)
    # Pictures take more time than all the rest; here they only have to differ.
    monkeypatch.setattr("priors.dataset.preview.session_figure", lambda result: None)
    monkeypatch.setattr("priors.dataset.preview.view_preview", lambda result, view, _: blank(40 * view))
    monkeypatch.setattr("priors.dataset.preview.scan_preview", lambda result, _: blank(90))
    monkeypatch.setattr("priors.dataset.session_work._model", lambda name: toy_model())
    monkeypatch.setattr("fitter.fit.fit_session", fit)
    monkeypatch.setattr("fitter.model.load.load_model", lambda *_: toy_model())
    return fitted


def make(paths, out: Path, progress: Progress | None = None, **options) -> DatasetSummary:
    """Make a data set in this process."""
    from fitter.optimise.config import load_configuration

    given = [paths] if isinstance(paths, Path) else paths
    chosen = DatasetOptions(**{"workers": 0, **options})
    return make_dataset(find_sessions(given), out, load_configuration("scan"), chosen, progress)


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of everything in a data set's folder that has to be the same every time."""
    files = [path for path in sorted(out.iterdir()) if path.name != "timings.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


TINY = """name: tiny
maps: {deformation: 16, displacement: 64, texture: 64, dense_levels: 1}
stages:
  - {name: start, solver: initialise}
  - name: landmarks
    solver: gauss_newton
    free: [head_pose, identity]
    energies: {scan_landmark: {weight: 1.0, sigma_mm: 2.0}, identity_prior: {sigma: 1.0}}
    steps: 3
  - name: m1
    solver: gauss_newton
    free: [deformation]
    energies:
      scan: {gate: 8, least_cosine: 0.6, sigma: 1.0, points: 2000}
      smoothness: {bilaplacian: 0.3}
    steps: 2
  - name: m2
    solver: ray_cast
    free: [displacement]
    energies: {scan: {reach: 6.0, least_cosine: 0.4, largest: 3.0}, smoothness: {noise: 100.0}}
  - {name: light, solver: closed_form, views: some, free: [lighting, albedo]}
"""


def write_scanned_session(model, folder: Path, amplitude: float = 1.0) -> Path:
    """Two small photographs of a known face, with cameras and landmarks, and its skin as the scan."""
    from tests.recovery_scene import known_face, write_session

    face = known_face(model, size=160, yaws=(-20.0, 20.0), amplitude=amplitude)
    write_session(face, folder)
    skin = model.regions["skin"].numpy()
    triangles = model.triangles.numpy()
    triangles = triangles[skin[triangles].all(1)]
    used, flat = np.unique(triangles, return_inverse=True)
    (folder / "scan.ply").write_bytes(ply_bytes(face.vertices.numpy()[used], flat.reshape(-1, 3)))
    return folder

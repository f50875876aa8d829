"""One session of a data set as it lies on the disk: its folder, its scan, its photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fitter.capture.image import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from fitter.capture.scan.formats import SUFFIXES as SCAN_SUFFIXES
from fitter.errors import InputError

LIST_NAME = "dataset.yaml"
SCAN_STEM = "scan"
"""A mesh of this name is the session's scan, whatever else lies beside it."""
NO_SCAN = "Put the scan there (scan.ply, .obj, .stl, .glb or .gltf), or name it in dataset.yaml."


@dataclass(frozen=True)
class SessionSource:
    """One session as it lies on the disk."""

    name: str
    """Unique in the data set: SUBJECT/SESSION, or the session's name where it is its own subject."""
    subject: str
    folder: Path
    scan: Path
    photographs: tuple[Path, ...]
    """The folder of the photographs, or the photographs; empty for a scan alone."""
    landmarks: Path | None = None
    """Points on the scan, where they do not lie beside it under its name."""
    cameras: Path | None = None
    unit: str | None = None
    split: str | None = None
    """train, val or test, where it is given; otherwise the subject's name decides."""


@dataclass
class Sources:
    """What was found."""

    sessions: list[SessionSource] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    """Name of what looked like a session -> why it is none."""

    def add(self, folder: Path, name: str, subject: str) -> None:
        """Take a folder as a session, or note why it cannot be one."""
        try:
            self.sessions.append(folder_session(folder, name, subject))
        except InputError as error:
            self.failures[name] = without_place(str(error), folder)


def _with_suffix(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    inside = (item for item in folder.iterdir() if item.is_file() and not item.name.startswith("."))
    return sorted(item for item in inside if item.suffix.lower() in suffixes)


def has_photographs(folder: Path) -> bool:
    """Whether a folder, or its subfolder `images`, holds pictures."""
    return any(_with_suffix(place, (*IMAGE_SUFFIXES, *FOREIGN_SUFFIXES)) for place in (folder, folder / "images"))


def looks_like_session(folder: Path) -> bool:
    """Whether a folder is meant to be a session: it holds a mesh, or photographs."""
    return bool(_with_suffix(folder, SCAN_SUFFIXES)) or has_photographs(folder)


def find_scan(folder: Path) -> Path:
    """The scan of a session's folder.

    Raises:
        InputError: There is none, or there are several and none (or more than one) is called `scan`.
    """
    meshes = _with_suffix(folder, SCAN_SUFFIXES)
    named = [mesh for mesh in meshes if mesh.stem.lower() == SCAN_STEM]
    chosen = named or meshes
    if not chosen:
        raise InputError(folder, "photographs without a scan", "a mesh beside them", NO_SCAN)
    if len(chosen) > 1:
        listed = ", ".join(mesh.name for mesh in chosen[:4]) + (", ..." if len(chosen) > 4 else "")
        remedy = f"Call the scan scan{chosen[0].suffix}, or name it in {LIST_NAME}."
        raise InputError(folder, f"{len(chosen)} meshes ({listed})", "one, or one called scan", remedy)
    return chosen[0]


def folder_session(folder: Path, name: str, subject: str) -> SessionSource:
    """A session from its folder alone; raises as `find_scan` does."""
    photographs = (folder,) if has_photographs(folder) else ()
    return SessionSource(name=name, subject=subject, folder=folder, scan=find_scan(folder), photographs=photographs)


def without_place(text: str, folder: Path) -> str:
    """A message with paths relative to the session's folder: the same wherever the data lies."""
    for place in {str(folder), str(folder.resolve())}:
        text = text.replace(f"{place}/", "").replace(place, folder.resolve().name)
    return text

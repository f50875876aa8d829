"""Which sessions a data set is made of: folders, folders of folders, or a list in `dataset.yaml`."""

from __future__ import annotations

from collections import Counter
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


def find_sessions(paths: Sequence[Path]) -> Sources:
    """Find sessions in what the user gave, in the order of their names.

    Args:
        paths: Each a session's folder (it holds a mesh or photographs), a folder of sessions (SESSION/ or
            SUBJECT/SESSION/), a `dataset.yaml`, or a folder that holds one.

    Raises:
        InputError: A path is not there or holds nothing, a list cannot be read, or two sessions have one name.
    """
    found = Sources()
    for path in paths:
        before = len(found.sessions) + len(found.failures)
        listing = path if path.is_file() else path / LIST_NAME
        if listing.is_file():
            from priors.dataset.source_list import read_source_list

            read_source_list(listing, found)
        elif path.is_dir():
            _search(path, found)
        else:
            raise InputError(path, "no such file or folder", "a folder of sessions", "Check the path.")
        if len(found.sessions) + len(found.failures) == before:
            raise InputError(path, "no session", "folders that hold a scan, with or without photographs", NO_SCAN)
    found.sessions.sort(key=lambda session: session.name)
    check_names(found.sessions)
    return found


def check_names(sessions: Sequence[SessionSource]) -> None:
    """Refuse two sessions of one name, and a subject in two splits."""
    for name, count in Counter(session.name for session in sessions).items():
        if count > 1:
            folders = [str(session.folder) for session in sessions if session.name == name]
            raise InputError(
                " and ".join(folders[:2]),
                f"two sessions called {name}",
                "one name each",
                f"Rename a folder, or name subjects and sessions in {LIST_NAME}.",
            )
    splits: dict[str, str] = {}
    for session in sessions:
        if session.split is not None and splits.setdefault(session.subject, session.split) != session.split:
            raise InputError(
                session.name,
                f"the subject {session.subject} in the splits {splits[session.subject]} and {session.split}",
                "all sessions of a subject in one",
                f"Correct {LIST_NAME}.",
            )


def _search(path: Path, found: Sources) -> None:
    """A session, a folder of sessions, or a folder of subjects with sessions."""
    if looks_like_session(path):
        title = path.resolve().name
        found.add(path, title, title)
        return
    for upper in _folders(path):
        if looks_like_session(upper):
            found.add(upper, upper.name, upper.name)
            continue
        for lower in _folders(upper):
            if looks_like_session(lower):
                found.add(lower, f"{upper.name}/{lower.name}", upper.name)


def _folders(path: Path) -> list[Path]:
    return sorted(item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))


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

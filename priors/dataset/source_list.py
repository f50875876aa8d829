"""`dataset.yaml`: sessions whose files, subjects, units or splits do not follow the folders' names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from fitter.errors import InputError
from priors.dataset.session_source import SessionSource, Sources, find_scan, has_photographs, without_place

STRICT = ConfigDict(extra="forbid", frozen=True)
_REMEDY = "docs/dataset.md describes the file."


@dataclass(config=STRICT)
class ListedSession:
    """One entry; paths are relative to the file, those inside a session to the session's folder."""

    path: str
    scan: str | None = None
    photographs: str | list[str] | None = None
    """A folder or photographs; `none` for a scan alone; None takes those in the session's folder."""
    landmarks: str | None = None
    """Points on the scan; None takes those beside it, `none` goes without."""
    cameras: str | None = None
    unit: Literal["mm", "cm", "m"] | None = None
    subject: str | None = None
    session: str | None = None
    split: Literal["train", "val", "test"] | None = None


@dataclass(config=STRICT)
class SessionList:
    """The file."""

    sessions: list[ListedSession]


_ADAPTER = TypeAdapter(SessionList)


def read_source_list(path: Path, found: Sources) -> None:
    """Add the sessions of a list to those found; a session whose files are missing is noted as failed.

    Raises:
        InputError: The file is no YAML, or has unknown keys or wrong values.
    """
    try:
        listing = _ADAPTER.validate_python(yaml.safe_load(path.read_text("utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the top level"
        raise InputError(path, f"{first['msg'].lower()} at '{place}'", "a list of sessions", _REMEDY) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(path, "no YAML", "a list of sessions", _REMEDY) from error
    for entry in listing.sessions:
        folder = path.parent / entry.path
        session = entry.session or Path(entry.path).name or folder.resolve().name
        subject = entry.subject or session
        name = session if subject == session else f"{subject}/{session}"
        try:
            found.sessions.append(_source(entry, folder, name, subject))
        except InputError as error:
            found.failures[name] = without_place(str(error), folder)


def _source(entry: ListedSession, folder: Path, name: str, subject: str) -> SessionSource:
    if not folder.is_dir():
        raise InputError(folder, "no such folder", "the session's folder", "Correct its path in the list.")
    scan = _existing(folder, entry.scan) if entry.scan is not None else find_scan(folder)
    return SessionSource(
        name=name,
        subject=subject,
        folder=folder,
        scan=scan,
        photographs=_photographs(entry, folder),
        landmarks=_optional(folder, entry.landmarks),
        cameras=_optional(folder, entry.cameras),
        unit=entry.unit,
        split=entry.split,
    )


def _photographs(entry: ListedSession, folder: Path) -> tuple[Path, ...]:
    given = entry.photographs
    if given is None:
        return (folder,) if has_photographs(folder) else ()
    if isinstance(given, str):
        return () if given.lower() == "none" else (_existing(folder, given),)
    return tuple(_existing(folder, item) for item in given)


def _optional(folder: Path, given: str | None) -> Path | None:
    """A file of the session; `none` stays a word, which the loaders understand."""
    if given is None or given.lower() == "none":
        return None if given is None else Path("none")
    return _existing(folder, given)


def _existing(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists():
        raise InputError(path, "no such file or folder", "a file of the session", "Correct its name in the list.")
    return path

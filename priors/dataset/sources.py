"""Which sessions a data set is made of: folders, folders of folders, or a list in `dataset.yaml`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fitter.errors import InputError
from priors.dataset.session_source import LIST_NAME, NO_SCAN, SessionSource, Sources, looks_like_session
from priors.dataset.source_list import read_source_list


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

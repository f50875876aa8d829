"""What a session's training pairs depend on: the contents of its files, the settings and the versions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from priors.dataset.session_source import SessionSource

SUBFOLDERS = ("images", "images/masks", "masks", "sparse", "sparse/0", "colmap/sparse/0")
"""Folders below a session in which the loaders look for photographs, masks and cameras."""
_CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def json_sha256(content: object) -> str:
    """SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def session_files(source: SessionSource) -> dict[str, Path]:
    """All files that a session's loading may look at, by their name relative to the session's folder."""
    places = [source.folder, source.scan.parent]
    given = [source.landmarks, source.cameras]
    for path in source.photographs:
        places.append(path if path.is_dir() else path.parent)
    for path in given:
        if path is not None and path.is_dir():
            places.append(path)
    files = {path for place in places for path in _files_of(place)}
    files |= {path for path in given if path is not None and path.is_file()}
    return {_name(path, source.folder): path for path in sorted(files)}


def _files_of(place: Path) -> list[Path]:
    folders = [place, *(place / name for name in SUBFOLDERS)]
    return [
        item
        for folder in folders
        if folder.is_dir()
        for item in folder.iterdir()
        if item.is_file() and not item.name.startswith(".")
    ]


def _name(path: Path, folder: Path) -> str:
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:  # a file outside of the session's folder, named in dataset.yaml
        return path.name


def session_fingerprint(source: SessionSource, checksums: dict[str, str], settings: dict[str, Any]) -> str:
    """Checksum of everything that decides a session's tensors and records.

    Args:
        source: The session.
        checksums: Name -> SHA-256 of its files.
        settings: Configuration, model, seed, threads, versions: plain data, the same for all sessions.
    """
    chosen = [_name(source.scan, source.folder), [_name(path, source.folder) for path in source.photographs]]
    chosen += [None if path is None else _name(path, source.folder) for path in (source.landmarks, source.cameras)]
    return json_sha256([source.name, chosen, source.unit, checksums, settings])

"""Result files of single items: keyed by the contents of their inputs, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.protocols.types import Item, Outcome, Protocol, Shown
from fitter import __version__
from fitter.atomic import write_bytes


@lru_cache(maxsize=4096)
def _digest(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def content(path: Path) -> str:
    """Checksum of a file; it is read once as long as it stays the same."""
    state = path.stat()
    return _digest(str(path), state.st_size, state.st_mtime_ns)


def key_of(protocol: Protocol, item: Item) -> str:
    """What an item's result depends on, as one checksum: protocol, version, settings, contents of the files."""
    files = {role: [content(path) for path in paths] for role, paths in sorted(item.files.items())}
    record = [__version__, protocol.name, protocol.version, item.name, item.subject, item.group, item.settings, files]
    return hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=16).hexdigest()


def item_path(out: Path, item: Item) -> Path:
    """Where an item's result lies."""
    return out / "items" / f"{item.name}.npz"


def save(out: Path, item: Item, key: str, outcome: Outcome) -> None:
    """Write an outcome; the shown surface goes into a file of its own, which items with the same scan share."""
    record = {"key": key, "numbers": outcome.numbers, "notes": list(outcome.notes), "surface": None}
    if outcome.shown is not None:
        shown = outcome.shown
        arrays = {
            "vertices": shown.vertices.astype(np.float32),
            "triangles": shown.triangles.astype(np.int32),
            "axes": np.stack([shown.forward, shown.up]),
        }
        checksum = hashlib.blake2b(digest_size=12)
        for array in arrays.values():
            checksum.update(np.ascontiguousarray(array))
        record["surface"] = checksum.hexdigest()
        target = out / "surfaces" / f"{record['surface']}.npz"
        if not target.is_file():
            write_bytes(target, _npz(arrays))
    arrays = {"distances": outcome.distances.astype(np.float32), "record": np.array(json.dumps(record))}
    write_bytes(item_path(out, item), _npz(arrays))


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def load(out: Path, item: Item, key: str) -> tuple[Outcome, str | None] | None:
    """A stored outcome and the name of its surface, or None where there is none for this key."""
    path = item_path(out, item)
    try:
        with np.load(path, allow_pickle=False) as file:
            record = json.loads(str(file["record"]))
            distances = file["distances"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if record.get("key") != key:
        return None
    numbers = {name: float(value) for name, value in record["numbers"].items()}
    outcome = Outcome(item.name, item.subject, item.group, numbers, distances, None, tuple(record["notes"]))
    return outcome, record["surface"]


def load_surface(out: Path, name: str) -> Shown:
    """A shown surface by its name."""
    with np.load(out / "surfaces" / f"{name}.npz", allow_pickle=False) as file:
        axes = file["axes"]
        return Shown(file["vertices"].astype(np.float64), file["triangles"].astype(np.int64), axes[0], axes[1])

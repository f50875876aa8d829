"""The three levels of a fit as surfaces, kept in a file so that a measurement can be repeated without the fit."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import fitter
from fitter.atomic import write_bytes

LEVELS = ("M0", "M1", "M2")


@dataclass(frozen=True, eq=False)
class Levels:
    """M0, M1 and M2 of one fit, in world millimetres."""

    vertices: dict[str, np.ndarray]
    """Level -> [V, 3]; M2 has more than the others."""
    landmarks: dict[str, np.ndarray]
    """Level (M0, M1) -> [68, 3]."""
    seconds: float
    """The fit took, without reading, textures and files."""


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Checksum of the engine's source: what an older engine fitted is not taken for this one's."""
    found = hashlib.blake2b(digest_size=8)
    root = Path(fitter.__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def key_of(*content: object) -> str:
    """Checksum of plain data."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def save_levels(path: Path, levels: Levels) -> None:
    """Write, whole or not at all."""
    arrays = {f"vertices_{name}": array.astype(np.float32) for name, array in levels.vertices.items()}
    arrays |= {f"landmarks_{name}": array.astype(np.float32) for name, array in levels.landmarks.items()}
    buffer = io.BytesIO()
    np.savez(buffer, seconds=np.float64(levels.seconds), **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def read_levels(path: Path) -> Levels | None:
    """What `save_levels` wrote, or None where there is no readable file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name].astype(np.float64) for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    parts = {
        part: {name.removeprefix(f"{part}_"): array for name, array in arrays.items() if name.startswith(f"{part}_")}
        for part in ("vertices", "landmarks")
    }
    return Levels(parts["vertices"], parts["landmarks"], float(arrays["seconds"]))

"""The manifest of a data set: what is in it, where, of whom, and the checksums to prove it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fitter.errors import InputError
from priors.dataset.tensors import FORMAT, kinds_record

NAME = "manifest.json"
TIMINGS = "timings.json"
FRAMES = {
    "head": "axes and origin of the model (x to the subject's left, y up, z out of the face), millimetres of the world",
    "world": "the scan's and the cameras' frame, in millimetres",
    "head from world": "world_from_model without its scale, inverted",
    "M1": "position + deformation (sampled at the vertices), in the head frame",
    "M2": "M1 subdivided dense_levels times, moved along its normals by displacement; hidden skin stays",
    "maps": "rows go up: row 0 is v = 0, so a picture of a map has to be flipped",
    "images": "photographs and colours: textures are linear RGB, previews are sRGB-encoded",
}


@dataclass(frozen=True)
class SessionEntry:
    """A session on the way into the manifest."""

    name: str
    subject: str
    split: str
    record: dict[str, Any]
    """As its work file has it: `session` and `samples`."""
    shard: str


@dataclass(frozen=True)
class FailedSession:
    """A session that gave nothing."""

    name: str
    reason: str
    fingerprint: str | None = None
    """Of what was tried; None where there was nothing to try."""


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


def build_manifest(
    entries: list[SessionEntry],
    failed: list[FailedSession],
    shards: dict[str, dict[str, Any]],
    sheets: dict[str, str],
    common: dict[str, Any],
) -> dict[str, Any]:
    """The whole manifest as plain data, in one order whatever was finished first.

    Args:
        entries: Sessions in the order of their names.
        failed: The others, likewise.
        shards: File -> `sha256`, `bytes`, `samples`.
        sheets: File -> SHA-256.
        common: What holds for all: key, settings, fractions.
    """
    sessions, samples = [], []
    for entry in entries:
        place = {"session": entry.name, "subject": entry.subject, "split": entry.split, "shard": entry.shard}
        sessions.append(place | entry.record["session"])
        for sample in entry.record["samples"]:
            name = entry.name if sample["view"] is None else f"{entry.name}/{sample['view']}"
            samples.append({"sample": name, **place, "prefix": f"{entry.name}//", **sample})
    counts = {split: sum(sample["split"] == split for sample in samples) for split in ("train", "val", "test")}
    return {
        "format": FORMAT,
        **common,
        "counts": {"sessions": len(sessions), "samples": len(samples), **counts},
        "frames": FRAMES,
        "tensors": kinds_record(),
        "shards": shards,
        "sheets": sheets,
        "failed": [{"session": one.name, "reason": one.reason, "fingerprint": one.fingerprint} for one in failed],
        "sessions": sessions,
        "samples": samples,
    }


def to_text(manifest: dict[str, Any]) -> str:
    """The manifest as the file has it."""
    return json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check a data set's manifest.

    Raises:
        InputError: There is none, it is no manifest, or of another format.
    """
    path = folder / NAME
    made = "Make one with: hrn dataset SESSIONS OUT"
    if not path.is_file():
        raise InputError(folder, f"no {NAME}", "a data set made by hrn dataset", f"{made} (or let it finish).")
    try:
        manifest = json.loads(path.read_text("utf-8"))
        found = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(path, "no manifest that can be read", "the one of hrn dataset", made) from error
    if found != FORMAT:
        raise InputError(
            path, f"the format {found!r}", FORMAT, "Read it with the version that made it, or make it anew."
        )
    return manifest


def is_finished(folder: Path, key: str) -> bool:
    """Whether a folder holds the whole data set of this key: the manifest, and every file as long as it says."""
    try:
        manifest = read_manifest(folder)
        if manifest["key"] != key:
            return False
        sizes = {name: shard["bytes"] for name, shard in manifest["shards"].items()}
        return all((folder / name).stat().st_size == size for name, size in sizes.items()) and all(
            (folder / name).is_file() for name in manifest["sheets"]
        )
    except (InputError, OSError, KeyError, TypeError):
        return False

"""From work files to the data set: shards, sheets, and last the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from fitter.atomic import write_bytes, write_text
from priors.dataset.fingerprint import file_sha256
from priors.dataset.manifest import NAME, FailedSession, SessionEntry, build_manifest, shard_name, to_text
from priors.dataset.sheets import ROWS, draw_sheet, sheet_name
from priors.dataset.tensors import FORMAT


@dataclass(frozen=True)
class ReadySession:
    """A session whose work file is there."""

    name: str
    subject: str
    split: str
    record: dict[str, Any]
    path: Path


@dataclass(frozen=True)
class ShardLimits:
    """When a shard is full. A session is never divided, so one that is larger has a shard of its own."""

    samples: int = 512
    megabytes: int = 256


def divide(ready: Sequence[ReadySession], limits: ShardLimits) -> list[list[ReadySession]]:
    """Sessions of every shard: in the given order, each shard as full as the limits allow."""
    groups: list[list[ReadySession]] = []
    count = size = 0
    for session in ready:
        samples, length = len(session.record["samples"]), session.record["bytes"]
        full = count + samples > limits.samples or size + length > limits.megabytes * 1_000_000
        if not groups or full:
            groups.append([])
            count = size = 0
        groups[-1].append(session)
        count, size = count + samples, size + length
    return groups


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a work file or shard."""
    with safe_open(str(path), framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


def remove_outputs(out: Path) -> None:
    """Take away a former data set, the manifest first, so that what is left never looks whole."""
    (out / NAME).unlink(missing_ok=True)
    for pattern in ("shard-*.safetensors", "sheet-*.png", ".*.part.*"):
        for path in out.glob(pattern):
            path.unlink(missing_ok=True)


def assemble(
    out: Path,
    ready: Sequence[ReadySession],
    failed: list[FailedSession],
    limits: ShardLimits,
    common: dict[str, Any],
    *,
    sheets: bool,
    on_part: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Write shards, sheets and manifest of sessions in the order of their names; the same bytes every time.

    Args:
        out: The data set's folder.
        ready: All sessions that have a work file.
        failed: Those that have none.
        limits: Of a shard.
        common: What the manifest says of all.
        sheets: Whether to draw them.
        on_part: Told the fraction that is done.
    """
    remove_outputs(out)
    shards: dict[str, dict[str, Any]] = {}
    entries: list[SessionEntry] = []
    groups = divide(ready, limits)
    for number, group in enumerate(groups):
        name = shard_name(number)
        shards[name] = _write_shard(out / name, group)
        entries += [SessionEntry(s.name, s.subject, s.split, s.record, name) for s in group]
        on_part((number + 1) / len(groups) * (0.5 if sheets else 1.0))
    manifest = build_manifest(entries, failed, shards, {}, common)
    if sheets:
        for name, digest, fraction in _write_sheets(out, manifest):
            manifest["sheets"][name] = digest
            on_part(0.5 + 0.5 * fraction)
    write_text(out / NAME, to_text(manifest))


def _write_shard(path: Path, group: Sequence[ReadySession]) -> dict[str, Any]:
    """Write one shard; its bytes, SHA-256 and number of samples."""
    tensors: dict[str, Tensor] = {}
    for session in group:
        tensors |= read_tensors(session.path)
    # One entry of metadata only: with more, their order in the file would change from run to run.
    data = save(tensors, metadata={"format": FORMAT})
    write_bytes(path, data)
    samples = sum(len(session.record["samples"]) for session in group)
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "samples": samples}


def _write_sheets(out: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Draw all sheets; name, SHA-256 and the fraction done after each."""
    samples = manifest["samples"]
    records = {entry["session"]: entry for entry in manifest["sessions"]}
    starts = range(0, len(samples), ROWS)
    for number, start in enumerate(starts):
        rows = []
        for sample in samples[start : start + ROWS]:
            with safe_open(str(out / sample["shard"]), framework="pt") as file:
                tensors = {name: file.get_tensor(key) for name, key in sample["tensors"].items()}
            rows.append((sample, records[sample["session"]], tensors))
        name = sheet_name(number)
        write_bytes(out / name, draw_sheet(rows))
        yield name, file_sha256(out / name), (number + 1) / len(starts)

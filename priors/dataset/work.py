"""Work files: what one session has become, kept in OUT/work until the data set is put together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from fitter.atomic import write_bytes, write_text
from priors.dataset.tensors import FORMAT

FOLDER = "work"
_STEM_LENGTH = 40


def work_path(out: Path, session: str, fingerprint: str) -> Path:
    """Where a session's work file lies; another fingerprint is another file."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", session)[:_STEM_LENGTH]
    return out / FOLDER / f"{readable}-{fingerprint[:20]}.safetensors"


def failure_path(path: Path) -> Path:
    """Where it says, in place of the work file `path`, why there is none."""
    return path.with_suffix(".failed.json")


def write_work(path: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Write a session's tensors and its record, whole or not at all."""
    held = {key: tensor.contiguous() for key, tensor in tensors.items()}
    header = {"format": FORMAT, "bytes": sum(tensor.nbytes for tensor in held.values()), **record}
    write_bytes(path, save(held, metadata={"record": json.dumps(header)}))


def read_record(path: Path) -> dict[str, Any] | None:
    """A work file's record, or None where there is none that can be used."""
    try:
        with safe_open(str(path), framework="pt") as file:
            record = json.loads((file.metadata() or {})["record"])
    except Exception:  # A damaged work file only costs the time to fit again.
        return None
    return record if record.get("format") == FORMAT else None


def write_failure(path: Path, reason: str) -> None:
    """Keep why a session gave nothing."""
    write_text(failure_path(path), json.dumps({"format": FORMAT, "reason": reason}))


def read_failure(path: Path) -> str | None:
    """Why a session gave nothing, or None where it has not failed."""
    try:
        kept = json.loads(failure_path(path).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return kept["reason"] if kept.get("format") == FORMAT else None

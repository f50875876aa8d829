"""The resumable state of a fit: after every stage, what was found and what made it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save

from fitter.atomic import write_bytes
from fitter.hierarchy.face import FaceState
from fitter.optimise.problem import StageLog
from fitter.optimise.run import FinishedStage

NAME = "state.safetensors"


def fingerprint(content: object) -> str:
    """Checksum of what a fit depends on; a checkpoint of another fingerprint is not continued."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def save_checkpoint(folder: Path, state: FaceState, finished: list[FinishedStage], key: str) -> None:
    """Keep the state after the stages in `finished`."""
    header = {"key": key, "finished": json.dumps([asdict(stage) for stage in finished])}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.tensors().items()}
    # Written by ourselves: safetensors' own writer hides a full disk behind an error of its own.
    write_bytes(folder / NAME, save(tensors, metadata=header))


def load_checkpoint(folder: Path, key: str) -> tuple[FaceState, list[FinishedStage]] | None:
    """The state of an interrupted fit with the same fingerprint, or None."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            if header.get("key") != key:
                return None
            state = FaceState(**{name: file.get_tensor(name) for name in file.keys()})
        finished = [_finished(entry) for entry in json.loads(header["finished"])]
    except Exception:  # A damaged checkpoint only costs the time to fit again.
        return None
    return state, finished


def _finished(entry: dict) -> FinishedStage:
    log = entry["log"]
    log["energies"] = {name: tuple(pair) for name, pair in log["energies"].items()}
    return FinishedStage(entry["name"], entry["seconds"], StageLog(**log))

"""What a former data set in the same folder already holds goes back into work files, so that it is not fitted again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from fitter.errors import InputError
from priors.dataset.fingerprint import file_sha256
from priors.dataset.manifest import read_manifest
from priors.dataset.work import failure_path, work_path, write_failure, write_work

PLACE = ("session", "subject", "split", "shard")
"""What the manifest adds to a session's record, and `sample` and `prefix` to a sample's."""


def adopt(out: Path, fingerprints: dict[str, str], *, with_failures: bool) -> int:
    """Bring sessions of the folder's finished data set back into work files.

    Args:
        out: The data set's folder; nothing happens where it holds none.
        fingerprints: Session -> what it should have been made of; others are not brought back.
        with_failures: Whether sessions that failed are left as failed.

    Returns:
        How many sessions were brought back.
    """
    try:
        manifest = read_manifest(out)
        sessions = [
            entry for entry in manifest["sessions"] if fingerprints.get(entry["session"]) == entry["fingerprint"]
        ]
        wanted = [entry for entry in sessions if not work_path(out, entry["session"], entry["fingerprint"]).is_file()]
        if with_failures:
            _keep_failures(out, manifest, fingerprints)
        intact = {
            name
            for name in {entry["shard"] for entry in wanted}
            if (out / name).is_file() and file_sha256(out / name) == manifest["shards"][name]["sha256"]
        }
        kept = [entry for entry in wanted if entry["shard"] in intact]
        for entry in kept:
            _bring_back(out, manifest, entry)
    except (InputError, LookupError, TypeError):  # no data set, or one that is of no use: everything is made anew
        return 0
    return len(kept)


def _bring_back(out: Path, manifest: dict[str, Any], entry: dict[str, Any]) -> None:
    """Write the work file of a session from its shard."""
    samples = [
        {name: value for name, value in sample.items() if name not in (*PLACE, "sample", "prefix")}
        for sample in manifest["samples"]
        if sample["session"] == entry["session"]
    ]
    keys = sorted({key for sample in samples for key in sample["tensors"].values()})
    with safe_open(str(out / entry["shard"]), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in keys}
    session = {name: value for name, value in entry.items() if name not in PLACE}
    write_work(
        work_path(out, entry["session"], entry["fingerprint"]), tensors, {"session": session, "samples": samples}
    )


def _keep_failures(out: Path, manifest: dict[str, Any], fingerprints: dict[str, str]) -> None:
    for entry in manifest["failed"]:
        name, found = entry["session"], entry.get("fingerprint")
        if found is None or fingerprints.get(name) != found:
            continue
        path = work_path(out, name, found)
        if not path.is_file() and not failure_path(path).is_file():
            write_failure(path, entry["reason"])

"""Result files: what was measured, when, on what, with which version; in `benchmarks/results`."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

from fitter import __version__
from fitter.atomic import write_text

RESULTS = Path(__file__).parent / "results"


def device_name(device: str = "cpu") -> str:
    """Processor and cores, or the GPU's name."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def result_path(name: str, device: str = "cpu") -> Path:
    """Where a benchmark's result lies: `NAME.json`, and on a GPU `NAME-GPU.json`."""
    if not device.startswith("cuda"):
        return RESULTS / f"{name}.json"
    gpu = "-".join(device_name(device).lower().replace("nvidia", "").split())
    return RESULTS / f"{name}-{gpu}.json"


def headed(benchmark: str, content: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    """A record with the benchmark's name, date, version and device before its content."""
    head = {
        "benchmark": benchmark,
        "date": datetime.date.today().isoformat(),
        "version": __version__,
        "device": device_name(device),
    }
    return head | content


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a result file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1) + "\n")


def read_record(path: Path) -> dict[str, Any] | None:
    """A result file, or None where there is none."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else None

"""Rendered light of a capture, kept so that other sensors can photograph it without rendering it again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np


def kept_radiance(path: Path, render: Callable[[], Sequence[np.ndarray]]) -> np.ndarray:
    """Linear RGB of all views [K, H, W, 3] from a file, or rendered and written to it (half precision).

    Args:
        path: File (.npz) in a folder that may not exist yet.
        render: Gives the views' pictures where the file is missing.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.npz")
        try:
            np.savez_compressed(temporary, radiance=np.stack(render()).astype(np.float16))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    with np.load(path) as found:
        return found["radiance"].astype(np.float64)

"""Supervised maps: from scanned sessions to training pairs in files, and back. See docs/dataset.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from priors.dataset.supervised_maps import SupervisedMaps

__all__ = ["SupervisedMaps"]


def __getattr__(name: str):
    """Import the reader when it is asked for: worker processes need none of it before they have their work."""
    if name == "SupervisedMaps":
        from priors.dataset.supervised_maps import SupervisedMaps

        return SupervisedMaps
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Supervised maps: from scanned sessions to training pairs in files, and back. See docs/dataset.md."""

from priors.dataset.supervised_maps import SupervisedMaps

__all__ = ["SupervisedMaps"]

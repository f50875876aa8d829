"""Rigid alignment of a scanned face to the model: with landmarks, or found by itself in any pose."""

from fitter.alignment.align import Alignment, align_scan

__all__ = ["Alignment", "align_scan"]

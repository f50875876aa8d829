"""Distances between a fitted face and a scan: the measurements behind `hrn compare`."""

from fitter.compare.align import Similarity, icp, procrustes
from fitter.compare.metrics import SurfaceScore, score_points
from fitter.compare.run import Comparison, compare_fit
from fitter.compare.scan import Scan, load_scan
from fitter.compare.surface import Surface

__all__ = [
    "Comparison",
    "Scan",
    "Similarity",
    "Surface",
    "SurfaceScore",
    "compare_fit",
    "icp",
    "load_scan",
    "procrustes",
    "score_points",
]

"""report.html: what went in, what came out, and where to be careful."""

from fitter.export.report.page import build_report

__all__ = ["build_report"]

"""Measurements of the engine: accuracy, speed, memory; generated subjects; published protocols."""

import fitter  # noqa: F401 - before torch: it sets how long torch's threads spin, see there

"""Scans in: read, cleaned, brought to millimetres, judged, and thinned where they are finer than a fit can use."""

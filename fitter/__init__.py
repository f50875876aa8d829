"""Analysis-by-synthesis fitting of hierarchical faces."""

import os as _os

# torch and numba each bring a pool of threads that wait by spinning. Spinning long, the pools starve each other and other
# programs as soon as cores are shared; not at all, every short operation pays for waking a thread (a fit took 15.8 s
# instead of 11.9). A short spin does neither. Read when the pools start, so it has to stand before their import.
if "OMP_WAIT_POLICY" not in _os.environ:
    _os.environ.setdefault("GOMP_SPINCOUNT", "20000")

__version__ = "0.1.0"

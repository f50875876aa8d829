"""Analysis-by-synthesis fitting of hierarchical faces."""

import os as _os

# torch and numba each bring a thread pool; spinning pools starve each other when cores are shared. Read at their import.
_os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

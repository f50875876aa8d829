"""Analysis-by-synthesis fitting of hierarchical faces."""

__version__ = "0.1.0"

"""Hand-written kernels, the only ones in the project, each with a torch twin that the tests compare."""

from .registry import available_backends, choose_backend, load_backend
from .surface import basis_product, vertex_normals

__all__ = ["available_backends", "basis_product", "choose_backend", "load_backend", "vertex_normals"]

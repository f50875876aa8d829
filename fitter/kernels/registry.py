"""Which backends there are, and which one a device gets."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from fitter.errors import InputError, MissingPartError

BACKENDS = ("numba_cpu", "torch_reference", "warp_cuda", "nvdiffrast_cuda")
BACKEND_VARIABLE = "HRN_RENDERER"
"""Environment variable: the backend to take, instead of the default, on the kinds of device that it runs on."""
RUNS_ON = {"numba_cpu": ("cpu",), "warp_cuda": ("cuda", "cpu"), "nvdiffrast_cuda": ("cuda",)}
"""Kinds of device of each backend; the reference runs anywhere. Warp also compiles for the host, on one core: the tests
use it there."""
_log = logging.getLogger(__name__)


class Backend(Protocol):
    """What every backend offers; all backends agree within float32 and a few pixels on triangle borders."""

    name: str

    def rasterize(self, clip: Tensor, topology, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]: ...

    def interpolate(self, attributes: Tensor, topology, ids: Tensor, barycentric: Tensor) -> Tensor: ...

    def sample(
        self, pyramid: Tensor, shapes: Tensor, uv: Tensor, levels: Tensor | None, ids: Tensor | None
    ) -> Tensor: ...

    def antialias(self, colour: Tensor, topology, ids: Tensor, depth: Tensor, clip: Tensor) -> Tensor: ...

    def vertex_normals(self, vertices: Tensor, topology) -> Tensor: ...

    def basis_product(self, basis: Tensor, coefficients: Tensor) -> Tensor: ...


@lru_cache(maxsize=1)
def available_backends() -> tuple[str, ...]:
    """Names of the backends that can run here, in order of preference within a device."""
    has_cuda = torch.cuda.is_available()
    names = []
    if importlib.util.find_spec("numba") is not None:
        names.append("numba_cpu")
    if importlib.util.find_spec("warp") is not None:
        names.append("warp_cuda")
    if has_cuda and importlib.util.find_spec("nvdiffrast") is not None:
        names.append("nvdiffrast_cuda")
    names.append("torch_reference")
    return tuple(names)


_REMEDY = {
    "numba_cpu": "Install it with `pip install numba`.",
    "warp_cuda": "Install it with `pip install warp-lang`.",
    "nvdiffrast_cuda": "It needs a CUDA device and nvdiffrast, installed from its own repository (research licence).",
}


def choose_backend(device: torch.device | str, name: str | None = None) -> str:
    """Name of the backend for tensors on `device`.

    Args:
        device: Where the tensors are.
        name: A backend asked for by name; None takes the one that `$HRN_RENDERER` names, else the default.

    Raises:
        ValueError: If there is no backend of that name, or it does not run on the device.
        MissingPartError: If its package is missing.
    """
    device_type = torch.device(device).type
    if name is None:
        return _default_backend(device_type)
    if name not in BACKENDS:
        raise ValueError(f"no rendering backend is called {name!r}; there are {', '.join(BACKENDS)}")
    if name not in available_backends():
        raise MissingPartError(name, f"rendering on {device_type}", _REMEDY[name])
    fits = RUNS_ON.get(name)
    if fits is not None and device_type not in fits:
        raise ValueError(f"backend {name} runs on {' and '.join(fits)}, the tensors are on {device_type}")
    return name


@lru_cache(maxsize=8)
def _default_backend(device_type: str) -> str:
    """The backend for a kind of device; said once in the log.

    On CUDA that is Warp: nvdiffrast gains no time beside our silhouettes, and places corners more coarsely.
    """
    named = os.environ.get(BACKEND_VARIABLE)
    if named:
        if named not in BACKENDS:
            raise InputError(BACKEND_VARIABLE, named, " or ".join(BACKENDS), "Correct the variable, or unset it.")
        if device_type in RUNS_ON.get(named, (device_type,)):
            return choose_backend(device_type, named)
    wanted = {"cpu": ("numba_cpu",), "cuda": ("warp_cuda", "nvdiffrast_cuda")}.get(device_type, ())
    chosen = next((name for name in wanted if name in available_backends()), "torch_reference")
    _log.info("rendering on %s with %s", device_type, chosen)
    return chosen


@lru_cache(maxsize=8)
def load_backend(name: str) -> Backend:
    """Import a backend; `choose_backend` says whether it is there."""
    if name in ("numba_cpu", "warp_cuda"):
        from .autograd import KernelBackend

        return KernelBackend(name, importlib.import_module(f"fitter.kernels.{name}"))
    return importlib.import_module(f"fitter.kernels.{name}").Backend()

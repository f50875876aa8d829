"""Adapter to nvdiffrast (research licence, not on PyPI), used on CUDA where the user has installed it.

Rasterization, interpolation and bilinear lookups are nvdiffrast's; mip-mapped lookups, the silhouette antialiasing
(edge walk), normals and the basis product are ours. Written from nvdiffrast's public documentation: its fragments are
(u, v, z/w, triangle number + 1) per pixel, zero in the background. Which corners u and v weigh, and which image row
y = -1 is, is found by rasterizing one known triangle.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from fitter.errors import MissingPartError

from .registry import available_backends, load_backend
from .torch_reference.raster import rasterize as reference_rasterize

if TYPE_CHECKING:
    from fitter.kernels.topology import MeshTopology

MAX_TRIANGLES = 2**24  # nvdiffrast hands triangle numbers over as float32


class Conventions(NamedTuple):
    """How nvdiffrast's fragments relate to ours."""

    flipped: bool
    """True if its row 0 is our last row."""
    first: int
    """Corner that its u weighs."""
    second: int
    """Corner that its v weighs."""


def _nvdiffrast():
    """The package, imported late."""
    try:
        import nvdiffrast.torch as package
    except ImportError as error:
        raise MissingPartError(
            "nvdiffrast", "the nvdiffrast_cuda backend", "Install it from its repository, or use warp_cuda."
        ) from error
    return package


@lru_cache(maxsize=8)
def _context(device: torch.device):
    """One rasterizer context per device."""
    return _nvdiffrast().RasterizeCudaContext(device=device)


@lru_cache(maxsize=8)
def find_conventions(device: torch.device) -> Conventions:
    """Rasterize one lopsided triangle both ways and see how the results map onto each other.

    Raises:
        MissingPartError: If no mapping fits, that is, if this nvdiffrast is not the one documented.
    """
    from fitter.kernels.topology import MeshTopology

    clip = torch.tensor([[[-0.9, -0.7, 0.0, 1.0], [0.8, -0.5, 0.0, 1.0], [-0.4, 0.3, 0.0, 1.0]]], device=device)
    topology = MeshTopology.from_triangles(torch.tensor([[0, 1, 2]], device=device))
    ids, weights, _ = reference_rasterize(clip, topology, (32, 32))
    inside = ids >= 0
    all_weights = torch.cat([weights, 1.0 - weights.sum(-1, keepdim=True)], dim=-1)
    found, _ = _nvdiffrast().rasterize(_context(device), clip, topology.triangles, resolution=[32, 32])
    for flipped in (False, True):
        theirs = found.flip(1) if flipped else found
        both = inside & (theirs[..., 3] > 0)
        if both.sum() < 0.9 * inside.sum():
            continue
        for first, second in itertools.permutations(range(3), 2):
            expected = all_weights[..., [first, second]]
            if (theirs[..., :2] - expected)[both].abs().max() < 1e-2:
                return Conventions(flipped, first, second)
    raise MissingPartError("nvdiffrast", "the nvdiffrast_cuda backend", "Its fragments are not as documented.")


class Backend:
    """The operations on top of nvdiffrast."""

    name = "nvdiffrast_cuda"

    def __init__(self) -> None:
        self._dr = _nvdiffrast()
        self._own = load_backend("warp_cuda" if "warp_cuda" in available_backends() else "torch_reference")

    def rasterize(self, clip: Tensor, topology: MeshTopology, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Triangle id, barycentric and z/w images of clip [B, V, 4]."""
        if topology.n_triangles >= MAX_TRIANGLES:
            raise ValueError(f"nvdiffrast_cuda takes up to {MAX_TRIANGLES} triangles, got {topology.n_triangles}")
        conventions = find_conventions(clip.device)
        fragments, _ = self._dr.rasterize(
            _context(clip.device), clip.contiguous(), topology.triangles, resolution=list(size), grad_db=False
        )
        if conventions.flipped:
            fragments = fragments.flip(1)
        ids = fragments[..., 3].detach().round().int() - 1
        visible = ids >= 0
        depth = torch.where(visible, fragments[..., 2].detach(), 1.0)
        weights = {conventions.first: fragments[..., 0], conventions.second: fragments[..., 1]}
        for corner in (0, 1):
            if corner not in weights:
                weights[corner] = 1.0 - fragments[..., 0] - fragments[..., 1]
        barycentric = torch.stack([weights[0], weights[1]], dim=-1)
        return ids, torch.where(visible[..., None], barycentric, 0.0), depth

    def interpolate(self, attributes: Tensor, topology: MeshTopology, ids: Tensor, barycentric: Tensor) -> Tensor:
        """Attributes [B or 1, V, C] at the pixels."""
        conventions = find_conventions(ids.device)
        corners = torch.cat([barycentric, 1.0 - barycentric.sum(-1, keepdim=True)], dim=-1)
        weights = corners[..., [conventions.first, conventions.second]]
        number = (ids + 1)[..., None].to(weights.dtype)
        fragments = torch.cat([weights, torch.zeros_like(number), number], dim=-1).contiguous()
        return self._dr.interpolate(attributes.contiguous(), fragments, topology.triangles)[0]

    def sample(self, pyramid: Tensor, shapes: Tensor, uv: Tensor, levels: Tensor | None, ids: Tensor | None) -> Tensor:
        """Samples of a flattened mip pyramid [B or 1, texels, C] at uv [B, H, W, 2]."""
        if levels is not None:
            # Its pyramids must halve exactly; ours take any size.
            return self._own.sample(pyramid, shapes, uv, levels, ids)
        _, rows, columns = shapes[0].tolist()
        texture = pyramid.unflatten(1, (rows, columns)).contiguous()
        out = self._dr.texture(texture, uv.contiguous(), filter_mode="linear", boundary_mode="clamp")
        return out if ids is None else out * (ids >= 0)[..., None]

    def antialias(self, colour: Tensor, topology: MeshTopology, ids: Tensor, depth: Tensor, clip: Tensor) -> Tensor:
        """Colour blended across silhouettes by our edge walk."""
        return self._own.antialias(colour, topology, ids, depth, clip)

    def vertex_normals(self, vertices: Tensor, topology: MeshTopology) -> Tensor:
        """Area-weighted unit normals [B, V, 3]."""
        return self._own.vertex_normals(vertices, topology)

    def basis_product(self, basis: Tensor, coefficients: Tensor) -> Tensor:
        """[N] product of a constant basis [N, K] and coefficients [K]."""
        return self._own.basis_product(basis, coefficients)

"""The renderer in plain torch: any device, any float type, differentiable by autograd. The oracle of the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .antialias import antialias as _antialias
from .raster import rasterize as _rasterize

if TYPE_CHECKING:
    from fitter.kernels.topology import MeshTopology


class Backend:
    """The four operations, the vertex normals and the basis product without kernels."""

    name = "torch_reference"

    def rasterize(self, clip: Tensor, topology: MeshTopology, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Triangle id, barycentric and z/w images of clip [B, V, 4]."""
        return _rasterize(clip, topology, size)

    def interpolate(self, attributes: Tensor, topology: MeshTopology, ids: Tensor, barycentric: Tensor) -> Tensor:
        """Attributes [B or 1, V, C] at the pixels, zero in the background."""
        n_views = ids.shape[0]
        view = torch.arange(n_views, device=ids.device) if attributes.shape[0] > 1 else ids.new_zeros(n_views).long()
        corners = attributes[view[:, None, None, None], topology.triangles.long()[ids.long().clamp_min(0)]]
        weights = torch.cat([barycentric, 1.0 - barycentric.sum(-1, keepdim=True)], dim=-1)
        return (corners * weights[..., None]).sum(-2) * (ids >= 0)[..., None]

    def sample(self, pyramid: Tensor, shapes: Tensor, uv: Tensor, levels: Tensor | None, ids: Tensor | None) -> Tensor:
        """Samples of a flattened mip pyramid [B or 1, texels, C] at uv [B, H, W, 2], zero where ids is -1."""
        if levels is None:
            out = _bilinear(pyramid, shapes[torch.zeros(uv.shape[:-1], dtype=torch.long, device=uv.device)], uv)
        else:
            level = levels.clamp(0, len(shapes) - 1)
            low = level.floor().long()
            high = (low + 1).clamp_max(len(shapes) - 1)
            blend = (level - low)[..., None]
            out = _bilinear(pyramid, shapes[low], uv) * (1.0 - blend) + _bilinear(pyramid, shapes[high], uv) * blend
        return out if ids is None else out * (ids >= 0)[..., None]

    def antialias(self, colour: Tensor, topology: MeshTopology, ids: Tensor, depth: Tensor, clip: Tensor) -> Tensor:
        """Colour blended across silhouettes."""
        return _antialias(colour, topology, ids, depth, clip)

    def vertex_normals(self, vertices: Tensor, topology: MeshTopology) -> Tensor:
        """Area-weighted unit normals [B, V, 3]."""
        triangles = topology.triangles.long()
        a, b, c = (vertices[:, triangles[:, k]] for k in range(3))
        cross = torch.linalg.cross(b - a, c - a)
        total = torch.zeros_like(vertices)
        for k in range(3):
            total = total.index_add(1, triangles[:, k], cross)
        return torch.nn.functional.normalize(total, dim=-1, eps=torch.finfo(vertices.dtype).tiny)

    def basis_product(self, basis: Tensor, coefficients: Tensor) -> Tensor:
        """[N] product of a basis [N, K] and coefficients [K]."""
        return basis @ coefficients


def _bilinear(pyramid: Tensor, shape: Tensor, uv: Tensor) -> Tensor:
    """Bilinear samples from the level whose (offset, height, width) `shape` [B, H, W, 3] gives for every pixel."""
    offset, rows, columns = shape.long().unbind(-1)
    x = (uv[..., 0] * columns - 0.5).clamp_min(0.0).minimum((columns - 1).to(uv.dtype))
    y = (uv[..., 1] * rows - 0.5).clamp_min(0.0).minimum((rows - 1).to(uv.dtype))
    x0, y0 = x.detach().long(), y.detach().long()
    x1, y1 = torch.minimum(x0 + 1, columns - 1), torch.minimum(y0 + 1, rows - 1)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    view = torch.arange(uv.shape[0], device=uv.device) if pyramid.shape[0] > 1 else torch.zeros_like(x0[:, 0, 0])
    view = view[:, None, None]

    def texel(row: Tensor, column: Tensor) -> Tensor:
        return pyramid[view, offset + row * columns + column]

    bottom = texel(y0, x0) * (1 - fx) + texel(y0, x1) * fx
    top = texel(y1, x0) * (1 - fx) + texel(y1, x1) * fx
    return bottom * (1 - fy) + top * fy

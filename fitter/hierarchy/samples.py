"""Samples of the surface: one per texel of a grid over the atlas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from fitter.kernels.topology import MeshTopology
from fitter.model.morphable import MorphableModel
from fitter.render.operations import rasterize


@dataclass(frozen=True)
class SurfaceSamples:
    """The texels of a square grid over the atlas that lie on a triangle, as barycentric points of the mesh."""

    resolution: int
    """S: samples per side."""
    texel: Tensor
    """[K] int64: row * S + column of each sample."""
    vertices: Tensor
    """[K, 3] int64 corner vertices."""
    weights: Tensor
    """[K, 3] barycentric weights."""
    usable: Tensor
    """[K] bool: on skin that the maps may move (not lips' inside, not eye sockets)."""

    @property
    def count(self) -> int:
        """Number of samples K."""
        return self.texel.shape[0]

    def interpolate(self, attributes: Tensor) -> Tensor:
        """Values [..., K, C] of vertex attributes [..., V, C]."""
        if attributes.ndim == 2:
            # One pass over the samples instead of six.
            return embedding_bag(
                self.vertices, attributes, per_sample_weights=self.weights.to(attributes.dtype), mode="sum"
            )
        corners = (attributes.index_select(-2, self.vertices[:, k]) * self.weights[:, k, None] for k in range(3))
        return sum(corners)

    def to_grid(self, values: Tensor) -> Tensor:
        """Spread [K, ...] over the grid: [S, S, ...], zero where there is no sample."""
        grid = values.new_zeros(self.resolution * self.resolution, *values.shape[1:])
        grid[self.texel] = values
        return grid.unflatten(0, (self.resolution, self.resolution))

    def from_grid(self, grid: Tensor) -> Tensor:
        """[S, S, ...] -> [K, ...]."""
        return grid.flatten(0, 1)[self.texel]


@lru_cache(maxsize=8)
def surface_samples(model: MorphableModel, resolution: int) -> SurfaceSamples:
    """Samples of M1 on an S × S grid over the atlas; made once and kept."""
    return rasterise_atlas(model.atlas_uv, model.atlas_triangles, model.hidden, resolution)


def rasterise_atlas(uv: Tensor, triangles: Tensor, hidden: Tensor, resolution: int) -> SurfaceSamples:
    """Find the triangle under every texel centre (row 0 is v = 0).

    Args:
        uv: [V, 2] atlas coordinates.
        triangles: [F, 3] triangles of the atlas, none over another.
        hidden: [V] bool: vertices that no photograph should be asked about.
        resolution: S texels per side.
    """
    clip = torch.cat([uv * 2.0 - 1.0, torch.zeros_like(uv[:, :1]), torch.ones_like(uv[:, :1])], -1)
    topology = MeshTopology.from_triangles(triangles, uv.shape[0])
    fragments = rasterize(clip[None], topology, (resolution, resolution))
    triangle = fragments.triangle_id[0].flatten().long()
    texel = torch.nonzero(triangle >= 0).flatten()
    corners = triangles[triangle[texel]]
    first_two = fragments.barycentric[0].flatten(0, 1)[texel]
    weights = torch.cat([first_two, 1.0 - first_two.sum(-1, keepdim=True)], -1)
    return SurfaceSamples(resolution, texel, corners, weights.detach(), ~hidden[corners].any(-1))

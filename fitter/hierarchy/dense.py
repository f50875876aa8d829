"""M2 as a mesh: M1 subdivided, so that it can carry the displacement map."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import scipy.sparse as sp
import torch
from torch import Tensor

from fitter.hierarchy.grid import sample_map
from fitter.hierarchy.samples import SurfaceSamples, rasterise_atlas
from fitter.kernels.surface import vertex_normals
from fitter.kernels.topology import MeshTopology
from fitter.model.morphable import MorphableModel
from fitter.model.subdivide import loop_subdivision, midpoint_subdivision


@dataclass(frozen=True, eq=False)
class DenseSurface:
    """The fixed part of a subdivided model: one per model and number of subdivisions."""

    matrix: Tensor
    """[Vd, V] sparse, by rows on the CPU: Loop subdivision of vertex positions."""
    topology: MeshTopology
    triangles: Tensor
    """[Fd, 3] int64."""
    uv: Tensor
    """[Vd, 2] atlas coordinates."""
    atlas_triangles: Tensor
    """[Fa, 3] int64 triangles that the maps act on."""
    displaced: Tensor
    """[Vd] 1 on the skin that the displacement moves, 0 elsewhere."""
    hidden: Tensor
    """[Vd] bool: eye sockets, inside of the mouth, tongue."""

    @property
    def outer_triangles(self) -> Tensor:
        """[Fd', 3] int64: those that can be seen; as `MorphableModel.outer_triangles`."""
        return self.triangles[~self.hidden[self.triangles].all(1)]

    def positions(self, vertices: Tensor) -> Tensor:
        """Subdivide M1 [V, 3]: the base [Vd, 3] that the displacement starts from."""
        return torch.sparse.mm(self.matrix, vertices)

    def displace(self, vertices: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """M2 from M1 [V, 3] and a displacement map [S, S], mm.

        Returns:
            Vertices [Vd, 3] and unit normals [Vd, 3].
        """
        base = self.positions(vertices)
        normals = vertex_normals(base[None], self.topology)[0]
        amount = sample_map(displacement[None], self.uv) * self.displaced[:, None]
        moved = base + normals * amount
        return moved, vertex_normals(moved[None], self.topology)[0]


@lru_cache(maxsize=4)
def _subdivided(model: MorphableModel, levels: int) -> DenseSurface:
    triangles, count = model.triangles.cpu().numpy(), model.vertex_count
    matrix, linear = None, None
    for _ in range(levels):
        size = count if matrix is None else matrix.shape[0]
        smooth, finer = loop_subdivision(triangles, size)
        straight, _ = midpoint_subdivision(triangles, size)
        matrix = smooth if matrix is None else smooth @ matrix
        linear = straight if linear is None else straight @ linear
        triangles = finer
    like = model.mean
    if matrix is None:
        matrix = linear = sp.identity(count, format="csr")
    sparse, straight_tensor = (_to_torch(m, like) for m in (matrix, linear))
    hidden = model.hidden
    flags = torch.stack([model.regions["skin"] & ~hidden, hidden, model.regions["skin"]], -1).to(like)
    flags = torch.sparse.mm(straight_tensor, flags)
    all_triangles = torch.from_numpy(triangles).to(like.device)
    skin, hidden = flags[:, 2] > 0.99, flags[:, 1] > 0.5
    in_atlas = skin[all_triangles].all(1) & ~hidden[all_triangles].all(1)
    dense_count = sparse.shape[0]
    return DenseSurface(
        matrix=sparse,
        topology=MeshTopology.from_triangles(all_triangles, dense_count),
        triangles=all_triangles,
        uv=torch.sparse.mm(straight_tensor, model.atlas_uv),
        atlas_triangles=all_triangles[in_atlas],
        displaced=flags[:, 0],
        hidden=hidden,
    )


def _to_torch(matrix: sp.csr_matrix, like: Tensor) -> Tensor:
    """A scipy sparse matrix as torch's: by rows on the CPU (six times as fast there), by coordinates elsewhere."""
    if like.device.type == "cpu":
        rows, columns = (torch.from_numpy(part.astype("int64")) for part in (matrix.indptr, matrix.indices))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                rows, columns, torch.from_numpy(matrix.data), matrix.shape, dtype=like.dtype, check_invariants=False
            )
    coordinates = matrix.tocoo()
    index = torch.stack([torch.from_numpy(part.astype("int64")) for part in (coordinates.row, coordinates.col)])
    found = torch.sparse_coo_tensor(
        index, torch.from_numpy(coordinates.data), coordinates.shape, check_invariants=False
    ).coalesce()
    return found.to(like)


def dense_surface(model: MorphableModel, levels: int) -> DenseSurface:
    """The subdivided model; built once and kept."""
    return _subdivided(model, levels)


@lru_cache(maxsize=4)
def dense_samples(surface: DenseSurface, resolution: int) -> SurfaceSamples:
    """Samples of the dense mesh on an S × S grid over the atlas; made once and kept."""
    return rasterise_atlas(surface.uv, surface.atlas_triangles, surface.hidden, resolution)

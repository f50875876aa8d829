"""torch.autograd wrappers around raw kernels (numba or Warp): one set of gradients for both."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from fitter.kernels.topology import MeshTopology


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, clip, kernels, topology, size):
        ids, barycentric, depth = kernels.rasterize_forward(clip.detach(), topology, size)
        ctx.save_for_backward(clip, ids)
        ctx.kernels, ctx.topology = kernels, topology
        ctx.mark_non_differentiable(ids, depth)
        ctx.set_materialize_grads(False)
        return ids, barycentric, depth

    @staticmethod
    @once_differentiable
    def backward(ctx, _grad_ids, grad_barycentric, _grad_depth):
        if grad_barycentric is None:
            return None, None, None, None
        clip, ids = ctx.saved_tensors
        return ctx.kernels.rasterize_backward(clip, ctx.topology, ids, grad_barycentric), None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, attributes, barycentric, kernels, topology, ids):
        ctx.save_for_backward(attributes, barycentric, ids)
        ctx.kernels, ctx.topology = kernels, topology
        return kernels.interpolate_forward(attributes.detach(), topology, ids, barycentric.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        attributes, barycentric, ids = ctx.saved_tensors
        grad_attributes, grad_barycentric = ctx.kernels.interpolate_backward(
            attributes, ctx.topology, ids, barycentric, grad_out, ctx.needs_input_grad[0]
        )
        return grad_attributes, grad_barycentric, None, None, None


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pyramid, uv, kernels, shapes, levels, ids):
        ctx.save_for_backward(pyramid, uv, shapes, levels, ids)
        ctx.kernels = kernels
        return kernels.sample_forward(pyramid.detach(), shapes, uv.detach(), levels, ids)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        pyramid, uv, shapes, levels, ids = ctx.saved_tensors
        grad_pyramid, grad_uv = ctx.kernels.sample_backward(
            pyramid, shapes, uv, levels, ids, grad_out, ctx.needs_input_grad[0]
        )
        return grad_pyramid, grad_uv, None, None, None, None


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx, colour, clip, kernels, topology, ids, depth):
        out, ctx.records = kernels.antialias_forward(colour.detach(), topology, ids, depth, clip.detach())
        ctx.save_for_backward(colour, clip)
        ctx.kernels = kernels
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        colour, clip = ctx.saved_tensors
        grad_colour, grad_clip = ctx.kernels.antialias_backward(colour, clip, ctx.records, grad_out)
        return grad_colour, grad_clip, None, None, None, None


class _VertexNormals(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vertices, kernels, topology):
        normals, lengths = kernels.normals_forward(vertices.detach(), topology)
        ctx.save_for_backward(vertices, normals, lengths)
        ctx.kernels, ctx.topology = kernels, topology
        return normals

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        vertices, normals, lengths = ctx.saved_tensors
        return ctx.kernels.normals_backward(vertices, ctx.topology, normals, lengths, grad_out), None, None


class _BasisProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, coefficients, basis, kernels):
        ctx.basis, ctx.kernels = basis, kernels
        return kernels.basis_product_forward(basis, coefficients.detach())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_out):
        return ctx.kernels.basis_product_backward(ctx.basis, grad_out), None, None


class KernelBackend:
    """Differentiable operations on top of a module of raw float32 kernels.

    Args:
        name: Name in the registry.
        kernels: Module with the `*_forward` and `*_backward` functions.
    """

    def __init__(self, name: str, kernels: ModuleType) -> None:
        self.name = name
        self.kernels = kernels

    def rasterize(self, clip: Tensor, topology: MeshTopology, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Triangle id, barycentric and z/w images of clip [B, V, 4]."""
        return _Rasterize.apply(clip, self.kernels, topology, size)

    def interpolate(self, attributes: Tensor, topology: MeshTopology, ids: Tensor, barycentric: Tensor) -> Tensor:
        """Attributes [B or 1, V, C] at the pixels."""
        return _Interpolate.apply(attributes, barycentric, self.kernels, topology, ids)

    def sample(self, pyramid: Tensor, shapes: Tensor, uv: Tensor, levels: Tensor | None, ids: Tensor | None) -> Tensor:
        """Samples of a flattened mip pyramid [B or 1, texels, C] at uv [B, H, W, 2]."""
        return _Sample.apply(pyramid, uv, self.kernels, shapes, levels, ids)

    def antialias(self, colour: Tensor, topology: MeshTopology, ids: Tensor, depth: Tensor, clip: Tensor) -> Tensor:
        """Colour blended across silhouettes."""
        return _Antialias.apply(colour, clip, self.kernels, topology, ids, depth)

    def vertex_normals(self, vertices: Tensor, topology: MeshTopology) -> Tensor:
        """Area-weighted unit normals [B, V, 3]."""
        return _VertexNormals.apply(vertices, self.kernels, topology)

    def basis_product(self, basis: Tensor, coefficients: Tensor) -> Tensor:
        """[N] product of a constant basis [N, K] and coefficients [K]."""
        return _BasisProduct.apply(coefficients, basis, self.kernels)

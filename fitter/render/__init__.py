"""The differentiable renderer: rasterize, interpolate, texture, silhouettes; shading; one function for a face."""

from fitter.kernels.topology import MeshTopology

from .detail_normals import detail_normals, displacement_gradient_map, vertex_tangents
from .fragments import Fragments
from .lighting import solve_lighting
from .operations import antialias, interpolate, rasterize, sample_texture, uv_footprint
from .scene import Appearance, Render, clip_positions, render_face, visible_depth
from .shading import shade, spherical_harmonics

__all__ = [
    "Appearance",
    "Fragments",
    "MeshTopology",
    "Render",
    "antialias",
    "clip_positions",
    "detail_normals",
    "displacement_gradient_map",
    "interpolate",
    "rasterize",
    "render_face",
    "sample_texture",
    "shade",
    "solve_lighting",
    "spherical_harmonics",
    "uv_footprint",
    "vertex_tangents",
    "visible_depth",
]

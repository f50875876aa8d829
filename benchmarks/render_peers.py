"""One forward and backward pass of the benchmark's scene in other renderers; each is None where it is not installed."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.render_scene import DISTANCE_MM, TEXTURE, RenderScene


def deodr_step(scene: RenderScene) -> Callable[[], dict[str, float]] | None:
    """The same work in deodr; None if it is not installed."""
    try:
        from deodr.differentiable_renderer import Scene2DBase, renderScene, renderSceneB
        from deodr.triangulated_mesh import TriMesh
    except ImportError:
        return None
    size, faces = scene.size, scene.triangles.numpy().astype(np.uint32)
    vertices = scene.vertices.double().numpy()
    # deodr culls by screen orientation with y down, so "clockwise" there is counter-clockwise seen from outside here.
    mesh = TriMesh(faces, vertices, clockwise=False)
    rotation, intrinsics = scene.rotation.double().numpy(), scene.intrinsics.double().numpy()
    target = scene.target[0].double().numpy()
    n_vertices, n_faces = len(vertices), len(faces)
    texture = np.ascontiguousarray(scene.texture[0].double().numpy())
    inputs = {
        "faces": faces, "faces_uv": faces, "textured": np.ones(n_faces, bool), "shaded": np.ones(n_faces, bool),
        "uv": scene.uv.double().numpy() * (TEXTURE - 1) + 1.0, "shade": np.ones(n_vertices),
        "colors": np.zeros((n_vertices, 3)), "height": size, "width": size, "nb_colors": 3, "texture": texture,
        "background_color": np.zeros(3), "clockwise": False, "backface_culling": True,
    }  # fmt: skip

    def step() -> dict[str, float]:
        start = time.perf_counter()
        camera = vertices @ rotation.T
        camera[:, 2] += DISTANCE_MM
        projected = camera @ intrinsics.T
        ij = projected[:, :2] / projected[:, 2:]
        flags = mesh.edge_on_silhouette(ij)
        gradients = {
            "uv_b": np.zeros((n_vertices, 2)), "ij_b": np.zeros((n_vertices, 2)), "shade_b": np.zeros(n_vertices),
            "colors_b": np.zeros((n_vertices, 3)), "texture_b": np.zeros_like(texture),
        }  # fmt: skip
        arguments = Scene2DBase(ij=ij, depths=camera[:, 2].copy(), edgeflags=flags, **inputs, **gradients)
        image, z_buffer = np.zeros((size, size, 3)), np.zeros((size, size))
        renderScene(arguments, 1.0, image, z_buffer, check_valid=False)
        middle = time.perf_counter()
        renderSceneB(arguments, 1.0, image, z_buffer, 2.0 * (image - target), check_valid=False)
        _ = (gradients["ij_b"] / projected[:, 2:]) @ intrinsics[:2] @ rotation
        end = time.perf_counter()
        step.image = image
        return {"forward": (middle - start) * 1e3, "backward": (end - middle) * 1e3, "total": (end - start) * 1e3}

    return step


def nvdiffrast_step(scene: RenderScene) -> Callable[[], dict[str, float]] | None:
    """The same work by nvdiffrast's own four operations, its own silhouettes included; needs a CUDA scene."""
    try:
        import nvdiffrast.torch as dr
    except ImportError:
        return None
    context = dr.RasterizeCudaContext(device=scene.vertices.device)
    triangles = scene.topology.triangles.int()
    vertices = scene.vertices.clone().requires_grad_()
    texture = scene.texture.clone().requires_grad_()

    def step() -> dict[str, float]:
        vertices.grad = texture.grad = None
        torch.cuda.synchronize()
        start = time.perf_counter()
        clip = scene.clip(vertices)
        fragments, _ = dr.rasterize(context, clip, triangles, resolution=[scene.size, scene.size], grad_db=False)
        uv, _ = dr.interpolate(scene.uv[None], fragments, triangles)
        colour = dr.texture(texture, uv, filter_mode="linear", boundary_mode="clamp")
        colour = torch.where(fragments[..., 3:] > 0, colour, 0.0)
        image = dr.antialias(colour, fragments, clip, triangles)
        loss = torch.nn.functional.mse_loss(image, scene.target, reduction="sum")
        torch.cuda.synchronize()
        middle = time.perf_counter()
        loss.backward()
        torch.cuda.synchronize()
        end = time.perf_counter()
        return {"forward": (middle - start) * 1e3, "backward": (end - middle) * 1e3, "total": (end - start) * 1e3}

    return step

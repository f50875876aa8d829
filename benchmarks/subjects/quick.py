"""The quick variant: the same subject through this project's own rasterizer, without shadows; no test of accuracy.

Diffuse light is the lamps' and the room's spherical harmonics of order 2, as the fit assumes; a GGX lobe per lamp is
what it does not assume.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.subjects.lights import Lighting
from benchmarks.subjects.skin import Look
from benchmarks.subjects.subject import Subject
from fitter.camera import Camera
from fitter.kernels.topology import MeshTopology
from fitter.render import clip_positions, interpolate, rasterize, shade, spherical_harmonics

SUPERSAMPLING = 2


class QuickRenderer:
    """A subject in its light, ready to be photographed."""

    def __init__(self, subject: Subject, look: Look, lighting: Lighting) -> None:
        """Prepare the mesh; arguments as for `PathTracer`."""
        self._topology = MeshTopology.from_triangles(torch.from_numpy(subject.triangles), len(subject.vertices))
        self._vertices = torch.from_numpy(subject.vertices).float()[None]
        columns = [subject.normals, look.albedo, look.roughness[:, None], look.specular[:, None], subject.vertices]
        self._attributes = torch.from_numpy(np.concatenate(columns, 1)).float()[None]
        self._room = lighting.room
        turn = subject.world_from_model[:3, :3]
        self._lamps = [(turn @ lamp.towards, np.pi * lamp.irradiance) for lamp in lighting.softboxes]
        self._coefficients = self._lighting()

    def _lighting(self) -> torch.Tensor:
        """[1, 9, 3] harmonic coefficients of the room's and the lamps' radiance."""
        total = torch.zeros(9, 3)
        total[0] = torch.from_numpy(self._room).float() * np.sqrt(4.0 * np.pi)
        # The shading functions are harmonics times the cosine's factors; a lamp's coefficient is the bare harmonic.
        cosine = torch.tensor([1.0, *([2.0 / 3.0] * 3), *([0.25] * 5)])
        for towards, radiant in self._lamps:
            harmonics = spherical_harmonics(torch.from_numpy(towards).float()) / cosine
            total += harmonics[:, None] * torch.from_numpy(radiant).float()
        return total[None]

    def photograph(self, camera: Camera) -> np.ndarray:
        """Linear RGB [H, W, 3] as the camera sees it."""
        height, width = (side * SUPERSAMPLING for side in camera.size)
        large = camera.resized(height, width)
        clip = clip_positions(
            self._vertices, large.intrinsics.float()[None], large.cam_from_world.float()[None], (height, width)
        )
        fragments = rasterize(clip, self._topology, (height, width))
        mask = fragments.mask[0]
        pixels = interpolate(self._attributes, fragments, self._topology)[0][mask]
        normals = torch.nn.functional.normalize(pixels[:, :3], dim=-1)
        towards_camera = torch.nn.functional.normalize(camera.centre.float() - pixels[:, 8:11], dim=-1)
        colour = shade(pixels[None, :, 3:6], normals[None], self._coefficients)[0].clamp_min(0.0)
        colour = colour + self._gloss(normals, towards_camera, pixels[:, 6], pixels[:, 7])
        image = torch.from_numpy(self._room).float().expand(height, width, 3).clone()
        image[mask] = colour
        small = image.unflatten(0, (-1, SUPERSAMPLING)).unflatten(2, (-1, SUPERSAMPLING)).mean((1, 3))
        return small.double().numpy()

    def _gloss(self, normals, towards_camera, roughness, specular) -> torch.Tensor:
        """[P, 3]: one GGX lobe (Walter et al. 2007; Schlick's Fresnel and visibility) per lamp."""
        alpha2 = roughness**4
        facing = (normals * towards_camera).sum(-1).clamp_min(1e-3)
        total = torch.zeros_like(normals)
        for towards, radiant in self._lamps:
            light = torch.from_numpy(towards).float()
            half = torch.nn.functional.normalize(towards_camera + light, dim=-1)
            lit, along = (normals @ light).clamp_min(0.0), (normals * half).sum(-1).clamp_min(0.0)
            spread = alpha2 / (torch.pi * (along**2 * (alpha2 - 1.0) + 1.0) ** 2)
            k = roughness**2 / 2.0
            visibility = 1.0 / (4.0 * (facing * (1 - k) + k) * (lit * (1 - k) + k))
            base = 0.08 * specular
            fresnel = base + (1.0 - base) * (1.0 - (towards_camera * half).sum(-1).clamp_min(0.0)) ** 5
            total += (spread * visibility * fresnel * lit)[:, None] * torch.from_numpy(radiant).float()
        return total

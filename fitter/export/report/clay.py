"""Clay pictures: a mesh in soft studio light, through the engine's own rasterizer. Everything on the CPU, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fitter.camera import Camera, clip_from_camera
from fitter.export.colour import srgb_encode, to_bytes
from fitter.kernels.topology import MeshTopology
from fitter.render.operations import interpolate, rasterize

CLAY = np.array([0.46, 0.44, 0.42], np.float32)
"""Linear RGB of the clay."""
BACKGROUND = np.array([0.80, 0.79, 0.77])
"""Linear RGB behind it: calm on light and on dark pages."""
LIGHTS = (
    ((-0.62, -0.58, -0.53), (1.30, 1.26, 1.20), 0.10),
    ((0.85, -0.05, -0.50), (0.20, 0.23, 0.28), 0.30),
    ((0.10, -0.90, 0.40), (0.20, 0.20, 0.20), 0.10),
)
"""(towards the light, in camera axes; linear RGB; how far it wraps around the form): key, fill and a rim from above."""
AMBIENT = 0.10
SUPERSAMPLING = 2


@dataclass(frozen=True, eq=False)
class Figure:
    """A mesh ready to be drawn."""

    vertices: np.ndarray
    """[V, 3] mm."""
    normals: np.ndarray
    """[V, 3] unit."""
    topology: MeshTopology
    colours: np.ndarray | None = None
    """[V, 3] linear RGB, or None for clay."""
    uv: np.ndarray | None = None
    """[V, 2], origin bottom-left, with `texture`."""
    texture: np.ndarray | None = None
    """[T, T, 3] linear RGB, row 0 is v = 0; drawn as it is, without light."""
    textured: np.ndarray | None = None
    """[F] bool: the triangles that wear the texture; the others are drawn in light. None: all do."""
    relief: float = 1.0
    """How much of the play of light is drawn; 0: none, the colours as they are."""


@dataclass(frozen=True)
class Picture:
    """A drawn figure."""

    colour: np.ndarray
    """[H, W, 3] linear RGB, not multiplied by the coverage."""
    coverage: np.ndarray
    """[H, W] in [0, 1]."""

    def over(self, background: np.ndarray, opacity: float = 1.0) -> np.ndarray:
        """Linear RGB [H, W, 3] in front of a background (any shape that broadcasts)."""
        alpha = self.coverage[..., None] * opacity
        return self.colour * alpha + background * (1 - alpha)


def figure(vertices: np.ndarray, triangles: np.ndarray, normals: np.ndarray, **look) -> Figure:
    """A `Figure` of a mesh; `look` is any of `colours`, `uv`, `texture`, `textured`, `relief`."""
    topology = MeshTopology.from_triangles(torch.from_numpy(np.ascontiguousarray(triangles, np.int64)), len(vertices))
    return Figure(np.asarray(vertices, np.float64), np.asarray(normals, np.float64), topology, **look)


def studio_camera(
    target: np.ndarray, forward: np.ndarray, up: np.ndarray, yaw: float, span: float, size: int
) -> Camera:
    """A long lens on a head: square pictures, no strong perspective.

    Args:
        target: [3] mm, the middle of the picture.
        forward: [3] unit, where the face looks.
        up: [3] unit, across `forward`.
        yaw: Degrees by which the camera walks around the head; positive to the subject's left.
        span: Height and width of the picture at the target, mm.
        size: Pixels.
    """
    angle = np.deg2rad(yaw)
    towards = np.cos(angle) * forward + np.sin(angle) * np.cross(up, forward)
    distance = 5.0 * span
    down = -np.asarray(up, np.float64)
    rotation = np.stack([np.cross(down, -towards), down, -towards])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ (target + distance * towards)
    focal = size * distance / span
    intrinsics = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    return Camera(torch.from_numpy(intrinsics), torch.from_numpy(matrix), (size, size))


class Shot:
    """A figure in front of a camera, lit: drawn as often as one likes, in other colours, for little."""

    def __init__(self, subject: Figure, camera: Camera) -> None:
        """Rasterize, supersampled, and light what is seen."""
        height, width = (side * SUPERSAMPLING for side in camera.size)
        camera = camera.resized(height, width)
        matrix = camera.cam_from_world.double().cpu().numpy()
        in_camera = subject.vertices @ matrix[:3, :3].T + matrix[:3, 3]
        projection = clip_from_camera(camera.intrinsics.double().cpu(), (height, width)).numpy()
        clip = np.concatenate([in_camera, np.ones((len(in_camera), 1))], 1) @ projection.T
        self.subject = subject
        self._fragments = rasterize(torch.from_numpy(clip.astype(np.float32))[None], subject.topology, (height, width))
        self._mask = self._fragments.mask[0].numpy()
        lit = light(self.at_pixels(subject.normals @ matrix[:3, :3].T), self.at_pixels(in_camera))
        self._light = np.float32(subject.relief) * lit + np.float32(1.0 - subject.relief)

    def at_pixels(self, attribute: np.ndarray) -> np.ndarray:
        """[P, C] float32 values of a vertex attribute [V, C] at the covered pixels; the rest costs nothing."""
        values = torch.from_numpy(np.ascontiguousarray(attribute, np.float32))[None]
        return interpolate(values, self._fragments, self.subject.topology)[0].numpy()[self._mask]

    def picture(self) -> Picture:
        """The figure in its own look."""
        subject = self.subject
        plain = CLAY if subject.colours is None else self.at_pixels(subject.colours)
        if subject.texture is None or subject.uv is None:
            return self.painted(plain)
        printed = sample(subject.texture, self.at_pixels(subject.uv))
        seen = self._fragments.triangle_id[0].numpy()[self._mask]
        wears = np.ones(len(seen), bool) if subject.textured is None else subject.textured[seen]
        return self._averaged(np.where(wears[:, None], printed, plain * self._light))

    def painted(self, colours: np.ndarray) -> Picture:
        """The figure in linear RGB colours [P, 3] of its covered pixels (see `at_pixels`), lit."""
        return self._averaged(colours * self._light)

    def _averaged(self, colour: np.ndarray) -> Picture:
        image = np.zeros((*self._mask.shape, 3), np.float32)
        image[self._mask] = colour
        return _average(image, self._mask)


def draw(subject: Figure, camera: Camera) -> Picture:
    """Draw a figure as `camera` sees it, supersampled."""
    return Shot(subject, camera).picture()


def light(normals: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Light [..., 3] on surfaces with the given normals at the given places, both in camera axes (y down, z away)."""
    normals = normals / np.maximum(_length(normals), 1e-9)
    facing = np.einsum("...i,...i->...", normals, positions)[..., None]
    # The inside of an open mesh is seen from behind: turn its normals and dim it, so that it reads as inside.
    inside = facing > 0.25 * _length(positions)
    normals = np.where(inside, -normals, normals)
    total = np.empty(normals.shape, np.float32)
    total[...] = AMBIENT * (1.0 - 0.35 * normals[..., 1:2])
    for direction, colour, wrap in LIGHTS:
        towards = (np.array(direction) / np.linalg.norm(direction)).astype(np.float32)
        amount = np.maximum((normals @ towards + np.float32(wrap)) / np.float32(1 + wrap), 0)
        total += amount[..., None] * np.array(colour, np.float32)
    return np.where(inside, np.float32(0.45) * total, total)


def _length(vectors: np.ndarray) -> np.ndarray:
    """[..., 1] lengths of vectors [..., 3]."""
    return np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]


def sample(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear values [..., C] of a map [T, T, C] (row 0 is v = 0, texel centres at + 0.5) at uv [..., 2]."""
    rows, columns = texture.shape[:2]
    x = np.clip(uv[..., 0] * columns - 0.5, 0, columns - 1)
    y = np.clip(uv[..., 1] * rows - 0.5, 0, rows - 1)
    left, bottom = np.floor(x).astype(int), np.floor(y).astype(int)
    right, top = np.minimum(left + 1, columns - 1), np.minimum(bottom + 1, rows - 1)
    fx, fy = (x - left)[..., None], (y - bottom)[..., None]
    lower = texture[bottom, left] * (1 - fx) + texture[bottom, right] * fx
    return lower * (1 - fy) + (texture[top, left] * (1 - fx) + texture[top, right] * fx) * fy


def _average(colour: np.ndarray, mask: np.ndarray) -> Picture:
    """Average supersampled pixels; the colour of a pixel that is partly covered is that of its covered part."""
    offsets = [(row, column) for row in range(SUPERSAMPLING) for column in range(SUPERSAMPLING)]
    covered = sum(mask[row::SUPERSAMPLING, column::SUPERSAMPLING].astype(np.float32) for row, column in offsets)
    total = sum(colour[row::SUPERSAMPLING, column::SUPERSAMPLING] for row, column in offsets)
    return Picture(total / np.maximum(covered, 1.0)[..., None], covered / len(offsets))


def to_pixels(linear: np.ndarray) -> np.ndarray:
    """Linear RGB to sRGB-encoded uint8."""
    return to_bytes(srgb_encode(linear))

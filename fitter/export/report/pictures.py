"""Every picture of the report, as uint8 RGB arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageDraw

from fitter.camera import Camera
from fitter.capture.types import View
from fitter.export import maps
from fitter.export.colour import colour_map, srgb_decode, srgb_encode, to_bytes, with_colour_bar
from fitter.export.meshes import textured_triangles, vertex_colours, whole_head
from fitter.export.report.clay import BACKGROUND, Figure, Shot, draw, figure, sample, studio_camera, to_pixels
from fitter.mesh_normals import vertex_normals
from fitter.result.types import FitResult, ViewResult

DETECTED, FITTED = (255, 138, 48), (64, 214, 255)
"""sRGB of detected and of fitted landmarks."""
DOUBT = ("#c2412d", "#e39a3c", "#efd9a0", "#b8b3ad")
"""From unsure to sure; the last one is the clay itself."""
TURNS = ((-50.0, "from the subject's right"), (0.0, "front"), (50.0, "from the subject's left"))
STUDIO_SIZE = 460
MAP_SIZE = 420


@dataclass(frozen=True)
class ViewPictures:
    """One photograph's row of the report."""

    name: str
    photograph: np.ndarray
    overlay: np.ndarray
    m0: np.ndarray
    m1: np.ndarray
    m2: np.ndarray


@dataclass(frozen=True)
class _Window:
    """A square part of a photograph, in its pixels."""

    left: int
    top: int
    side: int
    size: int
    """Pixels of the picture that it becomes."""

    def to_picture(self, pixels: np.ndarray) -> np.ndarray:
        """Positions [N, 2] in the picture."""
        return (pixels - [self.left, self.top]) * (self.size / self.side)

    def camera(self, view: ViewResult) -> Camera:
        """The view's camera, for the picture."""
        import torch

        factor = self.size / self.side
        intrinsics = np.array(view.intrinsics, np.float64)
        intrinsics[0, 2] -= self.left
        intrinsics[1, 2] -= self.top
        intrinsics[:2] *= factor
        matrix = torch.from_numpy(np.array(view.cam_from_world, np.float64))
        return Camera(torch.from_numpy(intrinsics), matrix, (self.size, self.size))


def picture_size(view_count: int) -> int:
    """Side of a view's pictures, px: smaller where there are many, so that the page stays light."""
    return 480 if view_count <= 3 else 400 if view_count <= 6 else 360 if view_count <= 16 else 240


class Studio:
    """Draws a result; holds the figures and the head's frame so that each is made once."""

    def __init__(self, result: FitResult) -> None:
        self.result = result
        linear = result.world_from_model[:3, :3]
        axes = linear / np.linalg.norm(linear, axis=0)
        self.up, self.forward = axes[:, 1], axes[:, 2]
        skin = result.vertices_m1[result.model.regions["skin"].cpu().numpy()]
        local = skin @ axes
        low, high = local.min(0), local.max(0)
        self.target = axes @ (0.5 * (low + high))
        # Seen from the side a head is as wide as it is deep.
        self.span = 1.1 * float((high - low).max())

    @cached_property
    def _triangles(self) -> np.ndarray:
        return self.result.model.triangles.cpu().numpy()

    @cached_property
    def _model_topology(self):
        return self._model_figure(self.result.vertices_m1).topology

    def _model_figure(self, vertices: np.ndarray, **look) -> Figure:
        return figure(vertices, self._triangles, vertex_normals(vertices, self._triangles), **look)

    def level(self, vertices: np.ndarray) -> Figure:
        """M0 or M1 in clay."""
        return Figure(vertices, vertex_normals(vertices, self._triangles), self._model_topology)

    @cached_property
    def dense(self) -> Figure:
        """M2 in clay: the dense mesh, and M1's eyes, which it does not hold."""
        head = whole_head(self.result)
        return figure(head.vertices, head.triangles, head.normals)

    def turns(self, subject: Figure) -> list[np.ndarray]:
        """A figure from the three sides of `TURNS`."""
        return [to_pixels(shot.picture().over(BACKGROUND)) for shot in self._shots(subject)]

    def _shots(self, subject: Figure) -> list[Shot]:
        return [
            Shot(subject, studio_camera(self.target, self.forward, self.up, yaw, self.span, STUDIO_SIZE))
            for yaw, _ in TURNS
        ]

    @cached_property
    def _dense_shots(self) -> list[Shot]:
        return self._shots(self.dense)

    def clay_turns(self) -> list[np.ndarray]:
        """M2 in clay from three sides."""
        return [to_pixels(shot.picture().over(BACKGROUND)) for shot in self._dense_shots]

    def textured_turns(self) -> list[np.ndarray]:
        """M1 with its texture from three sides, without any further light; parts off the atlas in plain colours."""
        model = self.result.model
        subject = self._model_figure(
            self.result.vertices_m1,
            colours=vertex_colours(self.result),
            uv=model.atlas_uv.cpu().numpy().astype(np.float64),
            texture=self.result.texture,
            textured=textured_triangles(model),
        )
        return self.turns(subject)

    def doubt_turns(self) -> list[np.ndarray]:
        """M2 from three sides, coloured where neither photographs nor a scan determine it."""
        dense = self.dense
        count = len(self.result.dense.vertices)
        confidence = np.ones(len(dense.vertices))
        confidence[:count] = sample(self.result.confidence[..., None], self.result.dense.uv)[:, 0]
        if only_the_scan(self.result):
            confidence = np.round(confidence)
        colours = srgb_decode(colour_map(confidence, DOUBT))
        return [to_pixels(shot.painted(shot.at_pixels(colours)).over(BACKGROUND)) for shot in self._dense_shots]

    def view(self, view: View, found: ViewResult, size: int) -> ViewPictures:
        """One photograph's row: input, overlay, M0, M1, M2."""
        window = self._window(found, size)
        camera = window.camera(found)
        photograph = crop_photograph(view.image, window)
        m1 = draw(self.level(found.vertices_m1), camera)
        overlay = to_pixels(m1.over(srgb_decode(photograph / 255.0), opacity=0.5))
        return ViewPictures(
            name=view.name,
            photograph=photograph,
            overlay=_with_landmarks(overlay, view, found, window),
            m0=to_pixels(draw(self.level(found.vertices_m0), camera).over(BACKGROUND)),
            m1=to_pixels(m1.over(BACKGROUND)),
            m2=to_pixels(draw(self.dense, camera).over(BACKGROUND)),
        )

    def _window(self, found: ViewResult, size: int) -> _Window:
        """The square around the face in the photograph, with some room."""
        face = found.vertices_m1[self.result.model.regions["face"].cpu().numpy()]
        matrix = np.asarray(found.cam_from_world, np.float64)
        pixels = (face @ matrix[:3, :3].T + matrix[:3, 3]) @ np.asarray(found.intrinsics, np.float64).T
        pixels = pixels[:, :2] / np.maximum(pixels[:, 2:], 1e-6)
        low, high = pixels.min(0), pixels.max(0)
        side = max(2, round(1.6 * float((high - low).max())))
        left, top = np.round(0.5 * (low + high) - 0.5 * side).astype(int)
        return _Window(int(left), int(top), side, size)


def crop_photograph(image: np.ndarray, window: _Window) -> np.ndarray:
    """uint8 picture of a photograph [H, W, 3] (sRGB-encoded, 0 to 1) in a window that may reach over its edges."""
    margin = to_bytes(srgb_encode(BACKGROUND))
    left, top, side = window.left, window.top, window.side
    height, width = image.shape[:2]
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = margin
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x1 > x0 and y1 > y0:
        canvas[y0 - top : y1 - top, x0 - left : x1 - left] = to_bytes(image[y0:y1, x0:x1])
    resized = Image.fromarray(canvas).resize((window.size, window.size), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def _with_landmarks(picture: np.ndarray, view: View, found: ViewResult, window: _Window) -> np.ndarray:
    """Draw detected landmarks, fitted ones, and the line between the two."""
    if view.landmarks is None or found.landmarks_fitted is None:
        return picture
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    radius = max(1.5, window.size / 220)
    fitted = window.to_picture(found.landmarks_fitted)
    # MediaPipe's points are more than the model embeds; then there are no pairs, and only the fitted are drawn.
    paired = len(view.landmarks.points) == len(fitted)
    if paired:
        detected = window.to_picture(view.landmarks.points)
        for a, b, confidence in zip(detected, fitted, view.landmarks.confidence, strict=True):
            if confidence > 0 and np.isfinite([*a, *b]).all():
                pen.line((*a, *b), fill=(255, 255, 255), width=1)
                pen.ellipse((*(a - radius), *(a + radius)), fill=DETECTED)
    for point in fitted[np.isfinite(fitted).all(1)]:
        pen.ellipse((*(point - radius), *(point + radius)), outline=FITTED, width=max(1, round(radius * 0.6)))
    return np.asarray(canvas)


def doubt_legend(sources: str) -> np.ndarray:
    """The colour bar of `Studio.doubt_turns`; `sources` is what determines the surface."""
    strip = with_colour_bar(
        np.full((1, 420, 3), 255, np.uint8), DOUBT, 0.0, 1.0, f"how well the {sources} determine the surface", 13
    )
    return strip[1:]


def only_the_scan(result: FitResult) -> bool:
    """Whether nothing but a scan determines the surface, so that it was measured or it was not."""
    return result.scan is not None and np.array_equal(result.confidence, result.scan.valid)


def view_texture_pictures(view: ViewResult) -> list[tuple[str, np.ndarray]]:
    """(caption, picture) of a view's T, T' and how well the photograph shows them; empty where it has none."""
    if view.texture is None or view.realigned is None or view.realigned_weight is None:
        return []

    def shown(encoded: np.ndarray) -> np.ndarray:
        image = Image.fromarray(maps.to_image_rows(to_bytes(encoded))).convert("RGB")
        return np.asarray(image.resize((MAP_SIZE, MAP_SIZE), Image.Resampling.BICUBIC))

    return [
        ("texture T, through M0", shown(srgb_encode(view.texture))),
        ("realigned T', moved with the deformation", shown(srgb_encode(view.realigned))),
        ("how well the photograph shows T' (white: head-on)", shown(view.realigned_weight)),
    ]


def map_pictures(result: FitResult) -> list[tuple[str, str, np.ndarray]]:
    """(title, explanation, picture) of each map, top row at v = 1."""

    def shrunk(pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(pixels).convert("RGB")
        return np.asarray(
            image.resize(
                (MAP_SIZE, MAP_SIZE), Image.Resampling.BOX if image.width > MAP_SIZE else Image.Resampling.BILINEAR
            )
        )

    def grey(fraction: np.ndarray) -> np.ndarray:
        return shrunk(maps.to_image_rows(to_bytes(fraction)))

    def colour(linear: np.ndarray) -> np.ndarray:
        return shrunk(maps.to_image_rows(to_bytes(srgb_encode(linear))))

    found = []
    if result.views:
        found += [
            ("Texture", "colour of the photographs, fused", colour(result.texture)),
            ("Albedo", "skin colour without light", colour(result.albedo_map)),
        ]
    else:
        found.append(("Colours", "the face model's own; there was no photograph", colour(result.albedo_map)))
    found += [
        ("Normals", "tangent space, OpenGL green", shrunk(maps.to_image_rows(to_bytes(result.normal_map * 0.5 + 0.5)))),
        (
            "Displacement",
            "fine detail along the normal",
            maps.displacement_preview(result.displacement_map, result.map_valid),
        ),
    ]
    if result.scan is not None:
        found.append(("Valid", "white was measured on the scan", grey(result.scan.valid)))
    if result.views:
        views = len(result.views)
        text = f"how many of {views} photographs see the place (white: all)"
        found.append(("Coverage", text, grey(result.coverage / views)))
    if not only_the_scan(result):
        found.append(("Confidence", "how well the surface is determined (white: well)", grey(result.confidence)))
    deformation = maps.deformation_preview(result.deformation_map, result.map_valid)
    return [*found, ("Deformation", "what the face model could not say: x, y, z", deformation)]

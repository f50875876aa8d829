"""Path tracing of a subject by Mitsuba 3 (`scalar_rgb`), a renderer that is not ours: shadows, folds, gloss."""

from __future__ import annotations

import numpy as np

from benchmarks.subjects.lights import Lighting, Softbox
from benchmarks.subjects.skin import Look
from benchmarks.subjects.subject import Subject, submesh
from fitter.camera import Camera

DEPTH = 4
"""Bounces: enough for light between lips, nostrils and lids."""


def available() -> bool:
    """Whether Mitsuba is installed."""
    try:
        import mitsuba  # noqa: F401
    except ImportError:
        return False
    return True


class PathTracer:
    """A subject in its light, ready to be photographed."""

    def __init__(self, subject: Subject, look: Look, lighting: Lighting, samples: int, seed: int = 0) -> None:
        """Build the scene; `samples` are per pixel, the square of a prime number."""
        import mitsuba

        mitsuba.set_variant("scalar_rgb")
        self._mitsuba, self._samples, self._seed = mitsuba, samples, seed
        scene = {
            "type": "scene",
            "integrator": {"type": "path", "max_depth": DEPTH},
            "room": {"type": "constant", "radiance": self._rgb(lighting.room)},
        }
        eyes = subject.mask("eyes")
        for name, keep, specular in (("skin", ~eyes, 0.35), ("eyes", eyes, 0.5)):
            scene[name] = self._mesh(name, subject, look, keep, specular)
        for number, softbox in enumerate(lighting.softboxes):
            scene[f"softbox_{number}"] = self._softbox(softbox, subject)
        self._scene = mitsuba.load_dict(scene)

    def _rgb(self, colour: np.ndarray) -> dict:
        return {"type": "rgb", "value": [float(value) for value in colour]}

    def _mesh(self, name: str, subject: Subject, look: Look, keep: np.ndarray, specular: float):
        """One part of the head as a Mitsuba mesh with colour and roughness per vertex."""
        mitsuba = self._mitsuba
        mesh, used = submesh(subject.vertices, subject.triangles, keep)
        properties = mitsuba.Properties()
        properties["mesh_bsdf"] = mitsuba.load_dict(
            {
                "type": "principled",
                "base_color": {"type": "mesh_attribute", "name": "vertex_color"},
                "roughness": {"type": "mesh_attribute", "name": "vertex_roughness"},
                "specular": specular,
                # Light that enters and leaves skin elsewhere flattens its shading; Disney's stand-in for that.
                "flatness": 0.5,
            }
        )
        shape = mitsuba.Mesh(name, len(mesh.vertices), len(mesh.triangles), props=properties, has_vertex_normals=True)
        shape.add_attribute("vertex_color", 3, look.albedo[used].astype(np.float32).ravel())
        shape.add_attribute("vertex_roughness", 1, look.roughness[used].astype(np.float32))
        values = mitsuba.traverse(shape)
        values["vertex_positions"] = mesh.vertices.astype(np.float32).ravel()
        values["faces"] = mesh.triangles.astype(np.uint32).ravel()
        values["vertex_normals"] = subject.normals[used].astype(np.float32).ravel()
        values.update()
        return shape

    def _softbox(self, softbox: Softbox, subject: Subject) -> dict:
        """A rectangle that faces the head's middle."""
        turn = subject.world_from_model[:3, :3]
        middle = subject.landmarks[27:].mean(0)
        place = middle + turn @ softbox.towards * softbox.distance
        up = turn @ np.array([0.0, 1.0, 0.0])
        transform = self._mitsuba.ScalarTransform4f
        pose = transform().look_at(origin=place.tolist(), target=middle.tolist(), up=up.tolist())
        return {
            "type": "rectangle",
            "to_world": pose @ transform().scale([0.5 * softbox.side, 0.5 * softbox.side, 1.0]),
            "emitter": {"type": "area", "radiance": self._rgb(softbox.radiance)},
        }

    def photograph(self, camera: Camera) -> np.ndarray:
        """Linear RGB [H, W, 3] as the camera sees it."""
        mitsuba = self._mitsuba
        height, width = camera.size
        world_from_camera = np.linalg.inv(camera.cam_from_world.double().numpy())
        # Mitsuba's cameras look along +z with x to the left and y up.
        pose = world_from_camera @ np.diag([-1.0, -1.0, 1.0, 1.0])
        sensor = mitsuba.load_dict(
            {
                "type": "perspective",
                "fov_axis": "x",
                "fov": float(np.rad2deg(2.0 * np.arctan(0.5 * width / float(camera.focal)))),
                "near_clip": 50.0,
                "far_clip": 10000.0,
                "to_world": mitsuba.ScalarTransform4f(pose.tolist()),
                "film": {
                    "type": "hdrfilm",
                    "width": width,
                    "height": height,
                    "pixel_format": "rgb",
                    "rfilter": {"type": "gaussian", "stddev": 0.4},
                },
                # Orthogonal arrays (Jarosz et al. 2019) stratify every bounce, not only the first: at 121 paths a third of
                # the noise that correlated multi-jittered samples leave at 36, in three times their time.
                "sampler": {"type": "orthogonal", "sample_count": self._samples},
            }
        )
        self._seed += 1
        return np.array(mitsuba.render(self._scene, sensor=sensor, seed=self._seed))[..., :3].astype(np.float64)

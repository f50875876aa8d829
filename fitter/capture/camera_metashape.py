"""Cameras from Agisoft Metashape's `cameras.xml`.

What the format means (Metashape's manual, appendix on camera models): `cx`, `cy` are offsets from the image's middle,
the tangential coefficients are OpenCV's with p1 and p2 exchanged, `k4` belongs to r⁸, camera transforms are
camera-to-chunk with OpenCV axes, and the chunk's (or component's) transform carries rotation, translation and scale to
metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from fitter.capture.camera_entries import CameraEntry, CameraFile, Lens, rigid_transform
from fitter.capture.undistort import Distortion
from fitter.errors import InputError

_GEOCENTRIC_METRES = 1e5
"""A world origin farther away than this is the centre of the Earth, not a studio."""
_PINHOLES = (
    "Export undistorted images with their cameras from Metashape (File > Export > Undistort Photos) and give those."
)


@dataclass(frozen=True)
class _World:
    """world_from_chunk: X_world = scale * rotation @ X_chunk + translation."""

    rotation: np.ndarray
    translation: np.ndarray
    scale: float
    metric: bool


def is_metashape_file(path: Path) -> bool:
    """Whether a file is an XML document with a Metashape chunk (the first lines tell; no full parse)."""
    try:
        head = path.read_bytes()[:4096]
    except OSError:
        return False
    return b"<document" in head and b"<chunk" in head


def read_metashape(path: str | Path) -> CameraFile:
    """Read Metashape's camera export.

    Args:
        path: The XML file (File > Export > Export Cameras, Agisoft XML).

    Returns:
        The aligned cameras; the world unit is "m" where the chunk carries a scale.

    Raises:
        InputError: Not such a file, nothing aligned, a spherical or fisheye sensor, a multi-camera rig, coordinates on
            the globe, or malformed numbers.
    """
    path = Path(path)
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise InputError(
            path, f"no readable XML ({error})", "Metashape's cameras.xml", "Export the cameras again."
        ) from error
    chunks = root.findall("chunk")
    if len(chunks) != 1:
        raise InputError(path, f"{len(chunks)} chunks", "one Metashape chunk", "Export the cameras of one chunk.")
    chunk = chunks[0]
    sensors = {sensor.get("id"): sensor for sensor in chunk.iter("sensor")}
    default = _world(path, chunk.find("transform"))
    components = {
        item.get("id"): _world(path, item.find("transform")) or default
        for item in chunk.findall("components/component")
    }
    cameras, unaligned = _aligned_cameras(path, chunk)
    kept, warnings = _one_frame(cameras, components, default)
    lenses: dict[str, Lens] = {}
    entries = []
    for camera in kept:
        sensor_id = camera.get("sensor_id", "")
        if sensor_id not in lenses:
            lenses[sensor_id] = _lens(path, sensors.get(sensor_id), sensor_id)
        world = components.get(camera.get("component_id"), default)
        label = camera.get("label", "")
        entries.append(CameraEntry(label, lenses[sensor_id], _cam_from_world(path, camera, world)))
    if unaligned:
        warnings.append(f"{path.name}: not aligned by Metashape: {', '.join(unaligned)}")
    if not entries:
        raise InputError(
            path, "no aligned camera", "at least one camera with a transform", "Align the photographs first."
        )
    world = components.get(kept[0].get("component_id"), default)
    metric = world is not None and world.metric
    return CameraFile(path=path, entries=tuple(entries), unit="m" if metric else None, warnings=tuple(warnings))


def _numbers(path: Path, element: ElementTree.Element, count: int) -> np.ndarray:
    try:
        values = np.array([float(value) for value in (element.text or "").split()])
    except ValueError as error:
        raise InputError(path, f"<{element.tag}> with {element.text!r}", f"{count} numbers") from error
    if values.size != count:
        raise InputError(path, f"<{element.tag}> with {values.size} numbers", f"{count}", "Export the cameras again.")
    return values


def _world(path: Path, element: ElementTree.Element | None) -> _World | None:
    if element is None or len(element) == 0:
        return None
    rotation, translation, scale = (element.find(tag) for tag in ("rotation", "translation", "scale"))
    world = _World(
        rotation=np.eye(3) if rotation is None else _numbers(path, rotation, 9).reshape(3, 3),
        translation=np.zeros(3) if translation is None else _numbers(path, translation, 3),
        scale=1.0 if scale is None else float(_numbers(path, scale, 1)[0]),
        metric=scale is not None,
    )
    if not np.isfinite(world.translation).all() or not np.isfinite(world.scale) or world.scale <= 0:
        raise InputError(
            path, f"a chunk scale of {world.scale:g}", "a finite, positive chunk transform", "Export again."
        )
    matrix = np.eye(4)
    matrix[:3, :3] = world.rotation
    rigid_transform(matrix, f"{path} (chunk transform)")
    if np.linalg.norm(world.translation) > _GEOCENTRIC_METRES:
        raise InputError(
            path,
            "cameras in geographic coordinates",
            "local coordinates near the face",
            "Set the chunk's coordinate system to Local Coordinates (m) and export again.",
        )
    return world


def _aligned_cameras(path: Path, chunk: ElementTree.Element) -> tuple[list[ElementTree.Element], list[str]]:
    """Cameras with a pose, at any depth of groups, and the labels of those without."""
    aligned, unaligned = [], []
    folder = chunk.find("cameras")
    for camera in folder.iter("camera") if folder is not None else ():
        label = camera.get("label")
        if label is None:
            continue
        if camera.find("transform") is not None:
            aligned.append(camera)
        elif camera.get("master_id") not in (None, camera.get("id")):
            raise InputError(
                path,
                f"a multi-camera rig ({label} has its pose only relative to camera {camera.get('master_id')})",
                "a pose for each camera",
                _PINHOLES,
            )
        else:
            unaligned.append(label)
    return aligned, unaligned


def _one_frame(
    cameras: list[ElementTree.Element], components: dict[str | None, _World | None], default: _World | None
) -> tuple[list[ElementTree.Element], list[str]]:
    """Cameras that share a world; components without a metric transform of their own have nothing in common."""
    groups: dict[str | None, list[ElementTree.Element]] = {}
    for camera in cameras:
        groups.setdefault(camera.get("component_id"), []).append(camera)
    worlds = [components.get(key, default) for key in groups]
    if len(groups) <= 1 or all(world is not None and world.metric for world in worlds):
        return cameras, []
    largest = max(groups, key=lambda key: len(groups[key]))
    dropped = [camera.get("label", "") for key in groups if key != largest for camera in groups[key]]
    return groups[largest], [
        f"{len(dropped)} cameras belong to other, unconnected components and were left out: {', '.join(dropped)}"
    ]


def _lens(path: Path, sensor: ElementTree.Element | None, sensor_id: str) -> Lens:
    """Intrinsics of one sensor: its adjusted calibration, not the initial one that may stand before it."""
    if sensor is None:
        raise InputError(
            path, f"no sensor {sensor_id!r}", "the sensor of each aligned camera", "Export the cameras again."
        )
    where = f"{path} (sensor {sensor.get('label', sensor_id)})"
    calibrations = {item.get("class", "adjusted"): item for item in sensor.findall("calibration")}
    kinds = {sensor.get("type", "frame"), *(item.get("type", "frame") for item in calibrations.values())}
    if kinds != {"frame"}:
        kind = ", ".join(sorted(kinds - {"frame"}))
        raise InputError(where, f"a sensor of type {kind}", "a frame camera", _PINHOLES)
    calibration = calibrations.get("adjusted")
    if calibration is None:
        raise InputError(where, "no adjusted calibration", "the calibration found by the alignment", "Export it again.")
    resolution = calibration.find("resolution")
    if resolution is None:
        resolution = sensor.find("resolution")
    if resolution is None:
        raise InputError(where, "no <resolution>", "the sensor's size in pixels", "Export the cameras again.")
    if calibration.find("f") is None:
        remedy = "Export the cameras with a current Metashape."
        raise InputError(where, "no <f> (files before version 1.2 mean other things)", "a focal length <f>", remedy)

    def value(tag: str) -> float:
        element = calibration.find(tag)
        return 0.0 if element is None else float(_numbers(path, element, 1)[0])

    if value("p3") or value("p4"):
        raise InputError(where, "the lens coefficients p3, p4", "k1-k4, p1, p2, b1, b2", _PINHOLES)
    try:
        width, height = int(resolution.get("width", 0)), int(resolution.get("height", 0))
    except ValueError:
        width = height = 0
    if width <= 0 or height <= 0:
        raise InputError(where, "an unusable <resolution>", "the sensor's size in pixels", "Export the cameras again.")
    return Lens(
        focal_x=value("f") + value("b1"),
        focal_y=value("f"),
        centre_x=0.5 * width + value("cx"),
        centre_y=0.5 * height + value("cy"),
        skew=value("b2"),
        size=(height, width),
        distortion=Distortion(
            k1=value("k1"), k2=value("k2"), k3=value("k3"), r8=value("k4"), p1=value("p2"), p2=value("p1")
        ),
    )


def _cam_from_world(path: Path, camera: ElementTree.Element, world: _World | None) -> np.ndarray:
    """Inverse of camera-to-chunk followed by chunk-to-world; the scale acts on positions only."""
    transform = camera.find("transform")
    assert transform is not None
    chunk_from_cam = _numbers(path, transform, 16).reshape(4, 4)
    if world is not None:
        world_from_cam = chunk_from_cam.copy()
        world_from_cam[:3, :3] = world.rotation @ chunk_from_cam[:3, :3]
        world_from_cam[:3, 3] = world.scale * world.rotation @ chunk_from_cam[:3, 3] + world.translation
    else:
        world_from_cam = chunk_from_cam
    try:
        return np.linalg.inv(world_from_cam)
    except np.linalg.LinAlgError:
        return np.full((4, 4), np.nan)

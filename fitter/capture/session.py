"""Load a capture session: photographs with their landmarks, masks and cameras, in the engine's conventions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from fitter.camera import Camera
from fitter.capture.camera_entries import CameraEntry, CameraFile, camera_for_image, in_millimetres
from fitter.capture.cameras import find_camera_file, match_cameras, read_camera_file
from fitter.capture.image import read_image
from fitter.capture.landmark_files import find_landmark_files, read_landmarks
from fitter.capture.masks import find_mask, read_mask
from fitter.capture.providers import LandmarkProvider
from fitter.capture.scan.read import MM_PER_UNIT
from fitter.capture.session_files import SessionFiles, collect_files, photographs_beside
from fitter.capture.types import Landmarks, Session, View
from fitter.capture.undistort import Distortion, undistort_image, undistort_pixels
from fitter.errors import InputError

_LARGEST_BASELINE_DEGREES = 90.0


@dataclass
class _Log:
    """What has to be told about a session while it is being loaded."""

    strict: bool
    warnings: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    causes: list[InputError] = field(default_factory=list)

    def skip(self, path: Path, cause: InputError) -> None:
        """Leave a photograph out, or raise `cause` where that is not wanted."""
        if self.strict:
            raise cause
        self.causes.append(cause)
        self.skipped.append((path.name, str(cause)))
        self.warnings.append(f"{path.name} was skipped: {cause}")

    def none_left(self, where: object, found: str) -> InputError:
        """One cause is told as it is; several are counted and the first is told."""
        if len(self.causes) == 1:
            return self.causes[0]
        return InputError(where, f"{found} among {len(self.causes)}", "at least one", f"First: {self.causes[0]}")


def load_session(
    paths: str | Path | Sequence[str | Path],
    *,
    unit: str | None = None,
    cameras: str | Path | None = None,
    kind: Literal["rig", "casual"] | None = None,
    views: Sequence[str | int] | None = None,
    strict: bool = False,
    max_views: int | None = None,
) -> Session:
    """Load the photographs of one person with everything that lies beside them.

    Args:
        paths: A folder, one photograph, or a list.
        unit: World unit of the cameras: "mm", "cm" or "m"; None = as the camera file knows it, or unknown.
        cameras: Camera file or COLMAP folder; None = looked for in the folder; "none" = go without.
        kind: "rig" (one instant) or "casual" (each view its own expression); None = rig with cameras, casual without.
        views: Names (stems, file names) or places (from 0, in sorted order) of the views to use; None = all.
        strict: Whether a photograph that cannot be used is an error instead of being skipped.
        max_views: Use at most so many, spread evenly over the sorted names.

    Returns:
        Views in the order of their names. Camera translations are in mm where `mm_per_unit` is known, else in the
        session's own unit.

    Raises:
        InputError: No usable photograph, duplicate names, a camera file that cannot be used or has none of the
            photographs, only two cameras more than 90 degrees apart, or (strict) any photograph that cannot be used.
    """
    _check_options(unit, kind)
    files = collect_files(paths)
    images = _select(files, views, max_views)
    log = _Log(strict, warnings=list(files.warnings))
    for path in files.foreign:
        remedy = "Convert the photograph to JPEG."
        log.skip(path, InputError(path, f"the format {path.suffix}", "JPEG, PNG or TIFF", remedy))
    camera_file, entries = _cameras(files, images, cameras, log.warnings)
    mm_per_unit, world_unit = _world_unit(camera_file, unit, log.warnings)
    loaded = []
    for path in images:
        try:
            loaded.append(_load_view(path, entries.get(path), camera_file, mm_per_unit, log.warnings))
        except InputError as cause:
            log.skip(path, cause)
    if not loaded:
        raise log.none_left(files.root, "no usable photograph")
    session = Session(
        name=files.name,
        views=tuple(loaded),
        kind=kind or ("rig" if camera_file else "casual"),
        unit=world_unit,
        mm_per_unit=mm_per_unit,
        warnings=tuple(log.warnings),
        skipped=tuple(log.skipped),
    )
    check_baseline(session)
    return session


def require_landmarks(session: Session, provider: LandmarkProvider | None = None, *, strict: bool = False) -> Session:
    """The session with landmarks in every view.

    Args:
        session: A loaded session.
        provider: Detects what no file gave; None = views without landmarks are skipped.
        strict: Whether a view without landmarks is an error.

    Raises:
        InputError: No view is left (the only cause, where there is one), or (strict) a view has none.
    """
    kept = []
    log = _Log(strict, list(session.warnings), list(session.skipped))
    for view in session.views:
        try:
            kept.append(_with_landmarks(view, provider))
        except InputError as cause:
            log.skip(view.path, cause)
    if not kept:
        raise log.none_left(session.name, "no landmarks")
    result = replace(session, views=tuple(kept), warnings=tuple(log.warnings), skipped=tuple(log.skipped))
    check_baseline(result)
    return result


def check_baseline(session: Session) -> None:
    """Refuse two calibrated views that see no common surface.

    The angle is taken at the point both cameras look at (closest to both optical axes), between the directions to the
    cameras; where the axes diverge, between the axes.

    Raises:
        InputError: There are exactly two views, both with cameras, more than 90 degrees apart.
    """
    cameras = [view.camera for view in session.views]
    if len(cameras) != 2 or cameras[0] is None or cameras[1] is None:
        return
    angle = _angle_between(cameras[0], cameras[1])
    if angle > _LARGEST_BASELINE_DEGREES:
        names = " and ".join(view.name for view in session.views)
        raise InputError(
            session.name,
            f"only two views ({names}), {angle:.0f} degrees apart",
            f"at most {_LARGEST_BASELINE_DEGREES:.0f} degrees between two views",
            "Add a view between them, or give one of them alone.",
        )


def _check_options(unit: str | None, kind: str | None) -> None:
    if unit is not None and unit not in MM_PER_UNIT:
        raise InputError("--unit", repr(unit), "mm, cm or m", "Give the unit of the cameras.")
    if kind not in (None, "rig", "casual"):
        raise InputError("--kind", repr(kind), "rig or casual", "Leave it out to have it found.")


def _angle_between(first: Camera, second: Camera) -> float:
    """Degrees between two cameras as seen from the point they look at."""
    centres = np.stack([camera.centre.double().cpu().numpy() for camera in (first, second)])
    axes = np.stack([camera.cam_from_world[2, :3].double().cpu().numpy() for camera in (first, second)])
    directions = axes
    # Closest points of two lines c + t a: a 2 x 2 system in the two parameters.
    cosine = float(axes[0] @ axes[1])
    determinant = 1 - cosine**2
    if determinant > 1e-6:
        offset = centres[1] - centres[0]
        t0 = (axes[0] @ offset - cosine * (axes[1] @ offset)) / determinant
        t1 = (cosine * (axes[0] @ offset) - axes[1] @ offset) / determinant
        if t0 > 0 and t1 > 0:
            target = 0.5 * (centres[0] + t0 * axes[0] + centres[1] + t1 * axes[1])
            directions = target - centres
    norms = np.linalg.norm(directions, axis=1)
    return math.degrees(math.acos(float(np.clip(directions[0] @ directions[1] / (norms[0] * norms[1]), -1, 1))))


def _select(files: SessionFiles, views: Sequence[str | int] | None, max_views: int | None) -> list[Path]:
    """The photographs asked for, in sorted order."""
    images = list(files.images)
    if views is not None:
        by_name = {image.stem: image for image in images} | {image.name: image for image in images}
        chosen = set()
        for view in views:
            text = str(view)
            if isinstance(view, str) and text in by_name:
                chosen.add(by_name[text])
            elif text.isdecimal() and int(text) < len(images):
                chosen.add(images[int(text)])
            else:
                names = ", ".join(image.stem for image in images[:8]) + (", ..." if len(images) > 8 else "")
                raise InputError(
                    "--views", repr(view), f"one of {names}, or 0 to {len(images) - 1}", "Check the names."
                )
        images = [image for image in images if image in chosen]
        if not images:
            raise InputError("--views", "an empty list", "at least one view", "Leave it out to use all.")
    if max_views is not None:
        if max_views < 1:
            raise InputError("--max-views", str(max_views), "at least 1", "Leave it out to use all.")
        if len(images) > max_views:
            places = np.linspace(0, len(images) - 1, max_views) if max_views > 1 else [(len(images) - 1) // 2]
            images = [images[round(float(place))] for place in places]
    return images


def _cameras(
    files: SessionFiles, images: Sequence[Path], cameras: str | Path | None, warnings: list[str]
) -> tuple[CameraFile | None, dict[Path, CameraEntry]]:
    """The session's camera file, if any, and its entries by photograph."""
    if cameras is not None and str(cameras).lower() == "none":
        return None, {}
    path = Path(cameras) if cameras is not None else find_camera_file(files.root)
    if path is None:
        return None, {}
    file = read_camera_file(path)
    match = match_cameras(file, images, [*files.images, *photographs_beside(images)])
    warnings += file.warnings
    warnings += [f"{file.path.name} names {name}, which is not there" for name in match.absent]
    return file, match.by_image


def _world_unit(file: CameraFile | None, unit: str | None, warnings: list[str]) -> tuple[float | None, str | None]:
    """Millimetres per world unit and the unit's name, where they are known."""
    if file is None:
        if unit is not None:
            warnings.append(f"--unit {unit} says nothing without cameras and was not used")
        return None, None
    if unit is not None and file.unit is not None and unit != file.unit:
        warnings.append(f"{file.path.name} says that its unit is {file.unit}; --unit {unit} was used instead")
    known = unit or file.unit
    return (MM_PER_UNIT[known], known) if known else (None, None)


def _load_view(
    path: Path, entry: CameraEntry | None, file: CameraFile | None, mm_per_unit: float | None, warnings: list[str]
) -> View:
    """One photograph with what lies beside it; lens distortion is removed from all of it."""
    photo = read_image(path)
    camera, lens = None, Distortion()
    if file is not None:
        if entry is None:
            raise InputError(
                path,
                f"no camera in {file.path.name}",
                "a camera for each photograph of a calibrated session",
                "Align it.",
            )
        where = f"{file.path} ({entry.name})"
        camera, lens = camera_for_image(entry, photo.size, photo.orientation, where)
        if mm_per_unit is not None:
            camera = in_millimetres(camera, mm_per_unit)
    landmark_files = find_landmark_files(path)
    if len(landmark_files) > 1:
        others = ", ".join(item.name for item in landmark_files[1:])
        warnings.append(f"{path.name}: landmarks were taken from {landmark_files[0].name}, not from {others}")
    landmarks = read_landmarks(landmark_files[0], photo.size, photo.stored_size) if landmark_files else None
    mask_file = find_mask(path)
    mask = read_mask(mask_file, photo.size, photo.orientation) if mask_file else photo.alpha
    image = photo.image
    if camera is not None and not lens.is_zero:
        intrinsics = camera.intrinsics.numpy()
        image = undistort_image(image, intrinsics, lens)
        mask = None if mask is None else undistort_image(mask, intrinsics, lens, outside="zeros")
        landmarks = None if landmarks is None else _undistorted(landmarks, intrinsics, lens, landmark_files[0])
    warnings += [f"{path.name}: {note}" for note in photo.notes]
    return View(
        name=path.stem,
        path=path,
        image=image,
        landmarks=landmarks,
        mask=mask,
        camera=camera,
        focal_guess=photo.focal_guess,
    )


def _undistorted(landmarks: Landmarks, intrinsics: np.ndarray, lens: Distortion, path: Path) -> Landmarks:
    points = undistort_pixels(landmarks.points, intrinsics, lens)
    lost = ~np.isfinite(points).all(axis=1)
    if lost.mean() > 0.1:
        raise InputError(
            path,
            f"{lost.sum()} landmarks where the lens model cannot be inverted",
            "landmarks inside the calibrated part of the photograph",
            "Undistort the photographs first (`colmap image_undistorter`).",
        )
    confidence = np.where(lost, 0.0, landmarks.confidence)
    return replace(landmarks, points=np.where(lost[:, None], landmarks.points, points), confidence=confidence)


def _with_landmarks(view: View, provider: LandmarkProvider | None) -> View:
    if view.landmarks is not None:
        return view
    if provider is None:
        raise InputError(
            view.path,
            "no landmarks",
            "a .pts, .json or .npy file of the same name beside it",
            "Make them with `hrn landmarks`; `hrn doctor` tells which provider is usable.",
        )
    try:
        return replace(view, landmarks=provider.detect(view.image))
    except InputError as cause:
        # A provider sees an array and cannot say which photograph it was.
        raise InputError(view.path, cause.found, cause.expected, cause.remedy) from cause

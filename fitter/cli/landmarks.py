"""`hrn landmarks`: make landmarks beside photographs and draw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fitter.atomic import atomic_path
from fitter.capture.image import read_image
from fitter.capture.landmark_files import write_landmarks
from fitter.capture.providers import LandmarkProvider, MediaPipeProvider, make_provider
from fitter.capture.session_files import OVERLAY_MARK, collect_files
from fitter.capture.types import Landmarks
from fitter.errors import InputError

# iBUG-68 as polylines: (first, last, closed).
_IBUG_LINES = (
    (0, 16, False),
    (17, 21, False),
    (22, 26, False),
    (27, 30, False),
    (31, 35, False),
    (36, 41, True),
    (42, 47, True),
    (48, 59, True),
    (60, 67, True),
)
_LINE_COLOUR, _POINT_COLOUR = (70, 200, 255), (255, 90, 60)


def landmarks_command(
    images: Sequence[str | Path],
    provider: str | None = None,
    model_file: str | Path | None = None,
    out: str | Path | None = None,
    draw: bool = True,
    device: str = "cpu",
    *,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Detect landmarks, write them as `.json`, and draw them over the photographs.

    Args:
        images: Photographs or folders of photographs.
        provider: "face-alignment" or "mediapipe"; None = the one at hand.
        model_file: MediaPipe's `face_landmarker.task`; its SHA-256 is shown.
        out: Folder for the results; None = beside each photograph.
        draw: Whether to write `<stem>_landmarks.png`.
        device: Where the provider runs.
        say: Receives one line of progress at a time.

    Returns:
        The landmark files written.

    Raises:
        InputError: No provider at hand (MissingPartError), or no photograph with a face.
    """
    files = collect_files([Path(path) for path in images])
    detector = make_provider(provider, model_file=model_file, device=device)
    if isinstance(detector, MediaPipeProvider):
        say(f"model file {model_file}, SHA-256 {detector.checksum}")
    for path in files.foreign:
        say(f"{path.name}: {path.suffix} is not read; convert the photograph to JPEG")
    written: list[Path] = []
    causes: list[InputError] = []
    for path in files.images:
        try:
            written.append(_one_photograph(path, detector, Path(out) if out is not None else path.parent, draw))
        except InputError as cause:
            causes.append(cause)
            say(f"{path.name}: left out. {cause}")
        else:
            say(f"{path.name}: {written[-1]}")
    if not written:
        if len(causes) == 1:
            raise causes[0]
        raise InputError(files.root, f"no face in {len(causes)} photographs", "at least one", f"First: {causes[0]}")
    return written


def _one_photograph(path: Path, detector: LandmarkProvider, folder: Path, draw: bool) -> Path:
    image = read_image(path).image
    try:
        landmarks = detector.detect(image)
    except InputError as cause:
        raise InputError(path, cause.found, cause.expected, cause.remedy) from cause
    target = folder / f"{path.stem}.json"
    if draw:
        overlay = draw_landmarks(image, landmarks)
        with atomic_path(folder / f"{path.stem}{OVERLAY_MARK}.png") as temporary:
            Image.fromarray(overlay).save(temporary)
    write_landmarks(target, landmarks, image.shape[:2])
    return target


def draw_landmarks(image: np.ndarray, landmarks: Landmarks) -> np.ndarray:
    """The photograph with its landmarks.

    Args:
        image: [H, W, 3] float32 in [0, 1].
        landmarks: Points in px, (0.5, 0.5) = centre of the top-left pixel.

    Returns:
        [H, W, 3] uint8; points of confidence 0 are left out.
    """
    picture = Image.fromarray((image.clip(0, 1) * 255).round().astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    # Pillow draws at pixel indices and would round its coordinates down.
    points = np.rint(landmarks.points - 0.5)
    extent = float(np.ptp(points[landmarks.confidence > 0], axis=0).max()) if (landmarks.confidence > 0).any() else 1.0
    width = max(1, round(extent / 250))
    if landmarks.scheme == "ibug68":
        for first, last, closed in _IBUG_LINES:
            line = [tuple(point) for point in points[first : last + 1]]
            pen.line([*line, line[0]] if closed else line, fill=_LINE_COLOUR, width=width)
    radius = max(1, round(extent / (150 if landmarks.scheme == "ibug68" else 300)))
    for (x, y), confidence in zip(points, landmarks.confidence, strict=True):
        if confidence > 0:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_POINT_COLOUR)
    return np.asarray(picture)

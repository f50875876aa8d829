"""Landmark providers behind one small protocol: face-alignment and MediaPipe Tasks, imported only when asked for."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

from fitter.capture.types import Landmarks
from fitter.errors import InputError, MissingPartError

PROVIDER_NAMES = ("face-alignment", "mediapipe")
MEDIAPIPE_MODEL_URL = "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/latest/face_landmarker.task"
_FACE_ALIGNMENT_WEIGHTS = ("s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar")
_FACE_ALIGNMENT_URL = "https://www.adrianbulat.com/downloads/python-fan/"


class LandmarkProvider(Protocol):
    """Finds the landmarks of the largest face of a photograph."""

    name: str

    def detect(self, image: np.ndarray) -> Landmarks:
        """Detect.

        Args:
            image: [H, W, 3] float32, sRGB-encoded, in [0, 1], upright.

        Returns:
            Points in px, (0.5, 0.5) = centre of the top-left pixel.

        Raises:
            InputError: No face was found.
        """
        ...


def face_alignment_weights_folder() -> Path:
    """Folder in which face-alignment keeps its downloaded weights."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def file_checksum(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        remedy = f"Download face_landmarker.task from {MEDIAPIPE_MODEL_URL} and give its path."
        raise InputError(
            path, f"no readable file ({error.strerror})", "a MediaPipe model file (.task)", remedy
        ) from error


def provider_status() -> dict[str, tuple[bool, str]]:
    """Whether each provider can be used, and what is there or what to do; nothing is imported or loaded."""
    folder = face_alignment_weights_folder()
    if importlib.util.find_spec("face_alignment") is None:
        face = (False, "not installed: pip install 'hrn-fitter[landmarks]'")
    elif all((folder / name).is_file() for name in _FACE_ALIGNMENT_WEIGHTS):
        face = (True, f"installed, weights in {folder}")
    else:
        face = (True, f"installed; downloads its weights from {_FACE_ALIGNMENT_URL} to {folder} when first used")
    if importlib.util.find_spec("mediapipe") is None:
        mediapipe = (False, "not installed: pip install 'hrn-fitter[mediapipe]'")
    else:
        mediapipe = (True, f"installed; needs a model file, from {MEDIAPIPE_MODEL_URL}")
    return {"face-alignment": face, "mediapipe": mediapipe}


def make_provider(
    name: str | None = None, *, model_file: str | Path | None = None, device: str = "cpu"
) -> LandmarkProvider:
    """A provider by name, or the first that is at hand.

    Args:
        name: "face-alignment" or "mediapipe"; None = mediapipe where a model file is given, else face-alignment.
        model_file: MediaPipe's `face_landmarker.task`.
        device: Where face-alignment runs.

    Raises:
        InputError: An unknown name or an unusable model file.
        MissingPartError: The package, its weights or the model file are not here.
    """
    if name is None:
        name = "mediapipe" if model_file is not None else "face-alignment"
        if name == "face-alignment" and importlib.util.find_spec("face_alignment") is None:
            raise MissingPartError(
                "a landmark provider",
                "finding the face in a photograph",
                "Install one: pip install 'hrn-fitter[landmarks]' (face-alignment), or pip install "
                f"'hrn-fitter[mediapipe]' and give --model-file with the file from {MEDIAPIPE_MODEL_URL}; or put "
                "landmarks (.pts, .json, .npy) beside the photographs.",
            )
    if name == "face-alignment":
        return FaceAlignmentProvider(device)
    if name == "mediapipe":
        return MediaPipeProvider(model_file)
    raise InputError("--provider", repr(name), " or ".join(PROVIDER_NAMES), "Choose one of them.")


def _as_bytes(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray((image.clip(0, 1) * 255).round().astype(np.uint8))


def _no_face(provider: str) -> InputError:
    return InputError(
        "the photograph",
        f"no face ({provider})",
        "one face, upright, at least 100 px wide",
        "Use a clearer photograph, or put landmarks (.pts, .json, .npy) beside it.",
    )


class FaceAlignmentProvider:
    """68 points by the PyPI package face-alignment (Bulat and Tzimiropoulos 2017).

    Args:
        device: torch device name.

    Raises:
        MissingPartError: The package or its weights are not here.
    """

    name = "face-alignment"

    def __init__(self, device: str = "cpu") -> None:
        try:
            import face_alignment
        except ImportError as error:
            raise MissingPartError(
                "the package face-alignment", f"finding landmarks ({error})", "pip install 'hrn-fitter[landmarks]'"
            ) from error
        kinds = face_alignment.LandmarksType
        kind = kinds.TWO_D if hasattr(kinds, "TWO_D") else kinds._2D
        accepted = inspect.signature(face_alignment.FaceAlignment.__init__).parameters
        # Compiling takes a C compiler and minutes; a session has a handful of photographs.
        extra = {"compile": False} if "compile" in accepted else {}
        try:
            self._network = face_alignment.FaceAlignment(kind, device=device, flip_input=True, **extra)
        except (OSError, RuntimeError, EOFError) as error:
            raise self._weights_missing(face_alignment, error) from error

    @staticmethod
    def _weights_missing(package: ModuleType, error: Exception) -> MissingPartError:
        urls = getattr(getattr(package, "api", None), "models_urls", {})
        fan = Path(str(urls.get("2DFAN-4", _FACE_ALIGNMENT_WEIGHTS[1]))).name
        reason = " ".join(str(error).split())[:200]
        return MissingPartError(
            "the weights of face-alignment",
            f"finding landmarks ({reason})",
            f"It downloads {_FACE_ALIGNMENT_WEIGHTS[0]} and {fan} from {_FACE_ALIGNMENT_URL}; without a connection put "
            f"these files into {face_alignment_weights_folder()}.",
        )

    def detect(self, image: np.ndarray) -> Landmarks:
        """See `LandmarkProvider.detect`; the package counts pixels, so its points move by half a pixel."""
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "No faces were detected" becomes the error below
            points, scores, _ = self._network.get_landmarks_from_image(
                _as_bytes(image), return_bboxes=True, return_landmark_score=True
            )
        if points is None or len(points) == 0:
            raise _no_face(self.name)
        faces = [np.asarray(face, dtype=np.float64)[:, :2] for face in points]
        # The heat maps of the photograph and its mirror image are added up, so a certain point scores 2.
        largest = int(np.argmax([np.prod(np.ptp(face, axis=0)) for face in faces]))
        confidence = np.ones(68) if scores is None else np.asarray(scores[largest], dtype=np.float64).reshape(-1) / 2
        return Landmarks(points=faces[largest] + 0.5, confidence=confidence.clip(0, 1), scheme="ibug68")


class MediaPipeProvider:
    """478 points by MediaPipe Tasks' FaceLandmarker.

    Args:
        model_file: Path of `face_landmarker.task`.

    Raises:
        MissingPartError: The package or the model file is not here.
        InputError: MediaPipe does not accept the model file.
    """

    name = "mediapipe"

    def __init__(self, model_file: str | Path | None) -> None:
        if model_file is None:
            raise MissingPartError(
                "MediaPipe's model file",
                "finding landmarks with mediapipe",
                f"Download face_landmarker.task from {MEDIAPIPE_MODEL_URL} and give it with --model-file.",
            )
        self.checksum = file_checksum(model_file)
        """SHA-256 of the model file, hexadecimal."""
        try:
            import mediapipe
        except ImportError as error:
            raise MissingPartError(
                "the package mediapipe", f"finding landmarks ({error})", "pip install 'hrn-fitter[mediapipe]'"
            ) from error
        self._mediapipe = mediapipe
        vision = mediapipe.tasks.vision
        try:
            options = vision.FaceLandmarkerOptions(
                base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(model_file)), num_faces=5
            )
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
        except (ValueError, RuntimeError, OSError) as error:
            raise InputError(
                model_file,
                f"a file that MediaPipe does not accept ({' '.join(str(error).split())[:200]})",
                "face_landmarker.task",
                f"Download it again from {MEDIAPIPE_MODEL_URL}.",
            ) from error

    def detect(self, image: np.ndarray) -> Landmarks:
        """See `LandmarkProvider.detect`; MediaPipe's points are fractions of the image's size."""
        height, width = image.shape[:2]
        picture = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=_as_bytes(image))
        faces = self._landmarker.detect(picture).face_landmarks
        if not faces:
            raise _no_face(self.name)
        candidates = [np.array([[point.x * width, point.y * height] for point in face]) for face in faces]
        points = max(candidates, key=lambda face: float(np.prod(np.ptp(face, axis=0))))
        if len(points) == 468:
            points = np.concatenate([points, np.repeat(points.mean(0, keepdims=True), 10, axis=0)])
            return Landmarks(points=points, confidence=np.r_[np.ones(468), np.zeros(10)], scheme="mediapipe478")
        return Landmarks(points=points, confidence=np.ones(len(points)), scheme="mediapipe478")

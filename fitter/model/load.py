"""Any face model by name or path: the open one, BFM 2009, 2017, 2019, ICT-FaceKit."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from fitter.errors import InputError, MissingPartError
from fitter.model import bfm2009, bfm_h5, ict_facekit
from fitter.model.cache import cache_folder, load_cached_model, save_model
from fitter.model.complete import RECIPE, complete_model
from fitter.model.foreign import PartialModel, Progress, files_checksum, mat_keys
from fitter.model.morphable import MorphableModel
from fitter.model.open_model import load_open_model, open_model_path

MODEL_NAMES = ("open", "bfm2009", "bfm2017", "bfm2019", "ict")
FOLDER_VARIABLE = "HRN_MODELS"
WHERE_FROM = {
    "bfm2009": "on application at https://faces.dmi.unibas.ch/bfm; Deep3D's preparation makes BFM_model_front.mat",
    "bfm2017": "on application at https://faces.dmi.unibas.ch/bfm",
    "bfm2019": "on application at https://faces.dmi.unibas.ch/bfm",
    "ict": "https://github.com/ICT-VGL/ICT-FaceKit (MIT), its folder FaceXModel",
}
_REMEDY = "Give 'open', BFM_model_front.mat, 01_MorphableModel.mat, a BFM 2017 or 2019 .h5, or ICT's FaceXModel folder."
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFiles:
    """A published model found on the disk."""

    name: str
    """One of `MODEL_NAMES`."""
    form: str
    """Which loader reads it: front, original, h5 or ict."""
    path: Path

    def files(self) -> list[Path]:
        """All files it consists of; raises InputError where one is missing (ICT-FaceKit)."""
        if self.form == "ict":
            return ict_facekit.ict_files(self.path)
        return bfm2009.bfm2009_files(self.path)

    def read(self, progress: Progress | None = None) -> PartialModel:
        """Read the files."""
        if self.form == "ict":
            return ict_facekit.load_ict_facekit(self.path, progress=progress)
        loaders = {
            "front": bfm2009.load_bfm2009_front,
            "original": bfm2009.load_bfm2009_original,
            "h5": bfm_h5.load_bfm_h5,
        }
        return loaders[self.form](self.path)


def model_folders() -> list[Path]:
    """Where models are looked for by name: `$HRN_MODELS` (one or more, as in PATH), and the user's config folder."""
    given = [Path(part) for part in os.environ.get(FOLDER_VARIABLE, "").split(os.pathsep) if part]
    base = os.environ.get("APPDATA") if os.name == "nt" else os.environ.get("XDG_CONFIG_HOME")
    config = (Path(base) if base else Path.home() / ".config") / "hrn-fitter" / "models"
    return [*given, config]


def _h5_name(path: Path) -> str:
    return "bfm2019" if "2019" in path.name else "bfm2017"


def _in_folder(folder: Path) -> list[ModelFiles]:
    """Models that lie directly in a folder, recognised by their file names."""
    found = []
    for file, form in ((bfm2009.FRONT_FILE, "front"), (bfm2009.ORIGINAL_FILE, "original")):
        if (folder / file).is_file():
            found.append(ModelFiles("bfm2009", form, folder / file))
    found += [ModelFiles(_h5_name(path), "h5", path) for path in sorted(folder.glob("model201[79]*.h5"))]
    ict = ict_facekit.ict_folder(folder)
    if ict is not None:
        found.append(ModelFiles("ict", "ict", ict))
    return found


def find_models() -> list[ModelFiles]:
    """Models in `model_folders()` and one level below; those found first are taken by name."""
    found: list[ModelFiles] = []
    for folder in model_folders():
        try:
            below = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
            for place in (folder, *below):
                known = {model.path for model in found}
                found += [model for model in _in_folder(place) if model.path not in known]
        except OSError:  # a folder that may not be listed holds nothing for us
            continue
    return found


def identify_model(path: Path) -> ModelFiles:
    """Which model a file or folder is.

    Raises:
        InputError: None that is known, or the file is not there.
    """
    if path.is_dir():
        found = _in_folder(path)
        if not found:
            single = sorted(path.glob("*.h5"))
            if len(single) == 1:
                return ModelFiles(_h5_name(single[0]), "h5", single[0])
            raise InputError(path, "no face model in this folder", "the files of one", _REMEDY)
        return found[0]
    if not path.exists():
        raise InputError(path, "nothing there", f"a face model's file, or one of {', '.join(MODEL_NAMES)}", _REMEDY)
    if path.suffix.lower() in (".h5", ".hdf5"):
        return ModelFiles(_h5_name(path), "h5", path)
    if path.suffix.lower() == ".mat":
        keys = mat_keys(path, _REMEDY)
        if "idBase" in keys:
            return ModelFiles("bfm2009", "front", path)
        if "shapePC" in keys:
            if path.name != bfm2009.ORIGINAL_FILE:
                raise InputError(path, "the original BFM 2009 under another name", bfm2009.ORIGINAL_FILE, "Rename it.")
            return ModelFiles("bfm2009", "original", path)
        held = ", ".join(sorted(keys)[:12]) or "none"
        raise InputError(path, f"the variables {held}", "those of BFM 2009 (idBase or shapePC)", _REMEDY)
    raise InputError(path, f"a file of type '{path.suffix}'", ".mat, .h5 or a folder", _REMEDY)


def load_model(
    name_or_path: str | Path, progress: Progress | None = None, *, template: MorphableModel | None = None
) -> MorphableModel:
    """Load a face model; what a published one lacks is completed once and cached.

    Args:
        name_or_path: One of `MODEL_NAMES` (published ones are looked for in `model_folders()`), or a file or folder.
        progress: Called with a label and a fraction in [0, 1] while something slow is built.
        template: Model whose landmarks and regions are carried over; None = the open model.

    Raises:
        InputError: Unknown, wrong, damaged or incomplete files.
        MissingPartError: A published model asked for by name is not in the model folders, or anny is missing.
    """
    if str(name_or_path) == "open":
        return load_open_model(progress)
    found = _by_name(str(name_or_path)) if str(name_or_path) in MODEL_NAMES else identify_model(Path(name_or_path))
    if progress:
        progress(f"reading {found.path.name}", 0.0)
    path = _cached_path(found, template)
    cached = load_cached_model(path)
    if cached is not None:
        return cached
    partial = found.read(progress)
    model = complete_model(partial, template or load_open_model(progress), progress)
    try:
        save_model(model, path)
    except OSError as error:
        _log.warning("the completed model is not cached in %s (%s)", path.parent, error)
    return model


def _by_name(name: str) -> ModelFiles:
    for model in find_models():
        if model.name == name:
            return model
    folders = " or ".join(str(folder) for folder in model_folders())
    raise MissingPartError(
        f"the face model {name}",
        "fitting with it",
        f"Get it ({WHERE_FROM[name]}) and put it into {folders}, or set {FOLDER_VARIABLE}.",
    )


def _cached_path(found: ModelFiles, template: MorphableModel | None) -> Path:
    """Where the completed model is cached: named by the contents of its files, the template and the recipe."""
    if template is None:
        origin = open_model_path().name
    else:
        origin = f"{template.name}-{sorted(template.source.items())}-{template.vertex_count}"
    missing = [file for file in found.files() if not file.is_file()]
    if missing:
        # Reading says which file is missing and where it comes from.
        found.read()
    key = hashlib.sha256(f"{files_checksum(found.files())} {origin} {RECIPE}".encode()).hexdigest()
    return cache_folder() / f"{found.name}-{found.form}-{key[:24]}.safetensors"

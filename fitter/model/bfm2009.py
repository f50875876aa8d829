"""The Basel Face Model 2009 with expressions, in Deep3D's selection: 35,709 vertices, 80 + 64 + 80 modes.

Two forms of the same data (Deng et al. 2019, "Accurate 3D Face Reconstruction with Weakly-Supervised Learning"):

A. `BFM_model_front.mat`, ready-made. Lengths are decimetres (the original micrometres over 1e5), colours 0–255. Its
   bases are taken to be multiplied by their standard deviations, as the published conversion writes them.
B. The files it is made from: `01_MorphableModel.mat` (Paysan et al. 2009; micrometres), `Exp_Pca.bin` and `std_exp.txt`
   (Guo et al. 2018; micrometres), and the index files `BFM_front_idx.mat`, `BFM_exp_idx.mat`, `facemodel_info.mat`.

Axes are ours already: +x to the subject's left, +y up, +z out of the face. Indices in all these files count from one.
Textures are treated as sRGB-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fitter.errors import InputError
from fitter.model.foreign import (
    PartialModel,
    check_indices,
    check_numbers,
    check_size,
    files_checksum,
    linearise,
    oriented_outwards,
    read_mat,
)

FRONT_FILE = "BFM_model_front.mat"
ORIGINAL_FILE = "01_MorphableModel.mat"
COMPANION_FILES = ("Exp_Pca.bin", "std_exp.txt", "BFM_front_idx.mat", "BFM_exp_idx.mat", "facemodel_info.mat")
IDENTITY_MODES, EXPRESSION_MODES, TEXTURE_MODES = 80, 64, 80
MM_PER_DECIMETRE = 100.0
MM_PER_MICROMETRE = 1e-3

_HOME = "BFM 2009 is given out on application at https://faces.dmi.unibas.ch/bfm"
_FRONT_REMEDY = f"{_HOME}; {FRONT_FILE} is made from it by the preparation of Deep3DFaceRecon_pytorch."
_ORIGINAL_REMEDY = f"{_HOME} (01_MorphableModel.mat)."
_EXPRESSION_REMEDY = "Exp_Pca.bin comes with Guo et al.'s 3DFace (CoarseData), std_exp.txt with Deep3DFaceRecon."
_INDEX_REMEDY = "The index files are in the BFM folder of Deep3DFaceRecon_pytorch."


@dataclass(frozen=True)
class _Parts:
    """Either form, selected and scaled: mm, colours 0–255, one row per kept vertex."""

    mean: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    texture_mean: np.ndarray
    texture: np.ndarray
    triangles: np.ndarray
    keypoints: np.ndarray


def bfm2009_files(path: Path) -> list[Path]:
    """The files that a BFM 2009 at `path` (form A's or form B's main file) consists of."""
    if path.name == ORIGINAL_FILE:
        return [path, *(path.with_name(name) for name in COMPANION_FILES)]
    return [path]


def load_bfm2009_front(path: Path) -> PartialModel:
    """Read form A.

    Args:
        path: `BFM_model_front.mat`.

    Raises:
        InputError: Not that file, or a damaged one.
    """
    keys = ("meanshape", "idBase", "exBase", "meantex", "texBase", "tri", "keypoints")
    data = read_mat(path, keys, _FRONT_REMEDY)
    count = data["meanshape"].size // 3
    for name in keys[:5]:
        rows = data[name].size if name.startswith("mean") else data[name].shape[0]
        if rows != 3 * count or not count:
            found = f"{name} of shape {'x'.join(map(str, data[name].shape))}"
            raise InputError(path, found, f"{3 * count} rows for {count} vertices", _FRONT_REMEDY)
        check_numbers(path, name, data[name], None, _FRONT_REMEDY)
    scale = MM_PER_DECIMETRE
    parts = _Parts(
        mean=data["meanshape"].reshape(-1, 3) * scale,
        identity=data["idBase"].reshape(count, 3, -1) * scale,
        expression=data["exBase"].reshape(count, 3, -1) * scale,
        texture_mean=data["meantex"].reshape(-1, 3),
        texture=data["texBase"].reshape(count, 3, -1),
        triangles=_triangles(path, data["tri"], count, _FRONT_REMEDY),
        keypoints=_keypoints(path, data["keypoints"], count, _FRONT_REMEDY),
    )
    return _partial(path, parts, "decimetres", _FRONT_REMEDY)


def load_bfm2009_original(path: Path) -> PartialModel:
    """Read form B and combine its files as Deep3D does.

    Args:
        path: `01_MorphableModel.mat`, with the companion files beside it.

    Raises:
        InputError: A file is missing, another one, damaged, or does not go with the others.
    """
    for name in COMPANION_FILES:
        if not path.with_name(name).is_file():
            remedy = _EXPRESSION_REMEDY if name in COMPANION_FILES[:2] else _INDEX_REMEDY
            raise InputError(path.with_name(name), "no such file", f"it beside {path.name}", remedy)
    keys = ("shapeMU", "shapePC", "shapeEV", "texMU", "texPC", "texEV")
    data = read_mat(path, keys, _ORIGINAL_REMEDY)
    count = data["shapeMU"].size // 3
    identity = _scaled_modes(path, data, "shapePC", "shapeEV", count, IDENTITY_MODES)
    texture = _scaled_modes(path, data, "texPC", "texEV", count, TEXTURE_MODES)
    expression = _expression_modes(path.with_name("Exp_Pca.bin"), path.with_name("std_exp.txt"))

    trim_file, front_file = path.with_name("BFM_exp_idx.mat"), path.with_name("BFM_front_idx.mat")
    trim = read_mat(trim_file, ["trimIndex"], _INDEX_REMEDY)["trimIndex"].ravel()
    trim = check_indices(trim_file, "trimIndex", trim, count, _INDEX_REMEDY, base=1)
    if len(trim) != len(expression):
        found = f"{len(trim)} vertices in trimIndex"
        raise InputError(trim_file, found, f"the {len(expression)} of Exp_Pca.bin", _INDEX_REMEDY)
    front = read_mat(front_file, ["idx"], _INDEX_REMEDY)["idx"].ravel()
    front = check_indices(front_file, "idx", front, len(trim), _INDEX_REMEDY, base=1)
    kept = trim[front]

    info_file = path.with_name("facemodel_info.mat")
    info = read_mat(info_file, ["tri", "keypoints"], _INDEX_REMEDY)
    texture_mean = check_numbers(path, "texMU", data["texMU"], 3 * count, _ORIGINAL_REMEDY)
    check_numbers(path, "shapeMU", data["shapeMU"], 3 * count, _ORIGINAL_REMEDY)
    parts = _Parts(
        mean=data["shapeMU"].reshape(-1, 3)[kept] * MM_PER_MICROMETRE,
        identity=identity[kept] * MM_PER_MICROMETRE,
        expression=expression[front] * MM_PER_MICROMETRE,
        texture_mean=texture_mean.reshape(-1, 3)[kept],
        texture=texture[kept],
        triangles=_triangles(info_file, info["tri"], len(kept), _INDEX_REMEDY),
        keypoints=_keypoints(info_file, info["keypoints"], len(kept), _INDEX_REMEDY),
    )
    return _partial(path, parts, "micrometres", _ORIGINAL_REMEDY)


def _scaled_modes(path: Path, data: dict, basis: str, deviations: str, count: int, modes: int) -> np.ndarray:
    """[V, 3, modes]: principal components times their standard deviations (`shapeEV`, `texEV` are such)."""
    components, deviation = data[basis], data[deviations].ravel()
    if components.shape[0] != 3 * count or components.ndim != 2 or components.shape[1] != len(deviation):
        found = f"{basis} of shape {'x'.join(map(str, components.shape))} with {len(deviation)} {deviations}"
        raise InputError(path, found, f"{3 * count} rows and a column each", _ORIGINAL_REMEDY)
    scaled = components[:, :modes] * deviation[:modes]
    check_numbers(path, basis, scaled, None, _ORIGINAL_REMEDY)
    return scaled.reshape(count, 3, -1)


def _expression_modes(path: Path, deviations_path: Path) -> np.ndarray:
    """[N, 3, modes] µm per standard deviation, from `Exp_Pca.bin` and `std_exp.txt`.

    The binary file holds int32 modes, float32 mean [3N], float32 basis [modes, 3N].
    """
    try:
        raw = path.read_bytes()
        text = deviations_path.read_text("ascii", "replace")
    except OSError as error:
        raise InputError(error.filename, f"no readable file ({error.strerror})", "", _EXPRESSION_REMEDY) from error
    expected = "a count of modes, a mean and as many modes, for a whole number of vertices"
    modes = int.from_bytes(raw[:4], "little", signed=True) if len(raw) >= 4 else 0
    count, rest = divmod(len(raw) - 4, 12 * (1 + modes)) if 0 < modes <= 1000 else (0, 1)
    if rest or count <= 0:
        raise InputError(path, f"{len(raw)} bytes announcing {modes} modes", expected, _EXPRESSION_REMEDY)
    try:
        deviation = np.array(text.split(), np.float64)
    except ValueError as error:
        found = f"something else ({error})"
        raise InputError(deviations_path, found, f"{modes} numbers", _EXPRESSION_REMEDY) from error
    if len(deviation) != modes:
        raise InputError(deviations_path, f"{len(deviation)} numbers", str(modes), _EXPRESSION_REMEDY)
    # The mean that comes first is not used: the published conversion leaves the neutral face at the shape's mean.
    basis = np.frombuffer(raw, "<f4", offset=4 + 12 * count).reshape(modes, count, 3)[:EXPRESSION_MODES]
    scaled = basis.transpose(1, 2, 0) * deviation[:EXPRESSION_MODES]
    return check_numbers(path, "the expression basis", scaled, None, _EXPRESSION_REMEDY)


def _triangles(path: Path, table: np.ndarray, count: int, remedy: str) -> np.ndarray:
    if table.ndim != 2 or table.shape[1] != 3 or not len(table):
        raise InputError(path, f"tri of shape {'x'.join(map(str, table.shape))}", "three columns", remedy)
    return check_indices(path, "tri", table, count, remedy, base=1)


def _keypoints(path: Path, table: np.ndarray, count: int, remedy: str) -> np.ndarray:
    if table.size != 68:
        raise InputError(path, f"{table.size} keypoints", "68", remedy)
    return check_indices(path, "keypoints", table.ravel(), count, remedy, base=1)


def _partial(path: Path, parts: _Parts, unit: str, remedy: str) -> PartialModel:
    check_size(path, parts.mean, parts.mean[parts.keypoints[[36, 45]]], unit, remedy)
    brightest = float(np.max(parts.texture_mean))
    if not 1.5 < brightest <= 400.0:
        raise InputError(path, f"a mean texture up to {brightest:.4g}", "colours from 0 to 255", remedy)
    albedo_mean, albedo_basis = linearise(parts.texture_mean / 255.0, parts.texture / 255.0)
    modes = parts.expression.shape[-1]
    return PartialModel(
        name="bfm2009",
        mean=parts.mean,
        identity_basis=parts.identity,
        expression_basis=parts.expression,
        expression_names=tuple(f"expression_{k:02d}" for k in range(modes)),
        expressions_are_named=False,
        triangles=oriented_outwards(parts.mean, parts.triangles),
        albedo_mean=albedo_mean,
        albedo_basis=albedo_basis,
        landmark_vertices=parts.keypoints,
        source={
            "from": path.name,
            "sha256": files_checksum(bfm2009_files(path)),
            "licence": "Basel Face Model 2009, the user's own copy; not for redistribution",
            "assumptions": f"lengths in {unit}; unit-variance coefficients; textures sRGB-encoded, 0 to 255",
        },
    )

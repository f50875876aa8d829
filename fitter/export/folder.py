"""One folder per session: everything a fit gives, each file whole or not at all, `done.json` last."""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fitter.atomic import write_bytes
from fitter.errors import InputError
from fitter.export import cameras, meshes, records
from fitter.export.gltf import build_glb
from fitter.export.maps import colour_png, map_files, png
from fitter.export.patches import with_painted_patches
from fitter.obj import ObjMesh, decimals_for, format_mtl, format_obj
from fitter.result.types import FitResult
from fitter.threads import in_threads

if TYPE_CHECKING:
    from fitter.export.report.scan_pictures import ScanStudio

MARKER = "done.json"
"""Written last: its presence says that the folder is complete."""
REPORT = "report.html"
OPTIONAL = (REPORT, "coverage.png", "cameras.json", "transforms.json", "valid.png", "scan_error.ply", "scan_error.png")
"""Files that not every result has: those of an earlier result must not stay beside one without them."""
UNSTABLE = ("timings.json",)
"""Files that differ between equal runs; the marker names them without a checksum."""

Progress = Callable[[str, float], None]


@dataclass
class _Writer:
    """Writes files into one folder and remembers their checksums."""

    folder: Path
    checksums: dict[str, str | None] = field(default_factory=dict)

    def __call__(self, name: str, data: bytes) -> None:
        try:
            write_bytes(self.folder / name, data)
        except OSError as error:
            raise output_error(self.folder / name, error) from error
        self.checksums[name] = None if name in UNSTABLE else hashlib.sha256(data).hexdigest()


def output_error(path: Path, error: OSError) -> InputError:
    """The user's line for a file that cannot be written."""
    if error.errno == errno.ENOSPC:
        return InputError(
            path, "no space left to write it", remedy="Free some space or choose another output folder, then run again."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        remedy = "Choose an output folder you may write to, or change its permissions."
        return InputError(path, f"a place that cannot be written ({error.strerror})", "a writable folder", remedy)
    reason = error.strerror or str(error) or type(error).__name__
    return InputError(
        path, f"an error while writing it ({reason})", remedy="Choose another output folder, then run again."
    )


def is_complete(folder: str | Path) -> bool:
    """Whether `folder` holds a whole result: the marker is there and so is every file that it names."""
    import json

    folder = Path(folder)
    try:
        names = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all((folder / name).is_file() for name in names)


def write_result(
    result: FitResult,
    folder: str | Path,
    *,
    report: bool = True,
    texture_bits: int = 8,
    paint_eyes: bool = True,
    progress: Progress | None = None,
) -> dict[str, str | None]:
    """Write a finished fit to `folder`.

    Args:
        result: The fit.
        folder: Where to write; made if it is not there. Files of an earlier result are replaced one by one, those that
            this one lacks are removed.
        report: Whether to draw and write report.html too, and of a scan the picture of its error.
        texture_bits: 8, or 16 for texture.png and albedo.png.
        paint_eyes: Whether eyeballs and inside of the mouth get the fitted albedo in texture and albedo; False where
            the fit has painted them itself.
        progress: Called with (what is being written, fraction done).

    Returns:
        File name -> SHA-256, as in `done.json`; None for files that differ between equal runs.

    Raises:
        InputError: A file cannot be written (read-only, no space left); files already there are whole, and without the
            marker nothing takes the folder for complete.
    """
    folder = Path(folder)
    tell = progress or (lambda _name, _fraction: None)
    start = time.perf_counter()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A stale marker must not vouch for a mixture of old and new files.
        (folder / MARKER).unlink(missing_ok=True)
        for name in OPTIONAL:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    write = _Writer(folder)
    if paint_eyes:
        result = with_painted_patches(result)
    tell("meshes and maps", 0.0)
    # Side by side, as the dense mesh's text takes about as long as all the rest; nothing in them runs Numba's own threads.
    for files in in_threads(
        lambda make: make(), (lambda: _dense_files(result), lambda: _other_files(result, texture_bits))
    ):
        for name, data in files.items():
            write(name, data)
    tell("records", 0.5)
    if result.views:
        write("cameras.json", records.json_bytes(cameras.camera_records(result)))
        write("transforms.json", records.json_bytes(cameras.nerfstudio_record(result)))
    write("coefficients.json", records.json_bytes(records.coefficient_record(result)))
    write("landmarks3d.json", records.json_bytes(records.landmark_record(result)))
    write("fit.json", records.json_bytes(records.fit_record(result)))
    if result.scan is not None:
        _write_scan_error(result, write)
    if report:
        from fitter.export.report import build_report

        tell("report", 0.6)
        studio = _write_scan_picture(result, write) if result.scan is not None else None
        write(REPORT, build_report(result, studio))
    write("timings.json", records.json_bytes(records.timing_record(result, time.perf_counter() - start)))
    write_marker(write)
    tell("done", 1.0)
    return write.checksums


def write_marker(write: _Writer) -> None:
    """Write `done.json` with the list of files and their checksums."""
    files = dict(sorted(write.checksums.items()))
    try:
        write_bytes(write.folder / MARKER, records.json_bytes({"format": "hrn-done-1", "files": files}))
    except OSError as error:
        raise output_error(write.folder / MARKER, error) from error


def _write_scan_error(result: FitResult, write: _Writer) -> None:
    """The scan coloured by its distance to the fit."""
    from fitter.export.scan_files import ERROR_MESH, scan_error_ply

    write(ERROR_MESH, scan_error_ply(result))


def _write_scan_picture(result: FitResult, write: _Writer) -> ScanStudio:
    """Write the picture of it; returns what drew that, for the report."""
    from fitter.export.report.pictures import Studio
    from fitter.export.report.scan_pictures import ScanStudio
    from fitter.export.scan_files import ERROR_PICTURE

    studio = ScanStudio(Studio(result))
    write(ERROR_PICTURE, png(studio.error_sheet))
    return studio


def _dense_files(result: FitResult) -> dict[str, bytes]:
    """M2's mesh by file name."""
    mesh = meshes.dense_mesh(result, meshes.textured_triangles(result.model))
    level = "M2: with the displacement map; texture coordinates of the maps; the eyes are M1's"
    return {"dense.obj": _obj(result, mesh, level, meshes.MATERIAL_LIBRARY)}


def _other_files(result: FitResult, texture_bits: int) -> dict[str, bytes]:
    """The meshes of M0 and M1, their materials, every map, and the GLB, by file name."""
    textured = meshes.textured_triangles(result.model)
    maps = map_files(result, texture_bits=texture_bits)
    # Programs that read GLB expect 8 bits.
    texture = maps.files["texture.png"] if texture_bits == 8 else colour_png(result.texture)
    library = meshes.MATERIAL_LIBRARY
    return {
        "m0.obj": _obj(result, meshes.coarse_mesh(result), "M0: the face model; the model's own texture coordinates"),
        library: format_mtl(meshes.materials(result, textured)),
        "face.obj": _obj(
            result,
            meshes.face_mesh(result, textured),
            "M1: with the deformation map; texture coordinates of the maps",
            library,
        ),
        **maps.files,
        "face.glb": build_glb(result, texture),
        "maps.json": records.json_bytes(maps.record),
    }


def _obj(result: FitResult, mesh: ObjMesh, level: str, library: str | None = None) -> bytes:
    """A mesh as an OBJ file that says what it is."""
    unit = f"{cameras.unit_name(result)} ({result.mm_per_unit:.9g} mm)"
    return format_obj(
        mesh,
        material_library=library,
        decimals=decimals_for(result.mm_per_unit),
        comment=f"{level}; unit: {unit}; frame: the session's world",
    )

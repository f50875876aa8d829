"""ICT-FaceKit's light face model (Li et al. 2020): a folder of OBJ files that share one mesh.

`generic_neutral_mesh.obj` is the mean; every `identityNNN.obj` is the mean plus one standard deviation of a mode; every
expression file is the mean with that expression fully on. Lengths are centimetres, +y up, +z out of the face, +x to the
subject's left. The project's README documents the vertex ranges and the landmarks used here.

The outermost shells around the eyes (lacrimal fluid, blend, occlusion, lashes) are made for transparent materials and
would hide the eyeballs in a plain render. They come last: the model is cut off before them and all other numbers stay.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from fitter.errors import InputError
from fitter.model.foreign import PartialModel, Progress, check_size, files_checksum, oriented_outwards
from fitter.obj import ObjMesh, read_obj

NEUTRAL_FILE = "generic_neutral_mesh.obj"
FOLDER = "FaceXModel"
MM_PER_CENTIMETRE = 10.0
REMEDY = "ICT-FaceKit (MIT) is at https://github.com/ICT-VGL/ICT-FaceKit; give its FaceXModel folder."


@dataclass(frozen=True)
class IctLayout:
    """Where the parts of the head are among the vertices; ranges are [first, last + 1)."""

    vertex_count: int = 26719
    kept: int = 24591
    """Vertices up to the transparent shells."""
    skin: tuple[int, int] = (0, 14062)
    """Face, head and neck, mouth socket, eye sockets: one connected surface."""
    face: tuple[int, int] = (0, 9409)
    mouth_inside: tuple[int, int] = (11248, 21451)
    """Mouth socket, gums and tongue, teeth."""
    sockets: tuple[int, int] = (13294, 14062)
    eyes: tuple[int, int] = (21451, 24591)
    irises: tuple[tuple[int, int], ...] = ((22221, 23021), (23791, 24591))
    # fmt: off
    landmarks: tuple[int, ...] = (
        1278, 1272, 12, 1834, 243, 781, 2199, 1447, 966, 3661, 4390, 3022, 2484, 4036, 2253, 3490, 3496,
        268, 493, 1914, 2044, 1401, 3615, 4240, 4114, 2734, 2509, 978, 4527, 4942, 4857, 1140, 2075, 1147, 4269, 3360,
        1507, 1542, 1537, 1528, 1518, 1511, 3742, 3751, 3756, 3721, 3725, 3732,
        5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841,
        5702, 5711, 5533, 6216, 6207, 6470, 5517, 5966,
    )
    # fmt: on
    """Multi-PIE (iBUG) 68, the jaw line by its documented left and right jaw lines."""


ICT_LAYOUT = IctLayout()


def ict_arkit_table() -> dict:
    """The table `data/ict_arkit.json`: one_to_one, merged, missing, left_out."""
    return json.loads(resources.files("fitter.model").joinpath("data/ict_arkit.json").read_text("utf-8"))


def ict_folder(path: Path) -> Path | None:
    """The folder with the OBJ files: `path` itself or its `FaceXModel`; None where there is neither."""
    for folder in (path, path / FOLDER):
        if (folder / NEUTRAL_FILE).is_file():
            return folder
    return None


def ict_files(folder: Path) -> list[Path]:
    """The files that make up the model.

    Raises:
        InputError: The mean, an expression or all identities are missing.
    """
    table = ict_arkit_table()
    names = [*table["one_to_one"], *(part for parts in table["merged"].values() for part in parts)]
    expected = [folder / NEUTRAL_FILE, *(folder / f"{name}.obj" for name in names)]
    missing = [path for path in expected if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(missing[0], f"no such file{more}", "the whole folder", REMEDY)
    identities = sorted(folder.glob("identity[0-9][0-9][0-9].obj"))
    if not identities:
        raise InputError(folder, "no identityNNN.obj", "100 of them", REMEDY)
    if identities[-1].stem != f"identity{len(identities) - 1:03d}":
        raise InputError(folder, f"{len(identities)} identity files with gaps", "consecutive numbers", REMEDY)
    return [*expected, *identities]


def load_ict_facekit(path: Path, layout: IctLayout = ICT_LAYOUT, progress: Progress | None = None) -> PartialModel:
    """Read the folder.

    Args:
        path: `FaceXModel`, or the repository that holds it.
        layout: Vertex ranges and landmarks of the mesh.
        progress: Called while the files are read; there are 150 of them.

    Raises:
        InputError: Not that folder, a file is missing, damaged, or of another mesh.
    """
    folder = ict_folder(path)
    if folder is None:
        raise InputError(path, f"no {NEUTRAL_FILE}", "ICT-FaceKit's FaceXModel folder", REMEDY)
    files = ict_files(folder)
    neutral = read_obj(files[0])
    if len(neutral.vertices) != layout.vertex_count:
        found = f"{len(neutral.vertices)} vertices"
        raise InputError(files[0], found, f"the {layout.vertex_count} of the light model", REMEDY)
    offsets: dict[str, np.ndarray] = {}
    for number, file in enumerate(files[1:]):
        if progress:
            progress("reading ICT-FaceKit", number / len(files))
        offset = _obj_vertices(file, layout.vertex_count) - neutral.vertices
        offsets[file.stem] = (offset[: layout.kept] * MM_PER_CENTIMETRE).astype(np.float32)

    mean = neutral.vertices[: layout.kept] * MM_PER_CENTIMETRE
    landmarks = np.array(layout.landmarks)
    check_size(files[0], mean, mean[landmarks[[36, 45]]], "centimetres", REMEDY)
    names, expressions = _arkit_expressions(offsets)
    identities = [offsets[file.stem] for file in files if file.stem.startswith("identity")]
    triangles, uv_triangles = _kept_triangles(neutral, layout, files[0])
    regions = _regions(layout)
    return PartialModel(
        name="ict-facekit",
        mean=mean,
        identity_basis=np.stack(identities, -1),
        expression_basis=np.stack(expressions, -1),
        expression_names=names,
        expressions_are_named=True,
        triangles=triangles,
        uv=neutral.uv,
        uv_triangles=uv_triangles,
        landmark_vertices=landmarks,
        regions=regions,
        map_surface=regions["skin"],
        source={
            "from": "ICT-FaceKit FaceXModel",
            "sha256": files_checksum(files),
            "licence": "MIT (USC Institute for Creative Technologies)",
            "assumptions": "lengths in centimetres; identity files are one standard deviation; neutral skin, no albedo",
        },
    )


def _obj_vertices(path: Path, count: int) -> np.ndarray:
    """[V, 3] positions of an OBJ file, in bulk; its faces are those of the neutral mesh."""
    try:
        lines = path.read_bytes().splitlines()
        rows = [line[2:] for line in lines if line[:2] in (b"v ", b"v\t")]
        table = np.array(b" ".join(rows).split(), np.float64)
    except OSError as error:
        raise InputError(path, f"no readable file ({error.strerror})", "an OBJ mesh", REMEDY) from error
    except ValueError as error:
        raise InputError(path, f"a damaged OBJ file ({error})", "numbers behind every v", REMEDY) from error
    if len(rows) != count or len(table) != 3 * count or not np.isfinite(table).all():
        raise InputError(path, f"{len(rows)} vertices, {len(table)} coordinates", f"{count} vertices", REMEDY)
    return table.reshape(count, 3)


def _arkit_expressions(offsets: dict[str, np.ndarray]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Names and offsets in ARKit's (alphabetical) order; what ARKit has as one shape is added up from two."""
    table = ict_arkit_table()
    found = {arkit: offsets[own] for own, arkit in table["one_to_one"].items()}
    for arkit, parts in table["merged"].items():
        found[arkit] = np.sum([offsets[part] for part in parts], axis=0, dtype=np.float32)
    names = tuple(sorted(found))
    return names, [found[name] for name in names]


def _kept_triangles(neutral: ObjMesh, layout: IctLayout, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Triangles (quads are cut already) of the kept parts, each component counter-clockwise as in the file."""
    kept = (neutral.triangles < layout.kept).all(1)
    triangles = neutral.triangles[kept]
    skin = (triangles < layout.skin[1]).all(1)
    if not skin.any():
        raise InputError(path, "no faces among the skin's vertices", "the mesh of the light model", REMEDY)
    uv_triangles = neutral.uv_triangles[kept] if neutral.uv_triangles is not None else None
    if uv_triangles is not None and uv_triangles.min() < 0:
        uv_triangles = None  # faces without texture coordinates: the atlas stands in
    turned = oriented_outwards(neutral.vertices, triangles[skin])[0, 0] != triangles[skin][0, 0]
    if turned:
        triangles = np.ascontiguousarray(triangles[:, ::-1])
        uv_triangles = np.ascontiguousarray(uv_triangles[:, ::-1]) if uv_triangles is not None else None
    return triangles, uv_triangles


def _regions(layout: IctLayout) -> dict[str, np.ndarray]:
    number = np.arange(layout.kept)

    def between(span: tuple[int, int]) -> np.ndarray:
        return (number >= span[0]) & (number < span[1])

    return {
        "face": between(layout.face),
        "skin": between(layout.skin),
        "eyes": between(layout.eyes),
        "mouth_inside": between(layout.mouth_inside) & ~between(layout.sockets),
        "sockets": between(layout.sockets),
        "iris": np.any([between(span) for span in layout.irises], axis=0),
    }

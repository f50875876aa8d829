"""What the first bytes of a mesh file promise, checked before any parser sees it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from fitter.errors import InputError

SUFFIXES = (".ply", ".obj", ".stl", ".glb", ".gltf")
"""Mesh files that can be read."""
EXPECTED = "a triangle mesh (PLY, OBJ, STL, GLB or glTF)"

_AGAIN = "Export or copy the scan again."
_HEAD_BYTES = 1 << 16
_PICTURES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"RIFF": "WebP",
    b"v/1\x01": "OpenEXR",
}
_PLY_BYTES = {
    "char": 1,
    "uchar": 1,
    "short": 2,
    "ushort": 2,
    "int": 4,
    "uint": 4,
    "float": 4,
    "double": 8,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "float64": 8,
}
_STL_HEADER, _STL_TRIANGLE = 84, 50


def check_file(path: Path) -> None:
    """Refuse what is no mesh of its suffix, or not all of one; parsers report such files late, vaguely or never.

    Raises:
        InputError: The file is not there, is empty, is of another kind, or is shorter than its header says.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(path, f"the suffix {path.suffix!r}", EXPECTED, "Convert the scan.")
    if not path.is_file():
        raise InputError(path, "no such file", EXPECTED, "Check the path.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(max(0, size - 1024))
            tail = file.read()
    except OSError as error:
        raise InputError(path, f"a file that cannot be read ({error.strerror})", EXPECTED, "Check the file.") from error
    if size == 0:
        raise InputError(path, "an empty file", EXPECTED, _AGAIN)
    for magic, name in _PICTURES.items():
        # "BM" alone may begin the free text of an STL header.
        if head.startswith(magic) and not (name == "BMP" and path.suffix.lower() == ".stl"):
            raise InputError(path, f"a picture ({name})", EXPECTED, "Give the scan's mesh, not a photograph of it.")
    check = {".ply": _check_ply, ".stl": _check_stl, ".glb": _check_glb}.get(path.suffix.lower())
    if check is not None:
        check(path, head, tail, size)


def _truncated(path: Path, found: str, expected: str) -> InputError:
    return InputError(path, f"a truncated file: {found}", expected, _AGAIN)


def _check_ply(path: Path, head: bytes, tail: bytes, size: int) -> None:
    if not head.startswith(b"ply"):
        raise InputError(path, "no PLY file (it does not begin with `ply`)", EXPECTED, _AGAIN)
    ending = re.search(rb"\nend_header[ \t]*\r?\n", head)
    if ending is None:
        raise _truncated(path, "its header has no end", "`end_header`")
    lines = [line.split() for line in head[: ending.start()].decode("latin-1").splitlines()]
    least, elements, rows = 0, {}, 0
    try:
        for line in lines:
            if line[:1] == ["element"]:
                rows = int(line[2])
                elements[line[1]] = rows
            elif line[:2] == ["property", "list"]:
                # Lists have no fixed length: faces have three corners at least, others may be empty.
                corners = 3 if line[4] in ("vertex_indices", "vertex_index") else 0
                least += rows * (_PLY_BYTES[line[2]] + corners * _PLY_BYTES[line[3]])
            elif line[:1] == ["property"]:
                least += rows * _PLY_BYTES[line[1]]
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(path, f"a PLY header that cannot be understood ({error})", EXPECTED, _AGAIN) from error
    if not elements.get("vertex"):
        raise InputError(path, "a PLY file without vertices", EXPECTED, _AGAIN)
    if not elements.get("face") and not elements.get("tristrips"):
        raise no_triangles(path)
    if any(line[:2] == ["format", "ascii"] for line in lines):
        _check_ascii_rows(path, ending.end(), sum(elements.values()))
    elif size < ending.end() + least:
        raise _truncated(path, f"{size} bytes", f"at least {ending.end() + least} by its header")


def _check_ascii_rows(path: Path, start: int, expected: int) -> None:
    with path.open("rb") as file:
        file.seek(start)
        rows = sum(1 for line in file if line.strip())
    if rows < expected:
        raise _truncated(path, f"{rows} lines of data", f"{expected} by its header")


def _check_stl(path: Path, head: bytes, tail: bytes, size: int) -> None:
    if size >= _STL_HEADER:
        count = int(np.frombuffer(head[80:84], "<u4")[0])
        if size == _STL_HEADER + count * _STL_TRIANGLE:
            if count == 0:
                raise no_triangles(path)
            return
    if head.lstrip()[:5].lower() == b"solid" and b"facet" in head[:4096].lower():
        if b"endsolid" not in tail.lower():
            raise _truncated(path, "a text STL without its last line", "`endsolid`")
        return
    if size < _STL_HEADER:
        raise _truncated(path, f"{size} bytes", f"an STL file of at least {_STL_HEADER}")
    expected = _STL_HEADER + count * _STL_TRIANGLE
    raise InputError(
        path, f"a truncated or foreign file: {size} bytes", f"{expected}, for {count} triangles by its header", _AGAIN
    )


def _check_glb(path: Path, head: bytes, tail: bytes, size: int) -> None:
    if not head.startswith(b"glTF"):
        raise InputError(path, "no binary glTF (it does not begin with `glTF`)", EXPECTED, _AGAIN)
    expected = int(np.frombuffer(head[8:12], "<u4")[0]) if size >= 12 else 12
    if size < expected:
        raise _truncated(path, f"{size} bytes", f"{expected} by its header")


def no_triangles(path: Path) -> InputError:
    """The error for points without a surface."""
    return InputError(path, "points without triangles", EXPECTED, "Mesh the point cloud first.")

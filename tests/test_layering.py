"""Who may import whom, read from the source: one direction, no numpy in the loops, no device but the input's."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FITTER = ROOT / "fitter"

BASE = {"errors", "atomic", "camera", "mesh_edges", "mesh_normals", "number_text", "obj", "threads", ""}
"""Modules of the package's root that every part may use."""
ALLOWED = {
    "errors": set(),
    "atomic": set(),
    "camera": set(),
    "mesh_edges": set(),
    "mesh_normals": set(),
    "number_text": set(),
    "threads": set(),
    "obj": set(),
    "kernels": set(),
    "render": {"kernels"},
    "model": set(),
    "capture": set(),
    "alignment": {"capture", "kernels", "model"},
    "texture": {"kernels", "render"},
    "hierarchy": {"kernels", "model", "render"},
    "energies": {"hierarchy", "kernels", "model", "render"},
    "optimise": {"energies", "hierarchy", "kernels", "model", "render", "texture"},
    "result": {"capture", "hierarchy", "kernels", "model", "optimise", "render", "texture"},
    "export": {"capture", "model", "kernels", "render", "result"},
    "compare": {"capture", "export", "kernels", "model", "render", "result"},
    "face_masks": {"capture", "hierarchy", "kernels", "model", "optimise", "render"},
    "carried_landmarks": {"capture", "kernels"},
    "scan_target": {"alignment", "capture", "carried_landmarks", "kernels", "model", "optimise"},
    "fit": {"capture", "face_masks", "scan_target", "kernels", "hierarchy", "model", "optimise", "render", "result"},
}
"""Part -> the parts it may import; only `cli`, `__init__` and `__main__` may import everything."""


def _files(part: str) -> list[Path]:
    single = FITTER / f"{part}.py"
    return [single] if single.is_file() else sorted((FITTER / part).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, at its top or inside functions."""
    names = set()
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    tree = ast.parse(path.read_text("utf-8"))
    # What is imported for annotations only is no dependency.
    unused = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in unused:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def _parts(path: Path) -> set[str]:
    """Parts of the package that a file imports."""
    found = {name.split(".")[1] for name in _imports(path) if name.startswith("fitter.")}
    known = {p.stem if p.suffix == ".py" else p.name for p in FITTER.iterdir()}
    return found & known


def _words(path: Path) -> set[str]:
    """Words in a file's names and literals; comments and docstrings may speak of anything."""
    source = path.read_text("utf-8")
    documentation = {
        node.body[0].value.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    words = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or token.start[0] in documentation:
            continue
        words |= set(re.findall(r"[a-z0-9]+", token.string.lower()))
    return words


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_a_part_imports_only_what_lies_before_it(part):
    files = _files(part)
    assert files, f"{part} is not there"
    for path in files:
        wrong = _parts(path) - ALLOWED[part] - BASE - {part}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_the_order_has_no_circle():
    order: list[str] = []
    remaining = dict(ALLOWED)
    while remaining:
        ready = [part for part, needs in remaining.items() if needs <= set(order)]
        assert ready, f"a circle among {sorted(remaining)}"
        order += ready
        remaining = {part: needs for part, needs in remaining.items() if part not in ready}


def test_every_part_has_its_place():
    parts = {p.name for p in FITTER.iterdir() if p.is_dir() and p.name != "__pycache__"}
    parts |= {p.stem for p in FITTER.glob("*.py")}
    assert parts - {"cli", "__init__", "__main__"} == set(ALLOWED)


@pytest.mark.parametrize("part", ["energies", "optimise"])
def test_the_loops_know_neither_numpy_nor_a_device(part):
    for path in _files(part):
        foreign = {name for name in _imports(path) if name.split(".")[0] in ("numpy", "scipy", "numba", "warp")}
        assert not foreign, f"{path.relative_to(ROOT)} imports {sorted(foreign)}"
        assert "cuda" not in _words(path), f"{path.relative_to(ROOT)} names a device"


def test_devices_are_named_by_the_kernels_and_the_command_line_only():
    named = {path.relative_to(FITTER).parts[0] for path in FITTER.rglob("*.py") if "cuda" in _words(path)}
    assert named <= {"kernels", "cli"}


def test_only_the_command_line_may_import_benchmarks():
    for path in FITTER.rglob("*.py"):
        if path.relative_to(FITTER).parts[0] == "cli":
            continue
        roots = {name.split(".")[0] for name in _imports(path)}
        assert not roots & {"benchmarks", "tests", "priors"}, path.relative_to(ROOT)


def test_the_reader_of_imports_sees_them_all(tmp_path):
    """The test's own eyes: imports of all kinds, and words outside documentation."""
    inner = FITTER / "render" / "scene.py"
    assert {"fitter.render.shading", "torch", "fitter.kernels.surface"} <= _imports(inner)
    assert _parts(inner) == {"camera", "kernels", "render"}
    sample = tmp_path / "sample.py"
    sample.write_text('"""cuda"""\n# cuda\ndef f():\n    """cuda"""\n    return 1\n')
    assert "cuda" not in _words(sample)
    sample.write_text('x = "cuda:0"\n')
    assert "cuda" in _words(sample)


def test_help_does_not_wait_for_torch():
    """Importing the command's entry imports nothing heavy."""
    import subprocess
    import sys

    script = (
        "import sys, fitter.cli.main; print(sorted({'torch', 'numba', 'warp', 'anny', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"

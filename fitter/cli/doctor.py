"""`hrn doctor`: what is usable here, what is missing, and where it comes from."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal, TextIO

State = Literal["usable", "missing", "warning", "info"]

NVDIFFRAST_INSTALL = (
    "not on PyPI; research licence; needs a CUDA device and nvcc: "
    "pip install --no-build-isolation git+https://github.com/NVlabs/nvdiffrast"
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CORE_PACKAGES = ("torch", "numpy", "scipy", "numba", "anny", "libigl", "safetensors", "OpenEXR", "pygltflib")
LPIPS_BACKBONES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
"""torchvision's weight files, by the name of the LPIPS backbone."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    group: str
    part: str
    state: State
    detail: str
    """What is there, or where the missing part comes from."""


def installed(module: str) -> bool:
    """Whether a module could be imported, judged without importing it."""
    try:
        return util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):  # a half-installed parent package
        return False


def version_of(distribution: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except Exception:  # a damaged metadata folder must not stop the report
        return None


def _versions() -> list[Finding]:
    group = "versions"
    findings = [
        Finding(group, "hrn-fitter", "info", version_of("hrn-fitter") or "not installed as a package"),
        Finding(group, "Python", "info", f"{platform.python_version()}, {platform.system()} {platform.machine()}"),
    ]
    for name in CORE_PACKAGES:
        version = version_of(name)
        remedy = version or f"pip install {name}"
        findings.append(Finding(group, name, "info" if version else "missing", remedy))
    return findings


def _stranger() -> list[Finding]:
    version = version_of("fitter")
    if version is None:
        return []
    detail = (
        f"PyPI's unrelated package 'fitter' {version} has the same import name and overwrites parts of this one: "
        "pip uninstall fitter, then pip install --force-reinstall --no-deps hrn-fitter"
    )
    return [Finding("versions", "fitter (stranger)", "warning", detail)]


def _open_model() -> Finding:
    from fitter.model.open_model import open_model_path

    if not installed("anny"):
        return Finding("face models", "open", "missing", "pip install anny")
    path = open_model_path()
    if path.is_file():
        return Finding("face models", "open", "usable", f"anny {version_of('anny')}, cached in {path.parent}")
    return Finding("face models", "open", "usable", f"anny {version_of('anny')}; built on first use, about a minute")


def _published_models() -> list[Finding]:
    from fitter.errors import InputError
    from fitter.model.load import FOLDER_VARIABLE, WHERE_FROM, find_models, model_folders

    findings, names = [], set()
    for model in find_models():
        names.add(model.name)
        try:
            absent = [file.name for file in model.files() if not file.is_file()]
            problem = f"{model.path}: without {', '.join(absent)}" if absent else ""
        except InputError as error:
            problem = str(error)
        state: State = "missing" if problem else "usable"
        findings.append(Finding("face models", model.name, state, problem or str(model.path)))
    for name, source in WHERE_FROM.items():
        if name not in names:
            findings.append(Finding("face models", name, "missing", source))
    folders = ", ".join(str(folder) for folder in model_folders())
    searched = f"{folders}; {FOLDER_VARIABLE} names more, or give a path"
    return [*findings, Finding("face models", "searched folders", "info", searched)]


def _cuda_device() -> str | None:
    """Name of the first CUDA device, or None."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _render_backends() -> list[Finding]:
    group = "rendering"
    device = _cuda_device()
    findings = [
        Finding(group, "CUDA device", "usable" if device else "missing", device or "none that this torch can use"),
        Finding(group, "torch reference", "usable", "any device; slow, for comparison"),
    ]
    if installed("numba"):
        findings.append(Finding(group, "numba (CPU)", "usable", f"numba {version_of('numba')}, default on the CPU"))
    else:
        findings.append(Finding(group, "numba (CPU)", "missing", "pip install numba"))
    warp = version_of("warp-lang")
    if not installed("warp"):
        findings.append(Finding(group, "Warp (CUDA)", "missing", "pip install warp-lang"))
    elif device:
        findings.append(Finding(group, "Warp (CUDA)", "usable", f"warp-lang {warp}"))
    else:
        findings.append(Finding(group, "Warp (CUDA)", "missing", f"warp-lang {warp} is here, a CUDA device is not"))
    if not installed("nvdiffrast"):
        findings.append(Finding(group, "nvdiffrast (CUDA)", "missing", NVDIFFRAST_INSTALL))
    elif device:
        findings.append(Finding(group, "nvdiffrast (CUDA)", "usable", f"nvdiffrast {version_of('nvdiffrast')}"))
    else:
        findings.append(Finding(group, "nvdiffrast (CUDA)", "missing", "installed; a CUDA device is not here"))
    return findings


def _landmark_providers() -> list[Finding]:
    from fitter.capture.providers import provider_status

    return [
        Finding("landmarks", name, "usable" if usable else "missing", detail)
        for name, (usable, detail) in provider_status().items()
    ] + [Finding("landmarks", "files", "usable", ".pts, .json or .npy beside the photographs")]


def _perceptual_parts() -> list[Finding]:
    group = "perceptual"
    findings = []
    for package in ("torchvision", "lpips"):
        if installed(package):
            findings.append(Finding(group, package, "usable", version_of(package) or "installed"))
        else:
            findings.append(Finding(group, package, "missing", "pip install 'hrn-fitter[perceptual]'"))
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for backbone, file in LPIPS_BACKBONES.items():
        here = (folder / file).is_file()
        detail = str(folder / file) if here else f"https://download.pytorch.org/models/{file}, into {folder}"
        findings.append(Finding(group, f"weights of {backbone}", "usable" if here else "missing", detail))
    given = "a safetensors file of the user's own, named in the configuration"
    findings.append(Finding(group, "face recognition network", "info", given))
    return findings


def _export_parts() -> list[Finding]:
    parts = (
        ("OpenEXR", "OpenEXR", "EXR maps"),
        ("pygltflib", "pygltflib", "GLB with blendshapes"),
        ("tifffile", "tifffile", "16-bit TIFF"),
        ("imagecodecs", "imagecodecs", "16-bit PNG"),
        ("PIL", "pillow", "PNG and JPEG"),
        ("pyvista", "pyvista", "previews (extra 'preview')"),
    )
    return [
        Finding(
            "export",
            distribution,
            "usable" if installed(module) else "missing",
            f"{use}, {version_of(distribution)}" if installed(module) else f"{use}: pip install {distribution}",
        )
        for module, distribution, use in parts
    ]


def _threads() -> list[Finding]:
    group = "threads"
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    findings = [Finding(group, "cores for this process", "info", str(available))]
    for name in THREAD_VARIABLES:
        value = os.environ.get(name)
        too_many = value is not None and value.isdigit() and int(value) > available
        detail = "not set: all cores" if value is None else value
        if too_many:
            detail += f", more than the {available} cores: several times slower than {name}={available}"
        findings.append(Finding(group, name, "warning" if too_many else "info", detail))
    return findings


_CHECKS: tuple[tuple[str, Callable[[], list[Finding]]], ...] = (
    ("versions", _versions),
    ("versions", _stranger),
    ("face models", lambda: [_open_model()]),
    ("face models", _published_models),
    ("rendering", _render_backends),
    ("landmarks", _landmark_providers),
    ("perceptual", _perceptual_parts),
    ("export", _export_parts),
    ("threads", _threads),
)


def examine() -> list[Finding]:
    """All findings. A check that fails becomes a finding itself: a half-installed part must not hide the others."""
    findings: list[Finding] = []
    for group, check in _CHECKS:
        try:
            findings += check()
        except Exception as error:  # import-time code of broken packages raises anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            findings.append(Finding(group, "check", "warning", f"could not be made ({reason})"))
    return findings


def doctor_command(as_json: bool = False, out: TextIO | None = None) -> int:
    """Print what is usable, what is missing and where it comes from.

    Args:
        as_json: Print a JSON list of findings instead of a table.
        out: Where to print; None = standard output.

    Returns:
        Exit code, always 0: a missing optional part is no failure.
    """
    stream = out or sys.stdout
    findings = examine()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2), file=stream)
        return 0
    try:
        from rich.console import Console
    except ImportError:
        for finding in findings:
            print(f"{finding.group} | {finding.part} | {finding.state} | {finding.detail}", file=stream)
        return 0
    Console(file=stream).print(_table(findings))
    return 0


def _table(findings: list[Finding]):
    from rich.table import Table
    from rich.text import Text

    colours = {"usable": "green", "missing": "yellow", "warning": "bold red", "info": "dim"}
    table = Table(title="hrn doctor", title_justify="left", show_edge=False, pad_edge=False)
    for header in ("", "part", "state"):
        table.add_column(header, no_wrap=True)
    table.add_column("what is there, or where it comes from", overflow="fold")
    group = None
    for finding in findings:
        if group not in (None, finding.group):
            table.add_section()
        shown = finding.group if finding.group != group else ""
        # Text, not markup: details hold paths and extras in square brackets.
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(Text(shown, style="bold"), Text(finding.part), state, Text(finding.detail))
        group = finding.group
    return table

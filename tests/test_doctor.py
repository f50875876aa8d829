import io
import json
import subprocess
import sys
from importlib import metadata

import pytest

from fitter.cli import doctor
from fitter.cli.doctor import Finding, doctor_command, examine
from tests.model_files import write_front, write_original


@pytest.fixture
def clean(tmp_path, monkeypatch):
    monkeypatch.setenv("HRN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HRN_MODELS", raising=False)
    return tmp_path


def find(part: str, group: str | None = None) -> Finding:
    found = [f for f in examine() if f.part == part and group in (None, f.group)]
    assert len(found) == 1, found
    return found[0]


def test_every_group_is_reported_in_the_table_and_in_json(clean):
    table, raw = io.StringIO(), io.StringIO()
    assert doctor_command(out=table) == 0
    assert doctor_command(as_json=True, out=raw) == 0
    findings = json.loads(raw.getvalue())
    assert {f["group"] for f in findings} == {
        "versions",
        "face models",
        "rendering",
        "landmarks",
        "perceptual",
        "export",
        "threads",
    }
    assert {f["state"] for f in findings} <= {"usable", "missing", "warning", "info"}
    for finding in findings:
        assert finding["part"] in table.getvalue().replace("\n", " ")
        assert finding["detail"]


def test_published_models_are_found_and_incomplete_ones_said(clean, monkeypatch):
    assert find("bfm2009").state == "missing" and "faces.dmi.unibas.ch" in find("bfm2009").detail
    assert "HRN_MODELS" in find("searched folders").detail
    folder = clean / "models"
    folder.mkdir()
    monkeypatch.setenv("HRN_MODELS", str(folder))
    write_front(folder / "BFM_model_front.mat")
    assert find("bfm2009").state == "usable" and str(folder) in find("bfm2009").detail
    (folder / "BFM_model_front.mat").unlink()
    write_original(folder)
    assert find("bfm2009").state == "usable"
    (folder / "Exp_Pca.bin").unlink()
    assert find("bfm2009").state == "missing" and "Exp_Pca.bin" in find("bfm2009").detail


def test_the_open_model_is_cached_or_not(clean):
    from fitter.model.open_model import open_model_path

    assert "first use" in find("open").detail
    open_model_path().parent.mkdir(parents=True)
    open_model_path().write_bytes(b"")
    assert "cached" in find("open").detail and find("open").state == "usable"


def test_missing_parts_say_where_they_come_from(clean, monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda module: False)
    assert "NVlabs/nvdiffrast" in find("nvdiffrast (CUDA)").detail
    assert "not on PyPI" in find("nvdiffrast (CUDA)").detail
    assert find("numba (CPU)").state == "missing" and "pip install numba" in find("numba (CPU)").detail
    assert "hrn-fitter[perceptual]" in find("lpips").detail
    assert "pip install anny" in find("open").detail


def test_a_cuda_package_without_a_device_is_not_usable(clean, monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda module: True)
    for device, state in ((None, "missing"), ("Some GPU", "usable")):
        monkeypatch.setattr(doctor, "_cuda_device", lambda device=device: device)
        assert find("Warp (CUDA)").state == find("nvdiffrast (CUDA)").state == find("CUDA device").state == state


def test_the_stranger_is_noticed(clean, monkeypatch):
    assert not [f for f in examine() if "stranger" in f.part]
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.7.1" if name == "fitter" else real(name))
    stranger = find("fitter (stranger)")
    assert stranger.state == "warning" and "pip uninstall fitter" in stranger.detail and "1.7.1" in stranger.detail


def test_a_half_installed_part_does_not_stop_the_report(clean, monkeypatch):
    def broken():
        raise OSError("libsomething.so: cannot open\nshared object file")

    monkeypatch.setattr(doctor, "_cuda_device", broken)
    warning = find("check", "rendering")
    assert warning.state == "warning" and "libsomething.so" in warning.detail and "\n" not in warning.detail
    assert find("open").state == "usable"
    assert doctor_command(out=io.StringIO()) == 0


def test_too_many_threads_are_warned_of(clean, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert find("OMP_NUM_THREADS").state == "warning" and "4096" in find("OMP_NUM_THREADS").detail
    assert find("NUMBA_NUM_THREADS").state == "info"


def test_importing_the_command_loads_nothing_heavy():
    code = "import sys, fitter.cli.doctor; print([m for m in ('torch', 'numba', 'scipy', 'rich') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

"""Reading a data set back: one class, made for torch's DataLoader."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.utils.data import Dataset

from fitter.errors import InputError
from fitter.model.morphable import MorphableModel
from priors.dataset.fingerprint import file_sha256
from priors.dataset.manifest import read_manifest
from priors.dataset.rebuild import camera_positions, rebuild_m2
from priors.dataset.split import SPLITS
from priors.dataset.tensors import KINDS

CAMERA_POSITION = "position_camera"
"""The position map in the photograph's camera; made from `position` when a sample is read."""
_ANEW = "Make the data set anew with hrn dataset, or copy it again."


class SupervisedMaps(Dataset):
    """The training pairs that `hrn dataset` made.

    `len(maps)` samples; `maps[i]` is a dict of tensors (docs/dataset.md says what each is), `maps.samples[i]` what the
    manifest says of it. Files are mapped into memory and read when a sample is asked for, in every DataLoader worker
    by itself.

    Args:
        path: The data set's folder.
        split: train, val or test; None = all.
        tensors: Names of the tensors to read; None = all but the preview. `position_camera` is the position map in the
            photograph's camera frame.
        scans_alone: Whether samples without a photograph are among them; they lack textures and cameras, so they cannot
            be put in one batch with others unless `tensors` names only what all have.
        dtype: Floating tensors of half precision are returned in this one; None leaves them.
        verify: Whether to check every shard's SHA-256 first (reads all of them).

    Raises:
        InputError: No data set, files missing, cut or (verify) changed, no sample, or an unknown split or tensor.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        *,
        tensors: Iterable[str] | None = None,
        scans_alone: bool = False,
        dtype: torch.dtype | None = torch.float32,
        verify: bool = False,
    ) -> None:
        self.path = Path(path)
        self.manifest: dict[str, Any] = read_manifest(self.path)
        self.dtype = dtype
        if split is not None and split not in SPLITS:
            raise InputError("split", repr(split), f"one of {', '.join(SPLITS)}, or None", "Correct its name.")
        self.names = _checked_names(tensors)
        self._check_shards()
        chosen = (sample for sample in self.manifest["samples"] if split is None or sample["split"] == split)
        self.samples: list[dict[str, Any]] = [s for s in chosen if scans_alone or s["view"] is not None]
        if not self.samples:
            counts = ", ".join(f"{name}: {self.manifest['counts'][name]}" for name in SPLITS)
            what = "no sample" if scans_alone else "no sample with a photograph"
            raise InputError(self.path, f"{what} in {split or 'any split'} ({counts})", "at least one", "")
        self._open: dict[str, Any] = {}
        self._process = os.getpid()
        if verify:
            self.verify()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The tensors of a sample by name.

        Raises:
            IndexError: Beyond the end.
            InputError: The file cannot be read any more.
        """
        sample = self.samples[index]
        held = sample["tensors"]
        wanted = [name for name in KINDS if name in held and name != "preview"] if self.names is None else self.names
        missing = [name for name in wanted if name not in held and name != CAMERA_POSITION]
        if missing:
            raise InputError(sample["sample"], f"no {missing[0]} (a scan alone)", "what its photograph would give", "")
        found = {name: self._read(sample, name) for name in wanted if name != CAMERA_POSITION}
        if CAMERA_POSITION in wanted:
            parts = ("position", "valid", "world_from_model", "cam_from_world")
            found[CAMERA_POSITION] = camera_positions({name: self._read(sample, name) for name in parts})
        return found

    def rebuild(self, sample: int | dict[str, Tensor], model: MorphableModel) -> Tensor:
        """Vertices [Vd, 3] of M2 in the scan's frame, mm, numbered as `dense.obj`.

        Args:
            sample: A number, or a sample's tensors, e.g. with predicted maps in place of the true ones.
            model: The model that the manifest names.

        Raises:
            InputError: The sample is of another model.
        """
        made_with = self.manifest["model"]["name"]
        if model.name != made_with:
            raise InputError("the model", model.name, made_with, "Give the model that the data set was made with.")
        if isinstance(sample, dict):
            return rebuild_m2(sample, model)
        parts = ("identity", "expression", "albedo", "deformation", "displacement", "world_from_model", "dense_levels")
        return rebuild_m2({name: self._read(self.samples[sample], name) for name in parts}, model)

    def session(self, index: int) -> dict[str, Any]:
        """What the manifest says of a sample's session: files and checksums, residuals, warnings."""
        name = self.samples[index]["session"]
        return next(entry for entry in self.manifest["sessions"] if entry["session"] == name)

    def verify(self) -> None:
        """Compare every shard with its SHA-256.

        Raises:
            InputError: One differs.
        """
        for name, shard in self.manifest["shards"].items():
            if file_sha256(self.path / name) != shard["sha256"]:
                raise InputError(self.path / name, "other contents than the manifest says", "what was written", _ANEW)

    def _check_shards(self) -> None:
        for name, shard in self.manifest["shards"].items():
            path = self.path / name
            if not path.is_file():
                raise InputError(path, "no such file", "a shard that the manifest names", _ANEW)
            if path.stat().st_size != shard["bytes"]:
                found = f"{path.stat().st_size} bytes"
                raise InputError(path, found, f"{shard['bytes']}, as the manifest says", _ANEW)

    def _read(self, sample: dict[str, Any], name: str) -> Tensor:
        try:
            key = sample["tensors"][name]
        except KeyError as error:
            raise InputError(sample["sample"], f"no {name} (a scan alone)", "a photograph's sample", "") from error
        try:
            tensor = self._file(sample["shard"]).get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise InputError(self.path / sample["shard"], f"a damaged shard ({error})", "a whole one", _ANEW) from error
        if self.dtype is not None and tensor.dtype == torch.float16:
            tensor = tensor.to(self.dtype)
        return tensor

    def _file(self, name: str):
        """An open shard; each process opens its own, since a fork does not carry a mapped file over safely."""
        if self._process != os.getpid():
            self._open, self._process = {}, os.getpid()
        if name not in self._open:
            self._open[name] = safe_open(str(self.path / name), framework="pt")
        return self._open[name]

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files: they cannot be sent to another process."""
        return {**self.__dict__, "_open": {}}


def _checked_names(tensors: Iterable[str] | None) -> tuple[str, ...] | None:
    if tensors is None:
        return None
    names = tuple(tensors)
    known = (*KINDS, CAMERA_POSITION)
    for name in names:
        if name not in known:
            raise InputError("tensors", repr(name), f"names among {', '.join(known)}", "Correct the name.")
    return names

"""The tensors of a training pair: what each is, and how a fitted session is taken apart into them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fitter.hierarchy.samples import surface_samples
from fitter.result.types import FitResult, ViewResult

FORMAT = "hrn-supervised-maps-1"
MAPS = "map: row 0 is v = 0; texel (i, j) has its centre at u = (j + 0.5) / S, v = (i + 0.5) / S of the model's atlas"


@dataclass(frozen=True)
class TensorKind:
    """What a tensor of a sample is."""

    dims: str
    dtype: str
    unit: str
    meaning: str
    needs_photograph: bool = False


KINDS: dict[str, TensorKind] = {
    "texture": TensorKind(
        "3 S S", "float16", "linear RGB", f"T: the photograph through M0, filled in where its weight is 0; {MAPS}", True
    ),
    "texture_weight": TensorKind(
        "S S", "float16", "0 to 1", f"how well the photograph shows M0 there: visibility times angle; {MAPS}", True
    ),
    "realigned": TensorKind(
        "3 S S", "float16", "linear RGB", f"T': T moved along with the deformation map (HRN, section 3.2); {MAPS}", True
    ),
    "realigned_weight": TensorKind("S S", "float16", "0 to 1", f"of T'; {MAPS}", True),
    "position": TensorKind(
        "3 S S", "float32", "mm", f"position map: points of M0 in the head frame, 0 outside of the atlas; {MAPS}"
    ),
    "deformation": TensorKind("3 R R", "float32", "mm", f"from M0 to M1, axes of the head frame; {MAPS}, R for S"),
    "displacement": TensorKind("S S", "float32", "mm", f"from M1 to M2 along M1's normal, outwards positive; {MAPS}"),
    "valid": TensorKind("S S", "bool", "", f"texels that a triangle of the atlas covers; {MAPS}"),
    "measured": TensorKind(
        "S S", "bool", "", f"texels whose displacement was measured on the scan, not smoothed over; {MAPS}"
    ),
    "identity": TensorKind("I", "float32", "standard deviations", "identity coefficients"),
    "expression": TensorKind("E", "float32", "named expressions: 0 to 1", "expression coefficients"),
    "albedo": TensorKind("A", "float32", "standard deviations", "albedo coefficients"),
    "world_from_model": TensorKind(
        "4 4", "float64", "mm", "similarity: model millimetres to the scan's frame; its scale is the head's"
    ),
    "dense_levels": TensorKind("", "int64", "", "subdivisions of the model's mesh that carry M2"),
    "lighting": TensorKind(
        "9 3", "float32", "linear RGB", "spherical harmonics of order 2, in the scan's frame", needs_photograph=True
    ),
    "intrinsics": TensorKind("3 3", "float64", "px", "of the photograph, distortion removed", needs_photograph=True),
    "cam_from_world": TensorKind(
        "4 4", "float64", "mm", "rigid; camera axes: x right, y down, z forward", needs_photograph=True
    ),
    "size": TensorKind("2", "int64", "px", "height and width of the photograph", needs_photograph=True),
    "landmarks": TensorKind(
        "L 2", "float32", "px", "detected; (0.5, 0.5) is the centre of the top-left pixel", needs_photograph=True
    ),
    "landmark_confidence": TensorKind("L", "float32", "0 to 1", "0: not to be used", needs_photograph=True),
    "landmarks_fitted": TensorKind("K 2", "float32", "px", "the model's points on M1", needs_photograph=True),
    "preview": TensorKind(
        "2 P P 3", "uint8", "sRGB", "for the eye: the face in the photograph, and M2 in clay before the same camera"
    ),
}
"""All tensors of a sample, in the order of the documentation."""


def kinds_record() -> dict[str, dict[str, Any]]:
    """The table for the manifest."""
    return {name: asdict(kind) for name, kind in KINDS.items()}


def split_similarity(world_from_model: Tensor) -> tuple[Tensor, Tensor]:
    """Rigid part [4, 4] and scale [] of a similarity [4, 4].

    The head frame, in which maps and position maps live, has the model's axes and origin and the world's millimetres;
    the rigid part is `world_from_head`.
    """
    scale = torch.linalg.det(world_from_model[:3, :3]).abs() ** (1.0 / 3.0)
    rigid = world_from_model.clone()
    rigid[:3, :3] = rigid[:3, :3] / scale
    return rigid, scale


def position_map_of(result: FitResult, vertices: np.ndarray) -> Tensor:
    """Position map [3, S, S] mm, float32, of M0 [V, 3] (world mm) in the head frame."""
    world_from_head, _ = split_similarity(torch.from_numpy(np.asarray(result.world_from_model, np.float64)))
    samples = surface_samples(result.model, result.displacement_map.shape[-1])
    offset = torch.from_numpy(np.asarray(vertices, np.float64)) - world_from_head[:3, 3]
    # Rows times a rotation are columns times its transpose, which is its inverse.
    in_head = (offset @ world_from_head[:3, :3]).to(samples.weights.dtype)
    return samples.to_grid(samples.interpolate(in_head)).permute(2, 0, 1).float().contiguous()


def geometry_tensors(result: FitResult, vertices_m0: np.ndarray, expression: np.ndarray) -> dict[str, Tensor]:
    """What a sample holds whether or not there is a photograph."""
    return {
        "position": position_map_of(result, vertices_m0),
        "deformation": _tensor(result.deformation_map, np.float32),
        "displacement": _tensor(result.displacement_map, np.float32),
        "valid": _tensor(result.map_valid, bool),
        "measured": _tensor(result.scan.valid, bool),
        "identity": _tensor(result.identity, np.float32),
        "expression": _tensor(expression, np.float32),
        "albedo": _tensor(result.albedo, np.float32),
        "world_from_model": _tensor(result.world_from_model, np.float64),
        "dense_levels": torch.tensor(int(result.configuration["maps"]["dense_levels"])),
    }


def view_tensors(result: FitResult, view: int) -> dict[str, Tensor]:
    """All tensors of one photograph's sample but the preview."""
    found: ViewResult = result.views[view]
    landmarks = result.session.views[view].landmarks
    tensors = geometry_tensors(result, found.vertices_m0, found.expression)
    tensors |= {
        "texture": _tensor(found.texture.transpose(2, 0, 1), np.float16),
        "texture_weight": _tensor(found.texture_weight, np.float16),
        "realigned": _tensor(found.realigned.transpose(2, 0, 1), np.float16),
        "realigned_weight": _tensor(found.realigned_weight, np.float16),
        "lighting": _tensor(found.lighting, np.float32),
        "intrinsics": _tensor(found.intrinsics, np.float64),
        "cam_from_world": _tensor(found.cam_from_world, np.float64),
        "size": torch.tensor(found.size, dtype=torch.int64),
        "landmarks": _tensor(landmarks.points, np.float32),
        "landmark_confidence": _tensor(landmarks.confidence, np.float32),
        "landmarks_fitted": _tensor(found.landmarks_fitted, np.float32),
    }
    return tensors


def _tensor(array: np.ndarray, dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype))


def shared_keys(session: str, samples: dict[str, dict[str, Tensor]]) -> tuple[dict[str, Tensor], dict[str, dict]]:
    """Give every tensor of a session its key in the files; what is alike in all samples is stored once.

    Args:
        session: The session's name, which begins every key.
        samples: View -> name -> tensor.

    Returns:
        Key -> tensor, and view -> name -> key.
    """
    stored: dict[str, Tensor] = {}
    keys: dict[str, dict[str, str]] = {view: {} for view in samples}
    names = sorted({name for tensors in samples.values() for name in tensors})
    for name in names:
        held = [tensors[name] for tensors in samples.values() if name in tensors]
        alike = len(held) == len(samples) > 1 and all(_same(held[0], other) for other in held[1:])
        for view, tensors in samples.items():
            if name in tensors:
                key = f"{session}//{name}" if alike else f"{session}//{view}/{name}"
                keys[view][name] = key
                stored[key] = tensors[name]
    return stored, keys


def _same(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and torch.equal(first, second)

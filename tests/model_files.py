"""Small files in the true formats of published face models, made of the toy model's skin (about 200 vertices)."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

from fitter.model.foreign import PartialModel
from tests.factories import toy_model


def small_face() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices [V, 3] mm, triangles [F, 3] counter-clockwise from outside, 68 landmark vertices."""
    toy = toy_model()
    skin = int(toy.regions["skin"].sum())
    vertices = toy.mean.numpy()[:skin].copy()
    triangles = toy.triangles.numpy()
    triangles = triangles[(triangles < skin).all(1)]
    points = toy.landmarks(toy.mean).numpy()
    nearest = np.linalg.norm(points[:, None] - vertices[None], axis=-1).argmin(1)
    return vertices, triangles, nearest


def small_modes(count: int, modes: int, seed: int) -> np.ndarray:
    """Orthonormal columns [3V, modes]."""
    random = np.random.default_rng(seed)
    return np.linalg.qr(random.normal(size=(3 * count, modes)))[0]


def front_variables() -> dict[str, np.ndarray]:
    """What `BFM_model_front.mat` holds, for the small face: decimetres, 0–255, one-based."""
    vertices, triangles, landmarks = small_face()
    count = len(vertices)
    random = np.random.default_rng(0)
    return {
        "meanshape": vertices.reshape(1, -1) / 100.0,
        "idBase": 0.03 * small_modes(count, 5, 1),
        "exBase": 0.02 * small_modes(count, 4, 2),
        "meantex": random.uniform(5.0, 250.0, (1, 3 * count)),
        "texBase": 9.0 * small_modes(count, 3, 3),
        "tri": (triangles + 1).astype(np.float64),
        "keypoints": (landmarks + 1).reshape(1, -1).astype(np.uint16),
        "skinmask": np.ones((1, count)),
    }


def write_front(path: Path, **changes: np.ndarray | None) -> Path:
    """Write form A; a change to None leaves a variable out."""
    variables = {name: value for name, value in (front_variables() | changes).items() if value is not None}
    savemat(path, variables)
    return path


def write_front_hdf5(path: Path) -> Path:
    """Form A as MATLAB 7.3 stores it: an HDF5 file behind 512 bytes of header, columns first."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in front_variables().items():
            file[name] = np.asarray(value).T
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    return path


def write_original(folder: Path, extra_shape: int = 11, extra_expression: int = 7) -> dict[str, np.ndarray]:
    """Write form B: the small face hidden among more vertices, shuffled. Returns what the loader must find."""
    vertices, triangles, landmarks = small_face()
    kept = len(vertices)
    shape_count, expression_count = kept + extra_expression + extra_shape, kept + extra_expression
    random = np.random.default_rng(4)
    trim = np.sort(random.permutation(shape_count)[:expression_count])
    front = random.permutation(expression_count)[:kept]
    chosen = trim[front]
    shape = random.normal(size=(shape_count, 3)) * 10.0
    shape[chosen] = vertices
    texture = random.uniform(5.0, 250.0, (shape_count, 3))
    shape_modes, texture_modes = small_modes(shape_count, 6, 5), small_modes(shape_count, 6, 6)
    shape_deviation, texture_deviation = random.uniform(1e5, 9e5, 6), random.uniform(10.0, 90.0, 6)
    savemat(
        folder / "01_MorphableModel.mat",
        {
            "shapeMU": (shape * 1000.0).reshape(-1, 1),
            "shapePC": shape_modes,
            "shapeEV": shape_deviation.reshape(-1, 1),
            "texMU": texture.reshape(-1, 1),
            "texPC": texture_modes,
            "texEV": texture_deviation.reshape(-1, 1),
            "tl": np.ones((1, 3)),
        },
    )
    expression_modes = small_modes(expression_count, 4, 7).astype("<f4")
    expression_deviation = random.uniform(1e3, 9e3, 4)
    with open(folder / "Exp_Pca.bin", "wb") as file:
        file.write(np.int32(4).tobytes())
        file.write(np.full(3 * expression_count, 123.0, "<f4").tobytes())
        file.write(np.ascontiguousarray(expression_modes.T).tobytes())
    np.savetxt(folder / "std_exp.txt", expression_deviation)
    savemat(folder / "BFM_exp_idx.mat", {"trimIndex": (trim + 1).reshape(-1, 1)})
    savemat(folder / "BFM_front_idx.mat", {"idx": (front + 1).reshape(1, -1)})
    savemat(folder / "facemodel_info.mat", {"tri": triangles + 1, "keypoints": (landmarks + 1).reshape(1, -1)})
    return {
        "mean": vertices,
        "identity": (shape_modes * shape_deviation).reshape(shape_count, 3, -1)[chosen] / 1000.0,
        "expression": (expression_modes * expression_deviation).reshape(expression_count, 3, -1)[front] / 1000.0,
        "texture_mean": texture[chosen] / 255.0,
        "triangles": triangles,
        "landmarks": landmarks,
    }


H5_LANDMARKS = {"center.nose.tip": 30, "right.eye.corner_outer": 36, "left.eye.corner_outer": 45}


def write_h5(path: Path, scaled_basis: bool = False) -> dict[str, np.ndarray]:
    """Write a statismo file of the small face. Returns what the loader must find."""
    vertices, triangles, landmarks = small_face()
    count = len(vertices)
    random = np.random.default_rng(8)
    colour = random.uniform(0.05, 0.95, (count, 3))
    found = {"triangles": triangles, "colour": colour}
    with h5py.File(path, "w") as file:
        groups = {"shape": vertices, "expression": np.full((count, 3), 0.5), "color": colour}
        for seed, (group, mean) in enumerate(groups.items()):
            modes, variance = small_modes(count, 4 + seed, 10 + seed), random.uniform(10.0, 900.0, 4 + seed)
            if group == "color":
                variance /= 1000.0
            file[f"{group}/model/mean"] = mean.ravel().astype(np.float32)
            basis = modes * np.sqrt(variance) if scaled_basis else modes
            file[f"{group}/model/pcaBasis"] = basis.astype(np.float32)
            file[f"{group}/model/pcaVariance"] = variance.astype(np.float32)
            file[f"{group}/model/noiseVariance"] = np.float32(0.0)
            found[group] = (modes * np.sqrt(variance)).reshape(count, 3, -1)
        file["shape/representer/points"] = vertices.T.astype(np.float32)
        file["shape/representer/cells"] = triangles.T.astype(np.int32)
        entries = [{"id": name, "coordinates": vertices[landmarks[row]].tolist()} for name, row in H5_LANDMARKS.items()]
        file["metadata/landmarks/json"] = json.dumps(
            [*entries, {"id": "left.ear.lobule.tip", "coordinates": [1, 2, 3]}]
        )
    found["mean"] = vertices + 0.5
    return found


def partial_face(**changes) -> PartialModel:
    """The small face as a loader would give it, without landmarks, regions, colours or UV."""
    vertices, triangles, _ = small_face()
    given = {
        "name": "small",
        "mean": vertices,
        "identity_basis": small_modes(len(vertices), 2, 20).reshape(-1, 3, 2),
        "expression_basis": small_modes(len(vertices), 2, 21).reshape(-1, 3, 2),
        "expression_names": ("expression_00", "expression_01"),
        "expressions_are_named": False,
        "triangles": triangles,
    }
    return PartialModel(**(given | changes))

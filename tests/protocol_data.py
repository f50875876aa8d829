"""Small generated copies of data sets: faces of the open model, their seven landmarks, and files in each layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.crops import submesh
from fitter.obj import ObjMesh, write_obj

SEVEN = [36, 39, 42, 45, 33, 48, 54]


class Faces:
    """Faces of the open model in mm, cut to what a scanner would see."""

    def __init__(self, model, reach: float = 130.0) -> None:
        self.model = model
        marks = model.landmarks(model.mean).double().numpy()
        mean = model.mean.double().numpy()
        keep = np.zeros(len(mean), bool)
        keep[model.atlas_triangles.numpy()] = True
        keep &= (np.linalg.norm(mean - marks[30], axis=1) < reach) & (mean[:, 2] > marks[30, 2] - 110)
        self.keep = keep
        self._made: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.triangles = submesh(mean, model.atlas_triangles.numpy(), keep)[1]

    def whole(self, seed: int) -> np.ndarray:
        """[V, 3] all vertices of the seed's face; seed 0 is the mean."""
        random = np.random.default_rng(seed)
        count = self.model.identity_basis.shape[-1]
        identity = torch.from_numpy(random.normal(0, 0.6 * (seed > 0), count)).float()
        expression = torch.zeros(self.model.expression_basis.shape[-1])
        return self.model.shape(identity, expression).double().numpy()

    def face(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices, triangles and 68 landmarks, mm."""
        if seed not in self._made:
            whole = self.whole(seed)
            marks = self.model.landmarks(torch.from_numpy(whole).float()).double().numpy()
            self._made[seed] = whole[self.keep], marks
        vertices, marks = self._made[seed]
        return vertices.copy(), self.triangles, marks.copy()


def save_mesh(path: Path, vertices: np.ndarray, triangles: np.ndarray, decimals: int = 9) -> None:
    """Write an OBJ so exactly that the known answers hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_obj(path, ObjMesh(vertices, triangles), decimals=decimals)


def save_points(path: Path, points: np.ndarray) -> None:
    """Write points as `.npy`, text or MeshLab's `.pp`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, points)
    elif path.suffix == ".pp":
        rows = "".join(
            f' <point y="{y:.9f}" x="{x:.9f}" active="1" name="{number}" z="{z:.9f}"/>\n'
            for number, (x, y, z) in enumerate(points)
        )
        head = "<!DOCTYPE PickedPoints>\n<PickedPoints>\n <DocumentData>\n  <DateTime/>\n </DocumentData>\n"
        path.write_text(head + rows + "</PickedPoints>\n")
    else:
        np.savetxt(path, points, fmt="%.9f")

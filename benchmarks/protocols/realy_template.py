"""REALY's 85 keypoints on the fitted model: 68 are its landmarks, 17 are carried over from the HIFI3D template."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.protocols.realy import template_keypoints
from fitter.atomic import write_bytes, write_text
from fitter.compare.surface import Surface, barycentric
from fitter.errors import InputError
from fitter.obj import ObjMesh, format_obj, read_obj

SOURCE = "HIFI3D.obj"


def carried_keypoints(source: np.ndarray, landmarks: np.ndarray, surface: Surface) -> np.ndarray:
    """[85, 3] on the model: a thin-plate spline through the 68 common points carries the other 17, then the surface.

    Args:
        source: [85, 3] on the other template.
        landmarks: [68, 3] on the model.
        surface: The model's mean.
    """
    from scipy.interpolate import RBFInterpolator

    # Points that coincide (inner lips of a closed mouth) would make the spline's matrix singular.
    _, kept = np.unique(np.round(source[:68], 6), axis=0, return_index=True)
    kept = np.sort(kept)
    spline = RBFInterpolator(source[kept], landmarks[kept], kernel="thin_plate_spline", smoothing=1e-6)
    return surface.closest(np.concatenate([landmarks, spline(source[68:])])).points


def write_template(data: Path, predictions: Path, model_name: str) -> None:
    """Write template/MODEL.obj and .txt beside the predictions, from HIFI3D.obj and .txt in the data set's folder.

    The 17 carried points are an estimate; REALY's authors place them by hand on request. Only some of them (70, 71, 76,
    77) take part in the rigid alignments of nose and cheek.

    Raises:
        InputError: HIFI3D's template is not there.
    """
    from fitter.model.load import load_model

    model = load_model(model_name)
    name = Path(model_name).stem
    target = predictions / "template" / f"{name}.obj"
    if target.is_file() and target.with_suffix(".txt").is_file():
        return
    path = data / SOURCE
    if not path.is_file():
        remedy = "It is in the repository czh-98/REALY, data/; or give --template and predictions of your own."
        raise InputError(path, "no such file", "REALY's template, which says where its keypoints are", remedy)
    mesh = read_obj(path)
    numbers, weights = template_keypoints(path)
    source = (mesh.vertices[mesh.triangles[numbers]] * weights[..., None]).sum(1)
    mean, triangles = model.mean.double().numpy(), model.outer_triangles.numpy()
    surface = Surface(mean, triangles)
    points = carried_keypoints(source, model.landmarks(model.mean).double().numpy(), surface)
    found = surface.closest(points)
    shares = barycentric(found.points, mean[triangles[found.triangles]])
    rows = [[int(t), float(a), float(b)] for t, (a, b, _) in zip(found.triangles, shares, strict=True)]
    write_text(target.with_suffix(".txt"), json.dumps(rows))
    write_bytes(target, format_obj(ObjMesh(mean, triangles)))

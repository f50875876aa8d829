"""Camera files: each reader against the projection formula that its format documents, computed independently."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from fitter.camera import project, transform_points
from fitter.capture.camera_entries import CameraEntry, Lens, camera_for_image, in_millimetres, rigid_transform
from fitter.capture.camera_metashape import read_metashape
from fitter.capture.cameras import find_camera_file, match_cameras, read_camera_file
from fitter.capture.undistort import distort_pixels
from fitter.errors import InputError
from tests.capture_inputs import write_transforms, yaw

POINTS = np.random.default_rng(0).uniform(-100, 100, (20, 3))
SIZE = (80, 120)


def seen_by_us(
    entry: CameraEntry, points: np.ndarray, size: tuple[int, int] = SIZE, orientation: int = 1
) -> np.ndarray:
    """Pixels of world points through the engine's camera and the lens distortion."""
    camera, lens = camera_for_image(entry, size, orientation, "test")
    pixels = project(transform_points(camera.cam_from_world, torch.from_numpy(points)), camera.intrinsics)
    return distort_pixels(pixels.numpy(), camera.intrinsics.numpy(), lens)


# ---------------------------------------------------------------- transforms.json


def test_transforms_against_opengl_projection(tmp_path):
    pose = yaw(30)
    pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler("xz", [4, -7], degrees=True).as_matrix()
    path = write_transforms(
        tmp_path / "transforms.json", {"a.png": pose}, fl_y=210.0, k1=0.1, k2=-0.05, p1=0.002, p2=0.003
    )
    in_camera = (POINTS - pose[:3, 3]) @ pose[:3, :3]  # OpenGL: x right, y up, looking along -z
    x, y = in_camera[:, 0] / -in_camera[:, 2], -in_camera[:, 1] / -in_camera[:, 2]
    squared = x * x + y * y
    radial = 1 + 0.1 * squared - 0.05 * squared**2
    u = 200 * (x * radial + 2 * 0.002 * x * y + 0.003 * (squared + 2 * x * x)) + 60
    v = 210 * (y * radial + 0.002 * (squared + 2 * y * y) + 2 * 0.003 * x * y) + 40
    entry = read_camera_file(path).entries[0]
    np.testing.assert_allclose(seen_by_us(entry, POINTS), np.c_[u, v], atol=1e-9)


def test_transforms_field_of_view_and_frame_intrinsics(tmp_path):
    shared = {"fl_x": None, "fl_y": None, "cx": None, "cy": None, "w": None, "h": None, "camera_angle_x": np.pi / 2}
    path = write_transforms(tmp_path / "transforms.json", {"a": yaw(0)}, **shared)
    # 90 degrees over 120 px: the focal length is half the width.
    np.testing.assert_allclose(
        camera_for_image(read_camera_file(path).entries[0], SIZE, 1, "test")[0].intrinsics,
        [[60, 0, 60], [0, 60, 40], [0, 0, 1]],
        atol=1e-12,
    )
    text = path.read_text().replace('"file_path"', '"fl_x": 77.0, "cx": 50, "file_path"')
    path.write_text(text)
    camera, _ = camera_for_image(read_camera_file(path).entries[0], SIZE, 1, "test")
    np.testing.assert_allclose(camera.intrinsics, [[77, 0, 50], [0, 77, 40], [0, 0, 1]])


@pytest.mark.parametrize("change", [{"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}])
def test_fisheye_is_refused_by_name(tmp_path, change):
    path = write_transforms(tmp_path / "transforms.json", {"a.png": yaw(0)}, **change)
    with pytest.raises(InputError, match=r"(?i)camera model .*fisheye.*image_undistorter"):
        read_camera_file(path)


# ---------------------------------------------------------------- COLMAP

MODELS = {
    "SIMPLE_PINHOLE": (0, [200.0, 61, 39]),
    "PINHOLE": (1, [200.0, 210, 61, 39]),
    "SIMPLE_RADIAL": (2, [200.0, 61, 39, 0.1]),
    "RADIAL": (3, [200.0, 61, 39, 0.1, -0.05]),
    "OPENCV": (4, [200.0, 210, 61, 39, 0.1, -0.05, 0.002, 0.003]),
    "FULL_OPENCV": (6, [200.0, 210, 61, 39, 0.1, -0.05, 0.002, 0.003, 0.02, 0.03, -0.01, 0.005]),
}
QUATERNION = Rotation.from_euler("xyz", [10, 25, -5], degrees=True)  # cam_from_world
TRANSLATION = np.array([12.0, -7, 900])


def colmap_truth(model: str) -> np.ndarray:
    """Pixels by COLMAP's documented models, written out."""
    parameters = MODELS[model][1]
    in_camera = QUATERNION.apply(POINTS) + TRANSLATION
    x, y = (in_camera[:, :2] / in_camera[:, 2:]).T
    squared = x * x + y * y
    if model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        f, cx, cy, *k = parameters
        factor = 1 + sum(value * squared ** (power + 1) for power, value in enumerate(k))
        return np.c_[f * x * factor + cx, f * y * factor + cy]
    fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, k5, k6 = (*parameters, *[0.0] * 8)[:12]
    factor = (1 + k1 * squared + k2 * squared**2 + k3 * squared**3) / (
        1 + k4 * squared + k5 * squared**2 + k6 * squared**3
    )
    u = x * factor + 2 * p1 * x * y + p2 * (squared + 2 * x * x)
    v = y * factor + 2 * p2 * x * y + p1 * (squared + 2 * y * y)
    return np.c_[fx * u + cx, fy * v + cy]


def write_colmap_text(folder: Path, model: str, names: tuple[str, ...] = ("a.png",)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    values = " ".join(map(repr, MODELS[model][1]))
    (folder / "cameras.txt").write_text(f"# Camera list\n# Number of cameras: 1\n7 {model} 120 80 {values}\n")
    x, y, z, w = QUATERNION.as_quat()
    pose = " ".join(repr(float(value)) for value in (w, x, y, z, *TRANSLATION))
    # One image has 2D points, the next has an empty second line, as COLMAP writes it.
    blocks = [
        f"{i + 1} {pose} 7 {name}\n{'1.5 2.5 -1 3.0 4.0 12' if i % 2 == 0 else ''}\n" for i, name in enumerate(names)
    ]
    (folder / "images.txt").write_text("# Image list\n" + "".join(blocks))
    return folder


def write_colmap_binary(folder: Path, model: str, names: tuple[str, ...] = ("a.png",)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number, parameters = MODELS[model]
    cameras = struct.pack("<QIiQQ", 1, 7, number, 120, 80) + struct.pack(f"<{len(parameters)}d", *parameters)
    (folder / "cameras.bin").write_bytes(cameras)
    x, y, z, w = QUATERNION.as_quat()
    data = struct.pack("<Q", len(names))
    for index, name in enumerate(names):
        data += struct.pack("<I7dI", index + 1, w, x, y, z, *TRANSLATION, 7) + name.encode() + b"\0"
        data += struct.pack("<Q", 2) + struct.pack("<ddqddq", 1.5, 2.5, -1, 3.0, 4.0, 12)
    (folder / "images.bin").write_bytes(data)
    return folder


@pytest.mark.parametrize("write", [write_colmap_text, write_colmap_binary])
@pytest.mark.parametrize("model", MODELS)
def test_colmap_against_its_formula(tmp_path, model, write):
    file = read_camera_file(write(tmp_path / "sparse" / "0", model, ("a.png", "folder/b c.png", "d.png")))
    assert [entry.name for entry in file.entries] == ["a.png", "folder/b c.png", "d.png"]
    for entry in file.entries:
        np.testing.assert_allclose(seen_by_us(entry, POINTS), colmap_truth(model), atol=1e-9)


def test_colmap_fisheye_is_refused_by_name(tmp_path):
    write_colmap_text(tmp_path, "OPENCV")
    text = (tmp_path / "cameras.txt").read_text().replace("OPENCV", "OPENCV_FISHEYE")
    (tmp_path / "cameras.txt").write_text(text)
    with pytest.raises(InputError, match=r"cameras\.txt.*OPENCV_FISHEYE.*colmap image_undistorter"):
        read_camera_file(tmp_path)
    write_colmap_binary(tmp_path, "OPENCV")
    data = bytearray((tmp_path / "cameras.bin").read_bytes())
    data[12:16] = struct.pack("<i", 10)
    (tmp_path / "cameras.bin").write_bytes(data)
    with pytest.raises(InputError, match=r"cameras\.bin.*THIN_PRISM_FISHEYE.*colmap image_undistorter"):
        read_camera_file(tmp_path)


@pytest.mark.parametrize("name", ["cameras.bin", "images.bin"])
def test_truncated_colmap(tmp_path, name):
    write_colmap_binary(tmp_path, "OPENCV")
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=rf"{name}.*truncated"):
        read_camera_file(tmp_path)


# ---------------------------------------------------------------- Metashape

CHUNK_ROTATION = Rotation.from_euler("xyz", [80, -20, 35], degrees=True).as_matrix()
CHUNK_TRANSLATION, CHUNK_SCALE = np.array([1.5, -2.0, 0.25]), 0.125
CALIBRATION = {"f": 200.0, "cx": 3.0, "cy": -2.0, "b1": 4.0, "b2": 0.5}
CALIBRATION |= {"k1": 0.1, "k2": -0.05, "k3": 0.02, "k4": -0.01, "p1": 0.002, "p2": 0.004}
_CHUNK_FROM_CAMERA = np.eye(4)
_CHUNK_FROM_CAMERA[:3, :3] = Rotation.from_euler("xyz", [5, 20, -8], degrees=True).as_matrix()
_CHUNK_FROM_CAMERA[:3, 3] = [0.3, -0.4, -8.0]


def _numbers(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))


def metashape_xml(*, sensor_type: str = "frame", scale: bool = True, cameras: str | None = None) -> str:
    calibration = "".join(f"<{key}>{value!r}</{key}>" for key, value in CALIBRATION.items())
    sensor = (
        '<sensor id="{id}" label="{id}" type="{type}"><resolution width="120" height="80"/>'
        '<calibration type="{type}" class="initial"><resolution width="120" height="80"/><f>999</f></calibration>'
        '<calibration type="{type}" class="adjusted"><resolution width="120" height="80"/>{body}</calibration></sensor>'
    )
    pose = f"<transform>{_numbers(_CHUNK_FROM_CAMERA)}</transform>"
    if cameras is None:
        cameras = (
            f'<camera id="0" sensor_id="0" label="a">{pose}</camera>'
            f'<group id="0" label="Group"><camera id="1" sensor_id="1" label="b.JPG">{pose}</camera></group>'
            '<camera id="2" sensor_id="0" label="lost"/>'
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<document version="2.0.0"><chunk label="Chunk 1"><sensors>'
        + sensor.format(id=0, type=sensor_type, body=calibration)
        + sensor.format(id=1, type="frame", body="<f>300.0</f>")
        + f"</sensors><cameras>{cameras}</cameras><transform><rotation>{_numbers(CHUNK_ROTATION)}</rotation>"
        + f"<translation>{_numbers(CHUNK_TRANSLATION)}</translation>"
        + (f"<scale>{CHUNK_SCALE!r}</scale>" if scale else "")
        + "</transform></chunk></document>"
    )


def metashape_truth(world: np.ndarray) -> np.ndarray:
    """Metashape's manual, frame cameras, written out for points in metres."""
    c = CALIBRATION
    chunk = (world - CHUNK_TRANSLATION) @ CHUNK_ROTATION / CHUNK_SCALE
    in_camera = (chunk - _CHUNK_FROM_CAMERA[:3, 3]) @ _CHUNK_FROM_CAMERA[:3, :3]
    x, y = (in_camera[:, :2] / in_camera[:, 2:]).T
    r2 = x * x + y * y
    radial = 1 + c["k1"] * r2 + c["k2"] * r2**2 + c["k3"] * r2**3 + c["k4"] * r2**4
    x1 = x * radial + c["p1"] * (r2 + 2 * x * x) + 2 * c["p2"] * x * y
    y1 = y * radial + c["p2"] * (r2 + 2 * y * y) + 2 * c["p1"] * x * y
    u = 120 * 0.5 + c["cx"] + x1 * c["f"] + x1 * c["b1"] + y1 * c["b2"]
    v = 80 * 0.5 + c["cy"] + y1 * c["f"]
    return np.c_[u, v]


def test_metashape_against_its_manual(tmp_path):
    path = tmp_path / "cameras.xml"
    path.write_text(metashape_xml())
    file = read_camera_file(tmp_path)
    assert file.unit == "m"
    assert [entry.name for entry in file.entries] == ["a", "b.JPG"]
    assert "lost" in file.warnings[0]
    local = np.random.default_rng(3).uniform(-1, 1, (20, 3))
    world = CHUNK_SCALE * local @ CHUNK_ROTATION.T + CHUNK_TRANSLATION
    np.testing.assert_allclose(seen_by_us(file.entries[0], world), metashape_truth(world), atol=1e-9)
    assert camera_for_image(file.entries[1], SIZE, 1, "test")[0].intrinsics[0, 0] == 300
    # In millimetres the same picture of the same points, and the camera's centre at the chunk's scale.
    camera = in_millimetres(camera_for_image(file.entries[0], SIZE, 1, "test")[0], 1000.0)
    centre = CHUNK_SCALE * CHUNK_ROTATION @ _CHUNK_FROM_CAMERA[:3, 3] + CHUNK_TRANSLATION
    np.testing.assert_allclose(camera.centre, 1000 * centre, atol=1e-9)


def test_metashape_without_scale_has_no_unit(tmp_path):
    (tmp_path / "cameras.xml").write_text(metashape_xml(scale=False))
    assert read_metashape(tmp_path / "cameras.xml").unit is None


def test_metashape_components_have_their_own_transform(tmp_path):
    pose = f"<transform>{_numbers(_CHUNK_FROM_CAMERA)}</transform>"
    cameras = "".join(
        f'<camera id="{i}" sensor_id="0" component_id="{component}" label="{name}">{pose}</camera>'
        for i, (name, component) in enumerate((("a", 0), ("b", 0), ("c", 1)))
    )
    text = metashape_xml(cameras=cameras)
    start, end = text.index("<transform><rotation>"), text.index("</chunk>")
    transform = text[start:end]
    components = f'<components><component id="0">{transform}</component><component id="1"/></components>'
    (tmp_path / "cameras.xml").write_text(text[:start] + text[end:].replace("</chunk>", components + "</chunk>"))
    file = read_metashape(tmp_path / "cameras.xml")
    assert [entry.name for entry in file.entries] == ["a", "b"]
    assert "c" in file.warnings[0]
    local = np.random.default_rng(3).uniform(-1, 1, (20, 3))
    world = CHUNK_SCALE * local @ CHUNK_ROTATION.T + CHUNK_TRANSLATION
    np.testing.assert_allclose(seen_by_us(file.entries[0], world), metashape_truth(world), atol=1e-9)


def test_metashape_refusals(tmp_path):
    pose = f"<transform>{_numbers(_CHUNK_FROM_CAMERA)}</transform>"
    rig = (
        f'<camera id="0" sensor_id="0" label="a">{pose}</camera><camera id="1" sensor_id="1" master_id="0" label="b"/>'
    )
    cases = {
        metashape_xml(sensor_type="spherical"): "type spherical.*undistorted images",
        metashape_xml(cameras=rig): "multi-camera rig.*undistorted images",
        metashape_xml(cameras='<camera id="0" sensor_id="0" label="a"/>'): "no aligned camera",
        metashape_xml().replace('class="adjusted"', 'class="initial"'): "no adjusted calibration",
        metashape_xml().replace(_numbers(CHUNK_TRANSLATION), "4e6 1e6 4.8e6"): "geographic.*Local Coordinates",
        metashape_xml().replace("<k4>-0.01</k4>", "<k4>-0.01</k4><p3>0.1</p3>"): "p3, p4",
        metashape_xml()[:300]: "no readable XML",
    }
    for text, expected in cases.items():
        (tmp_path / "cameras.xml").write_text(text)
        with pytest.raises(InputError, match=rf"cameras\.xml.*{expected}"):
            read_metashape(tmp_path / "cameras.xml")


# ---------------------------------------------------------------- common


def test_resampled_photograph_scales_the_intrinsics():
    entry = CameraEntry("a", Lens(200.0, 210.0, 61.0, 39.0, size=(80, 120)), np.eye(4))
    camera, _ = camera_for_image(entry, (160, 240), 1, "test")
    np.testing.assert_allclose(camera.intrinsics, [[400, 0, 122], [0, 420, 78], [0, 0, 1]])
    with pytest.raises(InputError, match=r"photograph of 100 x 100 pixels; expected .*120 x 80"):
        camera_for_image(entry, (100, 100), 1, "test")


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_turned_photograph_turns_its_camera(tmp_path, orientation):
    """A world point lands on the same piece of picture, before and after EXIF turned it."""
    entry = read_camera_file(write_colmap_text(tmp_path, "FULL_OPENCV")).entries[0]
    x, y = seen_by_us(entry, POINTS).T
    expected = {3: np.c_[120 - x, 80 - y], 6: np.c_[80 - y, x], 8: np.c_[y, 120 - x]}[orientation]
    size = SIZE if orientation == 3 else SIZE[::-1]
    np.testing.assert_allclose(seen_by_us(entry, POINTS, size, orientation), expected, atol=1e-9)


def test_camera_calibrated_on_the_upright_photograph_is_not_turned():
    entry = CameraEntry("a", Lens(200.0, size=(120, 80)), np.eye(4))
    camera, _ = camera_for_image(entry, (120, 80), 6, "test")
    np.testing.assert_allclose(camera.cam_from_world, np.eye(4))


def test_rounded_rotation_is_cleaned():
    exact = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    matrix = np.eye(4)
    matrix[:3, :3] = exact.round(4)
    rigid = rigid_transform(matrix, "test")[:3, :3]
    np.testing.assert_allclose(rigid @ rigid.T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(rigid, exact, atol=1e-4)


def test_matching_by_name_then_stem(tmp_path):
    names = {"./images/a": yaw(0), "deep/b.jpg": yaw(10), "c.v2": yaw(20), "gone.png": yaw(30)}
    file = read_camera_file(write_transforms(tmp_path / "transforms.json", names))
    images = [tmp_path / name for name in ("a.png", "b.png", "c.v2.png")]
    match = match_cameras(file, images)
    assert {path.name: entry.name for path, entry in match.by_image.items()} == {
        "a.png": "./images/a",
        "b.png": "deep/b.jpg",
        "c.v2.png": "c.v2",
    }
    assert match.absent == ("gone.png",)
    assert match_cameras(file, images, [tmp_path / "gone.png"]).absent == ()


def test_several_camera_files_have_to_be_chosen(tmp_path):
    write_transforms(tmp_path / "transforms.json", {"a.png": yaw(0)})
    write_colmap_text(tmp_path / "sparse" / "0", "PINHOLE")
    with pytest.raises(InputError, match=r"several camera files \(transforms.json, sparse/0\).*--cameras"):
        find_camera_file(tmp_path)

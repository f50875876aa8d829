"""Perceptual energies: the recognition network's shapes, names, crop and errors; LPIPS where its parts are missing."""

import builtins
import math
import sys
import types

import pytest
import torch
from safetensors.torch import load, save

from fitter.energies.perceptual import LpipsEnergy, RecognitionEnergy
from fitter.energies.recognition_network import (
    ARCFACE_TEMPLATE,
    RecognitionNetwork,
    aligned_crop,
    five_points,
    recognition_network,
)
from fitter.errors import InputError, MissingPartError


def _small_state(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    network = RecognitionNetwork((2, 1, 1, 1), (4, 4, 6, 8, 8), embedding=16, crop=32)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + (parameter.ndim == 1))
    return network.state_dict()


def _face(batch: int = 1, size: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    image = torch.rand(batch, size, size, 3, generator=generator)
    points = (torch.tensor(ARCFACE_TEMPLATE) + 0.5) * size / 112
    return image, points.expand(batch, 5, 2)


def test_published_depths_have_the_published_names_and_shapes():
    with torch.device("meta"):
        names = RecognitionNetwork((3, 4, 14, 3)).state_dict()
        deeper = RecognitionNetwork((3, 13, 30, 3)).state_dict()
    assert tuple(names["fc.weight"].shape) == (512, 25088)
    assert tuple(names["layer3.13.conv2.weight"].shape) == (256, 256, 3, 3)
    assert tuple(names["layer2.0.downsample.0.weight"].shape) == (128, 64, 1, 1)
    assert {"conv1.weight", "bn1.running_var", "prelu.weight", "layer1.0.bn3.weight"} < set(names)
    assert {"layer1.0.downsample.1.running_mean", "bn2.bias", "fc.bias", "features.running_mean"} < set(names)
    assert "layer1.1.downsample.0.weight" not in names and "layer3.29.conv1.weight" in deeper
    # 43.6 million parameters is what iresnet50 is known to have.
    count = sum(value.numel() for name, value in names.items() if "running" not in name)
    assert count == pytest.approx(43.6e6, rel=0.01)


def test_depth_and_widths_are_read_from_the_state_of_a_file():
    state = load(save(_small_state()))
    network = recognition_network({f"module.{name}": value for name, value in state.items()})
    assert len(network.layer1) == 2 and network.crop == 32 and not network.training
    crop = torch.rand(2, 3, 32, 32)
    reference = RecognitionNetwork((2, 1, 1, 1), (4, 4, 6, 8, 8), embedding=16, crop=32)
    reference.load_state_dict(_small_state())
    assert torch.allclose(network(crop), reference.eval()(crop))
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.clear(), "conv1.weight"),
        (lambda state: state.pop("layer1.1.bn2.weight"), "no layer1.1.bn2.weight"),
        (lambda state: state.update({"head.weight": torch.zeros(1)}), "foreign head.weight"),
        (lambda state: state.update({"layer2.0.conv1.weight": torch.zeros(6, 5, 3, 3)}), "instead of (6, 4, 3, 3)"),
        (lambda state: state.update({"fc.weight": torch.zeros(16, 37)}), "fc.weight of shape (16, 37)"),
    ],
)
def test_foreign_states_are_refused_with_one_line(change, message):
    state = _small_state()
    change(state)
    with pytest.raises(InputError, match="arcface_torch") as caught:
        recognition_network(state, "faces.safetensors")
    assert message in str(caught.value) and "faces.safetensors" in str(caught.value) and "\n" not in str(caught.value)


def test_crop_at_the_template_is_the_image_itself():
    image = torch.rand(1, 112, 112, 3)
    points = (torch.tensor(ARCFACE_TEMPLATE) + 0.5)[None]
    assert torch.allclose(aligned_crop(image, points), image, atol=1e-4)


def test_crop_undoes_a_similarity():
    axis = torch.arange(200, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    image = torch.stack([x, y, x + y], -1)[None] / 200  # the image tells its own coordinates
    angle, scale, shift = math.radians(20), 1.4, torch.tensor([30.0, -10.0], dtype=torch.float64)
    turn = scale * torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    points = (torch.tensor(ARCFACE_TEMPLATE, dtype=torch.float64) + 0.5) @ turn.T + shift
    crop = aligned_crop(image, points[None])
    expected = torch.tensor([60.5, 50.5], dtype=torch.float64) @ turn.T + shift
    assert torch.allclose(crop[0, 50, 60, :2] * 200, expected, atol=1e-6)


def test_five_points_of_ibug():
    points = torch.arange(68 * 2, dtype=torch.float64).reshape(68, 2)
    five = five_points(points)
    assert five[0].tolist() == [77.0, 78.0] and five[2].tolist() == [60.0, 61.0] and five[4].tolist() == [108.0, 109.0]


def test_recognition_energy_values_and_gradient():
    energy = RecognitionEnergy.from_state(_small_state())
    image, points = _face(2)
    assert float(energy(image, image, points)) == pytest.approx(0.0, abs=1e-6)
    other = torch.rand_like(image).requires_grad_()
    value = energy(other, image, points)
    value.backward()
    assert 0.0 < float(value.detach()) <= 2.0
    assert torch.isfinite(other.grad).all() and float(other.grad.abs().max()) > 0
    masked = energy(other.detach(), image, points, torch.zeros(2, 48, 48))
    assert float(masked) == pytest.approx(0.0, abs=1e-6)


def test_recognition_gradcheck():
    state = {name: value.double() if value.is_floating_point() else value for name, value in _small_state().items()}
    energy = RecognitionEnergy.from_state(state)
    image, points = _face(1, 10)
    start = torch.rand(1, 10, 10, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda item: energy(item, image.double(), points.double()), (start,), fast_mode=True
    )


def test_lpips_missing_is_said(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **named):
        if name == "lpips":
            raise ModuleNotFoundError("No module named 'lpips'", name="lpips")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingPartError, match=r"hrn-fitter\[perceptual\]"):
        LpipsEnergy()


def _fake_lpips(monkeypatch, network):
    module = types.ModuleType("lpips")
    module.LPIPS = network
    monkeypatch.setitem(sys.modules, "lpips", module)


def test_lpips_without_backbone_weights_is_said(monkeypatch):
    def offline(**settings):
        raise OSError("no route to host")

    _fake_lpips(monkeypatch, offline)
    with pytest.raises(MissingPartError, match="torchvision downloads them"):
        LpipsEnergy("vgg")


def test_lpips_sees_the_range_and_the_mask(monkeypatch):
    class Difference(torch.nn.Module):
        def __init__(self, net, verbose):
            super().__init__()

        def forward(self, first, second):
            assert first.shape[1] == 3 and float(first.min()) >= -1.0 and float(first.max()) > 0.5
            return (first - second).square().mean((1, 2, 3), keepdim=True)

    _fake_lpips(monkeypatch, Difference)
    energy = LpipsEnergy("alex", like=torch.zeros(1))
    rendered, observed = torch.zeros(1, 4, 4, 3), torch.ones(1, 4, 4, 3)
    rendered[..., :2, :] = 1.0
    assert float(energy(rendered, observed)) == pytest.approx(2.0)
    mask = torch.zeros(1, 4, 4)
    mask[:, 0, 3] = 1.0
    assert float(energy(rendered, observed, mask)) == pytest.approx(4.0 / 16)

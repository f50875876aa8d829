"""The iResNet of ArcFace (Deng et al. 2019, "ArcFace"), built to fit a given state, and its face crop.

The names of the parts follow the published PyTorch checkpoints of insightface's arcface_torch, so that their states
load after conversion to safetensors. The network is only ever evaluated, and differentiated with respect to its input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fitter.errors import InputError

CROP_SIZE = 112
"""Input of the published networks, px."""

ARCFACE_TEMPLATE = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Eyes (image left, right), nose tip and mouth corners in the crop; integers are pixel centres here."""


class ResidualBlock(nn.Module):
    """bn1 – conv1 – bn2 – prelu – conv2 (strided) – bn3, plus the shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """[B, channels_in, h, w] to [B, channels, h / stride, w / stride]."""
        shortcut = features if self.downsample is None else self.downsample(features)
        inner = self.prelu(self.bn2(self.conv1(self.bn1(features))))
        return self.bn3(self.conv2(inner)) + shortcut


class RecognitionNetwork(nn.Module):
    """iResNet: a stem, four strided layers of residual blocks, one linear map to the embedding.

    Args:
        depths: Number of blocks of the four layers: (3, 4, 14, 3) is iresnet50, (3, 13, 30, 3) is iresnet100.
        widths: Channels of the stem and of the four layers; (64, 64, 128, 256, 512) in the published ones.
        embedding: Length of the embedding; 512 in the published ones.
        crop: Side of the input, px.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        widths: tuple[int, ...] = (64, 64, 128, 256, 512),
        embedding: int = 512,
        crop: int = CROP_SIZE,
    ) -> None:
        super().__init__()
        self.crop = crop
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        for number, (depth, before, width) in enumerate(zip(depths, widths[:-1], widths[1:], strict=True), 1):
            blocks = [ResidualBlock(before if k == 0 else width, width, 2 if k == 0 else 1) for k in range(depth)]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.bn2 = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1] * (crop // 16) ** 2, embedding)
        self.features = nn.BatchNorm1d(embedding)

    def forward(self, crop: Tensor) -> Tensor:
        """Embedding [B, E], not normalised, of RGB crops [B, 3, S, S] in [-1, 1]."""
        features = self.prelu(self.bn1(self.conv1(crop)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            features = layer(features)
        return self.features(self.fc(self.bn2(features).flatten(1)))


def recognition_network(state: Mapping[str, Tensor], source: str = "recognition network") -> RecognitionNetwork:
    """Build the network that a state belongs to; depth and widths are read from the names and shapes.

    Args:
        state: Tensors by the names of arcface_torch's iresnet; a leading `module.` (data-parallel training) is dropped.
        source: File the state came from, for the error message.

    Returns:
        The network in evaluation mode, without gradients of its own weights, in the state's dtype and device.
    """
    state = {name.removeprefix("module."): value for name, value in state.items()}
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    expected = "the state of an ArcFace iresnet (conv1, bn1, prelu, layer1…4, bn2, fc, features)"
    remedy = "Convert an insightface arcface_torch checkpoint to safetensors without renaming its tensors."
    depths = tuple(_block_count(state, number) for number in range(1, 5))
    needed = ["conv1.weight", "fc.weight", *(f"layer{number}.0.conv2.weight" for number in range(1, 5))]
    missing = [name for name in needed if name not in state or state[name].ndim != (2 if name == "fc.weight" else 4)]
    if missing or 0 in depths:
        raise InputError(source, f"no usable tensor {', '.join(missing or ['layerN'])}", expected, remedy)
    widths = (state["conv1.weight"].shape[0], *(state[f"layer{k}.0.conv2.weight"].shape[0] for k in range(1, 5)))
    embedding, flattened = state["fc.weight"].shape
    side = round((flattened / widths[-1]) ** 0.5)
    if side < 1 or side * side * widths[-1] != flattened:
        raise InputError(source, f"fc.weight of shape {tuple(state['fc.weight'].shape)}", expected, remedy)
    with torch.device("meta"):
        network = RecognitionNetwork(depths, widths, embedding, side * 16)
    buffers = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    problems = [f"no {name}" for name in buffers if name not in state]
    problems += [f"foreign {name}" for name in state if name not in buffers]
    problems += [
        f"{name} of shape {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in buffers.items()
        if name in state and state[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(source, ", ".join(problems[:3]) + more, expected, remedy)
    network.to_empty(device=state["fc.weight"].device).to(state["fc.weight"].dtype)
    network.load_state_dict(dict(state), strict=False)
    return network.eval().requires_grad_(False)


def five_points(ibug68: Tensor) -> Tensor:
    """Eyes, nose tip and mouth corners [..., 5, 2] of iBUG-68 points [..., 68, 2], in the order of the template."""
    eyes = [ibug68[..., 36:42, :].mean(-2), ibug68[..., 42:48, :].mean(-2)]
    return torch.stack([*eyes, ibug68[..., 30, :], ibug68[..., 48, :], ibug68[..., 54, :]], -2)


def aligned_crop(images: Tensor, points: Tensor, size: int = CROP_SIZE) -> Tensor:
    """Crop faces by the least-squares similarity of their five points to ArcFace's template.

    Bilinear, as the networks were trained, and differentiable with respect to the images; points count as constants.
    Outside of the image the crop is black.

    Args:
        images: [B, H, W, 3].
        points: [B, 5, 2] px, of `five_points`.
        size: Side of the crop, px; the template is scaled along.

    Returns:
        [B, size, size, 3].
    """
    points = points.detach().to(images.dtype)
    factor = size / CROP_SIZE
    template = (points.new_tensor(ARCFACE_TEMPLATE) + 0.5) * factor
    source, target = torch.view_as_complex(points.contiguous()), torch.view_as_complex(template)
    source_mean, target_mean = source.mean(-1, keepdim=True), target.mean(-1, keepdim=True)
    # In the plane a similarity is one complex factor: image = turn * crop + shift, fitted from crop to image.
    centred = target - target_mean
    turn = ((source - source_mean) * centred.conj()).sum(-1, keepdim=True) / centred.abs().square().sum(-1)
    axis = torch.arange(size, dtype=points.dtype, device=points.device) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.complex(x, y).flatten()
    positions = torch.view_as_real(turn * (pixels - target_mean) + source_mean)
    extent = positions.new_tensor([images.shape[2], images.shape[1]])
    grid = (2.0 * positions / extent - 1.0).unflatten(1, (size, size))
    cropped = nn.functional.grid_sample(images.movedim(-1, 1), grid, mode="bilinear", align_corners=False)
    return cropped.movedim(1, -1)


def _block_count(state: Mapping[str, Tensor], layer: int) -> int:
    numbers = {int(match[1]) for name in state if (match := re.match(rf"layer{layer}\.(\d+)\.", name))}
    return max(numbers, default=-1) + 1

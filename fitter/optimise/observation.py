"""The photographs as the solvers see them: tensors, in a pyramid of sizes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fitter.energies.channel import with_differences


@dataclass(frozen=True)
class Photograph:
    """One photograph at one level of the pyramid."""

    colour: Tensor
    """[3, H, W] sRGB-encoded."""
    usable: Tensor
    """[1, H, W] in [0, 1]: 0 where clipped or masked out."""
    scale: float
    """Pixels of this level per pixel of the full-size photograph."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of this level."""
        return self.colour.shape[1], self.colour.shape[2]


@dataclass(frozen=True)
class Signal:
    """Channels of a photograph, as photo-consistency samples them."""

    image: Tensor
    """[3 C + 1, H, W]: C channels, their derivatives along x, those along y, per pixel of this level, and what is
    usable."""
    scale: float
    """Pixels of this level per pixel of the full-size photograph."""

    @staticmethod
    def of(photograph: Photograph, channels: Tensor) -> Signal:
        """Mixtures [C, 3] of the photograph's sRGB-encoded red, green and blue; [C, 5] with their differences."""
        colour = photograph.colour if channels.shape[-1] == 3 else with_differences(photograph.colour)
        mixed = torch.einsum("kc,chw->khw", channels.to(colour), colour)
        padded = torch.nn.functional.pad(mixed[None], (1, 1, 1, 1), mode="replicate")[0]
        along_x = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
        along_y = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
        return Signal(torch.cat([mixed, along_x, along_y, photograph.usable]), photograph.scale)

    @property
    def channel_count(self) -> int:
        """Number of channels C."""
        return (self.image.shape[0] - 1) // 3

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of this level."""
        return self.image.shape[1], self.image.shape[2]


@dataclass(frozen=True)
class Observation:
    """All that was observed of the subject."""

    pyramids: tuple[tuple[Photograph, ...], ...]
    """Per view: full size first, each further level half of the one before."""
    landmarks: Tensor | None
    """[N, L, 2] px of the full-size photographs, or None."""
    landmark_confidence: Tensor | None
    """[N, L], 0 drops a point."""
    landmark_scheme: str
    """`ibug68` or `mediapipe`."""
    masks: tuple[Tensor | None, ...]
    """Per view: [H, W] given face mask, full size."""

    @property
    def view_count(self) -> int:
        """Number of views N."""
        return len(self.pyramids)

    def level(self, view: int, longest_side: float) -> Photograph:
        """The smallest level of a view whose longer side is at least `longest_side` px (else the full size)."""
        chosen = self.pyramids[view][0]
        for photograph in self.pyramids[view]:
            if max(photograph.size) >= longest_side:
                chosen = photograph
        return chosen

    def signals(self, longest_side: float, channels: Tensor) -> tuple[Signal, ...]:
        """Channels [C, F] of every view, or each view's own [N, C, F], on the levels that `level` chooses."""
        own = channels.expand(self.view_count, *channels.shape[-2:])
        return tuple(Signal.of(self.level(view, longest_side), own[view]) for view in range(self.view_count))


def build_pyramid(image: Tensor, mask: Tensor | None, smallest: int = 96) -> tuple[Photograph, ...]:
    """Halve an sRGB-encoded image [H, W, 3] until its longer side would fall below `smallest`.

    Pixels clipped in any channel are not usable; neither are those that a given mask leaves out.
    """
    colour = image.permute(2, 0, 1).contiguous()
    usable = (colour.amax(0, keepdim=True) < 0.998).to(colour.dtype)
    if mask is not None:
        usable = usable * (mask[None] > 0.5)
    levels = [Photograph(colour, usable, 1.0)]
    while max(colour.shape[1:]) // 2 >= smallest and min(colour.shape[1:]) >= 4:
        height, width = colour.shape[1] // 2 * 2, colour.shape[2] // 2 * 2
        colour = torch.nn.functional.avg_pool2d(colour[None, :, :height, :width], 2)[0]
        usable = torch.nn.functional.avg_pool2d(usable[None, :, :height, :width], 2)[0]
        levels.append(Photograph(colour, usable, levels[-1].scale * 0.5))
    return tuple(levels)


def sample_image(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values [K, C] of an image [C, H, W] at pixel positions [K, 2] (centres at +0.5)."""
    height, width = image.shape[1:]
    scale = pixels.new_tensor([2.0 / width, 2.0 / height])
    points = (pixels * scale - 1.0)[None, None]
    values = torch.nn.functional.grid_sample(
        image[None], points, mode="bilinear", padding_mode="border", align_corners=False
    )
    return values[0, :, 0].T

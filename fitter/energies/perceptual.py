"""Perceptual energies: networks that look at render and photograph. Both parts are optional and come from the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from fitter.energies.recognition_network import aligned_crop, five_points, recognition_network
from fitter.errors import MissingPartError


class LpipsEnergy:
    """Learned perceptual distance (Zhang et al. 2018) through the `lpips` package.

    Args:
        backbone: Network whose features are compared; its ImageNet weights are fetched by torchvision on first use.
        like: Any tensor of the wanted dtype and device.
    """

    def __init__(self, backbone: Literal["alex", "vgg", "squeeze"] = "alex", like: Tensor | None = None) -> None:
        needed_for = "the perceptual energy (LPIPS)"
        try:
            import lpips
        except ImportError as error:
            raise MissingPartError(
                f"the package {error.name or 'lpips'}",
                needed_for,
                "Install it with: pip install 'hrn-fitter[perceptual]'",
            ) from error
        try:
            network = lpips.LPIPS(net=backbone, verbose=False)
        except (OSError, RuntimeError, EOFError) as error:
            raise MissingPartError(
                f"the ImageNet weights of '{backbone}'",
                needed_for,
                "torchvision downloads them from download.pytorch.org into the folder hub/checkpoints of torch's cache"
                f" (TORCH_HOME); go online once or put the file there. ({type(error).__name__}: {error})",
            ) from error
        self.network = network.eval().requires_grad_(False)
        if like is not None:
            self.network = self.network.to(device=like.device, dtype=like.dtype)

    def __call__(self, rendered: Tensor, observed: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean perceptual distance of [B, H, W, 3] images, sRGB-encoded, [0, 1].

        Args:
            rendered: The render.
            observed: The photograph.
            mask: [B, H, W] in [0, 1]; outside of it the photograph is shown to both sides, so that only the face
                differs.

        Returns:
            Scalar without unit.
        """
        if mask is not None:
            rendered = torch.lerp(observed, rendered, mask[..., None])
        first, second = (image.movedim(-1, 1) * 2.0 - 1.0 for image in (rendered, observed))
        return self.network(first, second).mean()


class RecognitionEnergy:
    """Cosine distance of identity embeddings (Deng et al. 2019, eq. 4) through a face-recognition network.

    Args:
        network: Maps RGB crops [B, 3, S, S] in [-1, 1] to embeddings [B, E].
        crop: Side S of the crops, px.
    """

    def __init__(self, network: nn.Module, crop: int = 112) -> None:
        self.network = network
        self.crop = crop

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], source: str = "recognition network") -> RecognitionEnergy:
        """Of the state of an ArcFace iresnet, as read from a safetensors file; `source` is named in errors."""
        network = recognition_network(state, source)
        return cls(network, network.crop)

    def embed(self, images: Tensor, points: Tensor) -> Tensor:
        """Unit embeddings [B, E] of the faces in [B, H, W, 3] images (sRGB) at points [B, 68, 2] or [B, 5, 2]."""
        if points.shape[-2] == 68:
            points = five_points(points)
        cropped = aligned_crop(images, points, self.crop).movedim(-1, 1)
        return nn.functional.normalize(self.network(cropped * 2.0 - 1.0), dim=-1)

    def __call__(self, rendered: Tensor, observed: Tensor, points: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean of 1 - cosine similarity, in [0, 2].

        Args:
            rendered: [B, H, W, 3] render, sRGB-encoded, [0, 1].
            observed: [B, H, W, 3] photograph.
            points: [B, 68, 2] iBUG-68 or [B, 5, 2] landmarks, px; the same crop is taken from both.
            mask: [B, H, W] in [0, 1]; outside of it the photograph is shown to both sides.

        Returns:
            Scalar without unit. Differentiable with respect to the render; the photograph's embedding is a constant.
        """
        if mask is not None:
            rendered = torch.lerp(observed, rendered, mask[..., None])
        with torch.no_grad():
            target = self.embed(observed, points)
        return (1.0 - (self.embed(rendered, points) * target).sum(-1)).mean()

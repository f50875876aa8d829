"""What the views show of the surface, made comparable: mixtures of their colours, and their differences at the samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from fitter.energies.channel import GREY, USUAL, MixtureRule, discriminant_channels, highlight_trust
from fitter.energies.consistency import Agreement, ConsistencyTerms, consistency_terms
from fitter.hierarchy.face import FaceState
from fitter.hierarchy.samples import SurfaceSamples, surface_samples
from fitter.optimise.config import Pass, Stage
from fitter.optimise.observation import Signal
from fitter.optimise.problem import Problem, StageLog, setting
from fitter.optimise.views import SampledViews, pixels_covered, sampled_colours, surface_geometry, view_visibility

LEAST_VARIANCE = 0.05
"""Of the residual, in squares of the expected disagreement: no photographs agree better than that."""
REFERENCE_SAMPLES = 192
"""Sampling at which the widths of the consistency filters are stated."""
PIXELS_PER_SAMPLE = 0.9
"""Along a side. Denser samples lie between pixels, where what views show depends on how each falls on its own pixels: on
photographs of 450 px two samples a pixel left M1 a tenth less accurate than one."""
STEP = 16
"""Samples per side come in multiples of this, so that grids are used again."""
COMPARISON_SETTINGS = frozenset({"mode", "channel", "mixture_width", "lowpass", "window", "sigma", "robust"})
"""Settings of photo-consistency that say what is compared and how."""


@dataclass(frozen=True)
class Compared:
    """What a pass compares."""

    signals: tuple[Signal, ...]
    """The channels of every view."""
    trust: Tensor | None
    """[N, S, S] in [0, 1]: low in highlights; None where all is compared alike."""


def compared_channels(
    problem: Problem, state: FaceState, stage: Stage, samples: SurfaceSamples, image: int
) -> tuple[Tensor, Tensor | None]:
    """The mixtures [C, F] of the colours that a stage compares (or each view's own, [N, C, F]), and which of its samples
    to trust [N, S, S].

    Args:
        problem: Its photographs, and the channels where they are decided already.
        state: Where the surface is; the mixtures, where they are chosen.
        stage: Its settings.
        samples: Surface samples.
        image: Level of the photographs, px.
    """
    if problem.channels is not None:
        return problem.channels, None
    wanted = setting(stage, "consistency", "channel", "best")
    if wanted == "grey":
        return state.identity.new_tensor(GREY)[None], None
    colours, weight = colours_on_grid(problem, state, samples, image)
    channels = state.mixtures
    if channels.shape[0] == 0:
        channels = mixtures_by(USUAL, stage, samples, colours, weight)
    return (channels[..., :1, :] if wanted == "single" else channels), highlight_trust(colours, weight)


def colours_on_grid(problem: Problem, state: FaceState, samples: SurfaceSamples, image: int) -> tuple[Tensor, Tensor]:
    """What the views see on M1: sRGB-encoded colours [N, 3, S, S] and how well [N, S, S], on a level of `image` px."""
    geometry = surface_geometry(problem.model, state, problem.topology)
    seen, weight = sampled_colours(state, problem.observation, samples, geometry, problem.topology, image)
    return samples.to_grid(seen.transpose(0, 1)).permute(2, 3, 0, 1), samples.to_grid(weight.T).permute(2, 0, 1)


def mixtures_by(rule: MixtureRule, stage: Stage, samples: SurfaceSamples, colours: Tensor, weight: Tensor) -> Tensor:
    """The mixtures [C, F] of a stage's colours on the grid of its samples, as of `discriminant_channels`."""
    compared = ("window", 8.0) if setting(stage, "consistency", "mode", "gain") == "lcn" else ("lowpass", 16.0)
    width = setting(stage, "consistency", "mixture_width", setting(stage, "consistency", *compared))
    return discriminant_channels(colours, weight, width * samples.resolution / REFERENCE_SAMPLES, rule)


def as_fine_as_pixels(problem: Problem, state: FaceState, now: Pass) -> Pass:
    """The pass with no more samples than the photographs have pixels for, on the level that it looks at."""
    if now.samples <= REFERENCE_SAMPLES:
        return now
    samples = surface_samples(problem.model, REFERENCE_SAMPLES)
    geometry = surface_geometry(problem.model, state, problem.topology)
    covered = []
    for view in range(state.view_count):
        surface = geometry[state.expression_row(view)]
        photograph = problem.observation.level(view, now.image)
        world = samples.interpolate(surface.vertices)
        normals = normalize(samples.interpolate(surface.normals), dim=-1)
        weight, _, pixels = view_visibility(state, view, surface.vertices, problem.topology, world, normals, photograph)
        covered.append(pixels_covered(samples, pixels * photograph.scale, weight * samples.usable))
    side = float(torch.stack(covered).nanmean().sqrt())
    if math.isnan(side):
        return now
    most = int(side * REFERENCE_SAMPLES / PIXELS_PER_SAMPLE) // STEP * STEP
    return replace(now, samples=max(REFERENCE_SAMPLES, min(now.samples, most)))


def compare_views(
    stage: Stage, samples: SurfaceSamples, sampled: Sequence[SampledViews], trust: Tensor | None, progress: float
) -> list[ConsistencyTerms]:
    """Photo-consistency at the samples, channel by channel, with the stage's settings as they are after a share
    `progress` of its steps."""
    weight = trusted_weight(samples, sampled[0].weight, trust)
    filters = comparison_filters(stage, samples, progress)
    robust = setting(stage, "consistency", "robust", 3.0, progress)
    found: list[ConsistencyTerms] = []
    for channel in sampled:
        values = samples.to_grid(channel.signal.T).permute(2, 0, 1)
        beside = found[0] if found else None
        found.append(consistency_terms(values, weight, **filters, robust=robust, beside=beside))
    return found


def trusted_weight(samples: SurfaceSamples, weight: Tensor, trust: Tensor | None) -> Tensor:
    """How well each view sees [N, K], spread over the grid [N, S, S], less where highlights are not to be trusted."""
    spread = samples.to_grid(weight.T).permute(2, 0, 1)
    if trust is None:
        return spread
    # Found on a coarser grid where the samples are dense.
    side = (samples.resolution, samples.resolution)
    return spread * (trust if trust.shape[1:] == side else interpolate(trust[None], side, mode="bilinear")[0])


def comparison_filters(stage: Stage, samples: SurfaceSamples, progress: float) -> dict[str, Any]:
    """The stage's filters for `consistency_terms`, in samples, as they are after a share `progress` of its steps."""
    factor = samples.resolution / REFERENCE_SAMPLES
    return {
        "mode": setting(stage, "consistency", "mode", "gain"),
        "lowpass": setting(stage, "consistency", "lowpass", 16.0, progress) * factor,
        "window": setting(stage, "consistency", "window", 8.0, progress) * factor,
        "sigma": setting(stage, "consistency", "sigma", 0.3, progress),
    }


def noise_of(first: ConsistencyTerms | Agreement) -> float:
    """What the maps' data are divided by, so that photographs with noise are smoothed more than clean ones.

    Of the first channel; the others were scaled to disagree as much.

    Early on, texture that is not yet in place counts as noise too: the maps then begin stiff and become free.
    """
    return max(float(first.variance), LEAST_VARIANCE)


def compared_at(problem: Problem, state: FaceState, stage: Stage, now: Pass, log: StageLog) -> Compared:
    """What a pass compares, on its level of the photographs; the first mixture is logged."""
    coarse = surface_samples(problem.model, min(now.samples, REFERENCE_SAMPLES))
    channels, trust = compared_channels(problem, state, stage, coarse, now.image)
    names = ("red", "green", "blue", "red_less_blue", "red_less_green")
    best = channels.expand(problem.observation.view_count, *channels.shape[-2:])[0, 0].tolist()
    log.residuals |= {f"channel_{name}": value for name, value in zip(names, best, strict=False)}
    return Compared(problem.observation.signals(now.image, channels), trust)

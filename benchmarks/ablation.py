"""`python -m benchmarks ablation`: what each part of the engine gives, on generated subjects.

Two tables. HRN's table 3 (Lei et al. 2023), with its recipe on one photograph: the model alone, then its hierarchy and
its contour loss; its learned detail prior and its de-retouching network are not part of this version, and their rows
say so. And each stage, energy and channel of our own presets left out in turn, on three calibrated photographs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.records import RESULTS, headed, write_record
from benchmarks.sessions.cases import Case
from benchmarks.sessions.command import add_arguments, subjects_of, work_folder
from benchmarks.sessions.levels import LEVELS
from benchmarks.sessions.run import run_subjects
from benchmarks.sessions.summary import DISTANCE, NORMAL, interval
from fitter.optimise.config import Configuration, load_configuration

FRONT, THREE = (2,), (1, 2, 3)
Change = Callable[[Configuration], Configuration]
COMPARING = {"gauss_newton", "focal_search", "mixture_choice", "depth_sweep"}
"""Solvers that compare views on the atlas."""


@dataclass(frozen=True)
class Variant:
    """One row."""

    name: str
    preset: str
    views: tuple[int, ...]
    change: Change

    def configuration(self) -> Configuration:
        """What is run."""
        return self.change(load_configuration(self.preset))


def unchanged(configuration: Configuration) -> Configuration:
    """The preset as it is."""
    return configuration


def without_stages(*names: str) -> Change:
    """Leave out the stages called so.

    Raises:
        ValueError: The preset has no such stage.
    """

    def change(configuration: Configuration) -> Configuration:
        missing = set(names) - {stage.name for stage in configuration.stages}
        if missing:
            raise ValueError(f"no stage {sorted(missing)} in {configuration.name}")
        return replace(configuration, stages=tuple(s for s in configuration.stages if s.name not in names))

    return change


def without_energy(name: str) -> Change:
    """Leave an energy out of every stage; a stage that has no other energy goes too.

    Raises:
        ValueError: The preset has no such energy.
    """

    def change(configuration: Configuration) -> Configuration:
        if not any(name in stage.energies for stage in configuration.stages):
            raise ValueError(f"no energy {name} in {configuration.name}")
        stages = []
        for stage in configuration.stages:
            left = {key: settings for key, settings in stage.energies.items() if key != name}
            if left or not stage.energies:
                stages.append(replace(stage, energies=left))
        return replace(configuration, stages=tuple(stages))

    return change


def with_setting(energy: str, key: str, value: object) -> Change:
    """One setting of an energy, in every stage that compares views on the atlas and has it."""

    def change(configuration: Configuration) -> Configuration:
        stages = [
            replace(stage, energies=stage.energies | {energy: stage.energies[energy] | {key: value}})
            if energy in stage.energies and stage.solver in COMPARING
            else stage
            for stage in configuration.stages
        ]
        return replace(configuration, stages=tuple(stages))

    return change


def without_setting(energy: str, key: str) -> Change:
    """One setting of an energy left to its default, in every stage that has it."""

    def change(configuration: Configuration) -> Configuration:
        stages = [
            replace(stage, energies=stage.energies | {energy: {k: v for k, v in settings.items() if k != key}})
            if (settings := stage.energies.get(energy)) is not None
            else stage
            for stage in configuration.stages
        ]
        return replace(configuration, stages=tuple(stages))

    return change


def by_descent(*names: str) -> Change:
    """Gauss-Newton with three steps a pass, instead of the depth sweeps of the stages called so."""

    def change(configuration: Configuration) -> Configuration:
        stages = []
        for stage in configuration.stages:
            if stage.name in names:
                energies = {key: settings for key, settings in stage.energies.items() if key != "depth"}
                passes = tuple(replace(one, steps=3) for one in stage.passes)
                stage = replace(stage, solver="gauss_newton", energies=energies, passes=passes)
            stages.append(stage)
        return replace(configuration, stages=tuple(stages))

    return change


def both(first: Change, second: Change) -> Change:
    """One change after the other."""
    return lambda configuration: second(first(configuration))


def without_free(*names: str) -> Change:
    """Hold parameters in every stage."""

    def change(configuration: Configuration) -> Configuration:
        stages = [replace(s, free=tuple(name for name in s.free if name not in names)) for s in configuration.stages]
        return replace(configuration, stages=tuple(stages))

    return change


PAPER = (
    Variant(
        "base: coefficients only",
        "mv_hrn",
        FRONT,
        both(without_free("deformation", "displacement"), without_energy("contour")),
    ),
    Variant("+ hierarchy", "mv_hrn", FRONT, without_energy("contour")),
    Variant("+ contour", "mv_hrn", FRONT, unchanged),
)
NOT_HERE = ("+ detail priors", "+ de-retouching")
"""Rows of the paper's table that need its networks."""
OWN = (
    Variant("session, all of it", "session", THREE, unchanged),
    Variant("one channel instead of two", "session", THREE, with_setting("consistency", "channel", "single")),
    Variant("grey instead of channels", "session", THREE, with_setting("consistency", "channel", "grey")),
    Variant(
        "mixtures judged as narrow as the filters", "session", THREE, without_setting("consistency", "mixture_width")
    ),
    Variant("without m1 (M2 on M0)", "session", THREE, without_stages("m1", "m1 outlines", "m1 fine", "m1 polish")),
    Variant("without the first depth sweeps (m1)", "session", THREE, without_stages("m1")),
    Variant("Gauss-Newton in m1 fine and m2", "session", THREE, by_descent("m1 fine", "m2")),
    Variant("Gauss-Newton in m2", "session", THREE, by_descent("m2")),
    Variant("Gauss-Newton in m1, m1 fine and m2", "session", THREE, by_descent("m1", "m1 fine", "m2")),
    Variant("without a choice of mixtures", "session", THREE, without_stages("mixtures")),
    Variant("without m1 polish", "session", THREE, without_stages("m1 polish")),
    Variant("without m1 outlines", "session", THREE, without_stages("m1 outlines")),
    Variant("without contour", "session", THREE, without_energy("contour")),
    Variant("without shading (robust_photometric)", "session", THREE, without_energy("robust_photometric")),
    Variant("without m2", "session", THREE, without_stages("m2")),
    Variant("landmarks only in M0", "session", THREE, without_stages("m0")),
    Variant("without identity prior", "session", THREE, without_energy("identity_prior")),
    Variant("without expression prior", "session", THREE, without_energy("expression_prior")),
    Variant("local contrast (lcn) instead of gains", "session", THREE, with_setting("consistency", "mode", "lcn")),
    Variant("preset draft", "draft", THREE, unchanged),
    Variant("preset mv_hrn", "mv_hrn", THREE, unchanged),
)


def table(rows: list[dict], variants: tuple[Variant, ...], alignment: str) -> str:
    """Markdown: a row per variant, means over the subjects."""
    lines = [
        "| variant | M0 mm | M1 mm | M2 mm | 95 % | M1 ° | M2 ° | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant in variants:
        chosen = [row for row in rows if row["case"] == variant.name]
        if not chosen:
            continue
        distances = [interval(chosen, level, DISTANCE, alignment) for level in LEVELS]
        angles = [interval(chosen, level, NORMAL, alignment).value for level in LEVELS[1:]]
        seconds = sum(row["seconds"] for row in chosen) / len(chosen)
        cells = [*(f"{d.value:.3f}" for d in distances), f"{distances[-1].low:.3f}–{distances[-1].high:.3f}"]
        cells += [*(f"{angle:.2f}" for angle in angles), f"{seconds:.1f}"]
        lines.append(f"| {variant.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks ablation",
        description=__doc__.partition("\n")[0],
    )
    add_arguments(parser)
    parser.add_argument("--tables", nargs="+", choices=("paper", "own"), default=("paper", "own"))
    options = parser.parse_args(arguments)
    variants = (PAPER if "paper" in options.tables else ()) + (OWN if "own" in options.tables else ())
    if options.seeds is None:
        options.seeds = [0, 3, 4, 5, 7, 8]
    subjects, rows = subjects_of(options), []
    began = time.perf_counter()
    for number, variant in enumerate(variants, 1):
        # A case's preset is the name under which its configuration is looked up.
        case = Case(variant.name, variant.views, preset=variant.name)
        rows += run_subjects(
            subjects,
            (case,),
            {variant.name: variant.configuration()},
            work_folder(options),
            workers=options.workers,
            threads=options.threads,
            device=options.device,
        )
        print(f"{number}/{len(variants)} {variant.name}: {time.perf_counter() - began:.0f} s", flush=True)
    print("\n" + table(rows, PAPER, "similarity") + "\n\n" + table(rows, OWN, "raw"))
    content = {
        "subjects": [subject.name for subject in subjects],
        "paper": [variant.name for variant in PAPER],
        "not_here": list(NOT_HERE),
        "own": [variant.name for variant in OWN],
        "rows": rows,
    }
    path = options.out or RESULTS / "ablation.json"
    write_record(path, headed("ablation", content, options.device))
    print(f"\n-> {path}")
    return 0

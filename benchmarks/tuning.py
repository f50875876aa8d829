"""`python -m benchmarks tuning`: would another weight be better? On generated subjects, and on them alone.

Every setting of the preset is changed by itself, to a smaller and a larger value, and the generated subjects are fitted
again. A change is measured on the same subject with and without it: the mean of M2's distances' ratios (geometric), with
a bootstrap interval over persons. Only a change whose interval lies below zero is called better. The real capture decides
nothing: `--real` fits it with the preset and with another file, for the figures before and after.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.metrics import bootstrap_interval
from benchmarks.records import RESULTS, headed, write_record
from benchmarks.sessions.cases import CASES, Case
from benchmarks.sessions.command import add_arguments, subjects_of, work_folder
from benchmarks.sessions.run import run_subjects
from benchmarks.sessions.summary import DISTANCE, NORMAL
from fitter.errors import InputError
from fitter.optimise.config import Configuration, load_configuration

PRESET = "session"
AS_IT_IS = "as it is"
HALF, DOUBLE = 0.5, 2.0


@dataclass(frozen=True)
class Setting:
    """One number of a preset, the same in one or more stages."""

    stages: tuple[str, ...]
    group: str
    """An energy's name, or `passes`."""
    key: str
    factors: tuple[float, ...] = (HALF, DOUBLE)

    @property
    def name(self) -> str:
        """As it is written in tables and after `--only`."""
        return f"{' + '.join(self.stages)}: {self.group} {self.key}"

    def scaled(self, configuration: Configuration, factor: float) -> Configuration:
        """The configuration with this number, or both ends of its range, times `factor` (steps are rounded).

        Raises:
            InputError: The configuration has no such number.
        """
        found = {stage.name for stage in configuration.stages if stage.name in self.stages}
        if found != set(self.stages):
            missing = ", ".join(sorted(set(self.stages) - found))
            raise InputError(configuration.name, f"no stage {missing}", "the stages of the preset session")
        stages = [s if s.name not in found else self._scaled_stage(s, factor) for s in configuration.stages]
        return replace(configuration, stages=tuple(stages))

    def _scaled_stage(self, stage, factor: float):
        if self.group == "passes":
            passes = [
                replace(one, **{self.key: max(1, round(factor * getattr(one, self.key)))}) for one in stage.passes
            ]
            return replace(stage, passes=tuple(passes))
        settings = stage.energies.get(self.group, {})
        if self.key not in settings:
            raise InputError(stage.name, f"no setting {self.group} {self.key}", "a setting of this stage")
        value = settings[self.key]
        scaled = [factor * part for part in value] if isinstance(value, (list, tuple)) else factor * value
        return replace(stage, energies=stage.energies | {self.group: settings | {self.key: scaled}})


SETTINGS = (
    Setting(("m0",), "identity_prior", "sigma"),
    Setting(("m0",), "consistency", "lowpass"),
    Setting(("m1",), "depth", "patch"),
    Setting(("m1",), "smoothness", "bilaplacian"),
    Setting(("m1",), "consistency", "lowpass"),
    Setting(("m1 outlines",), "contour", "weight"),
    Setting(("m1 outlines",), "bilaplacian", "weight"),
    Setting(("m1 fine",), "depth", "patch", (0.7, 1.4)),
    Setting(("m1 fine",), "consistency", "lowpass", (0.7, 1.4)),
    Setting(("m1 fine",), "passes", "steps", (0.5, 1.5)),
    Setting(("m1 fine", "m1 polish"), "smoothness", "roughness", (0.8, 1.25)),
    Setting(("m1 polish",), "consistency", "lowpass"),
    Setting(("m1 polish",), "smoothness", "bilaplacian"),
    Setting(("m2",), "depth", "patch", (0.7, 1.4)),
    Setting(("m2",), "consistency", "lowpass", (0.7, 1.4)),
    Setting(("m2",), "smoothness", "bilaplacian", (0.7, 1.4)),
)


def changes(rows: Sequence[dict], variant: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """[N] relative change of M2's `key` under a variant, as a logarithm, and [N] whose: every subject and case at once."""
    before = {(row["subject"], row["views"]): row for row in rows if row["variant"] == AS_IT_IS}
    pairs = [(before[row["subject"], row["views"]], row) for row in rows if row["variant"] == variant]
    values = [np.log(after["raw"]["M2"][key] / first["raw"]["M2"][key]) for first, after in pairs]
    return np.array(values), np.array([row["person"] for _, row in pairs])


def table(rows: Sequence[dict]) -> str:
    """Markdown: a row per variant; changes in percent of M2's distance and normals, below zero is better."""
    lines = ["| changed | value | M2 mm | 95 % | M2 ° | |", "|---|---|---|---|---|---|"]
    for variant in dict.fromkeys(row["variant"] for row in rows if row["variant"] != AS_IT_IS):
        setting, _, value = variant.rpartition(" = ")
        distance, normal = (bootstrap_interval(*changes(rows, variant, key)) for key in (DISTANCE, NORMAL))
        low, middle, high, angle = (
            100.0 * np.expm1(x) for x in (distance.low, distance.value, distance.high, normal.value)
        )
        verdict = "better" if high < 0.0 else "worse" if low > 0.0 else ""
        lines.append(
            f"| {setting} | {value} | {middle:+.1f} % | {low:+.1f} to {high:+.1f} | {angle:+.1f} % | {verdict} |"
        )
    return "\n".join(lines)


def variants_of(configuration: Configuration, settings: Sequence[Setting]) -> dict[str, Configuration]:
    """Name -> configuration: the preset as it is, then every setting times each of its factors."""
    found = {AS_IT_IS: configuration}
    for setting in settings:
        for factor in setting.factors:
            found[f"{setting.name} = × {factor:g}"] = setting.scaled(configuration, factor)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks tuning", description=__doc__.partition("\n")[0])
    add_arguments(parser)
    parser.add_argument("--cases", nargs="+", choices=("two", "three", "five"), default=["three"])
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="settings whose name holds one of these")
    parser.add_argument("--config", default=PRESET, help="start from this YAML file instead of the preset session")
    options = parser.parse_args(arguments)
    if options.only:
        settings = [s for s in SETTINGS if any(text in s.name for text in options.only)]
    else:
        settings = list(SETTINGS)
    if not settings:
        names = "; ".join(setting.name for setting in SETTINGS)
        raise InputError("--only", f"no setting with {' or '.join(options.only)}", f"a part of: {names}")
    if options.seeds is None:
        options.seeds = [0, 2, 3, 4, 5, 6, 9, 11]
    subjects, rows, began = subjects_of(options), [], time.perf_counter()
    variants = variants_of(load_configuration(options.config), settings)
    views = {case.name: case.views for case in CASES}
    path = options.out or RESULTS / "tuning.json"
    for number, (name, configuration) in enumerate(variants.items(), 1):
        cases = tuple(Case(case, views[case], preset=name) for case in options.cases)
        found = run_subjects(
            subjects,
            cases,
            {name: configuration},
            work_folder(options),
            workers=options.workers,
            threads=options.threads,
            device=options.device,
        )
        rows += [row | {"variant": name, "views": row["case"]} for row in found]
        print(f"{number}/{len(variants)} {name}: {time.perf_counter() - began:.0f} s", flush=True)
        content = {"subjects": [subject.name for subject in subjects], "cases": options.cases, "rows": rows}
        write_record(path, headed("tuning", content, options.device))
    print(f"\n{table(rows)}\n\n-> {path}")
    return 0

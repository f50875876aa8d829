"""Progress bars on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


def _bars():
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )


@contextmanager
def model_progress() -> Iterator[Callable[[str, float], None]]:
    """A bar that shows itself only if a model has to be built."""
    with _bars() as bars:
        tasks: dict[str, int] = {}

        def show(label: str, fraction: float) -> None:
            if label not in tasks:
                for task in tasks.values():
                    bars.update(task, completed=1.0)
                tasks[label] = bars.add_task(label, total=1.0, note="")
            bars.update(tasks[label], completed=fraction)

        yield show


class FitProgress:
    """One bar per stage of a fit, with its energy."""

    def __init__(self) -> None:
        self.bars = _bars()
        self.tasks: dict[str, int] = {}

    def __enter__(self) -> FitProgress:
        self.bars.start()
        return self

    def __exit__(self, *_) -> None:
        self.bars.stop()

    def step(self, stage: str, step: int, steps: int, energy: float) -> None:
        """A step of a stage is done."""
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(stage, total=steps, note="")
        note = f"energy {energy:.4g}" if energy else ""
        self.bars.update(self.tasks[stage], completed=step, total=steps, note=note)

    def phase(self, name: str) -> None:
        """A part without steps has begun."""
        for task in self.bars.tasks:
            self.bars.update(task.id, completed=task.total)
            self.bars.stop_task(task.id)
        self.tasks[name] = self.bars.add_task(name, total=1, note="")

    def phase_fraction(self, name: str, fraction: float) -> None:
        """How far the part has come."""
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=1, note="")
        self.bars.update(self.tasks[name], completed=fraction)

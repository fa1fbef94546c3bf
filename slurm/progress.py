"""Shows the progress of a set of stages on stderr, so that stdout holds only results."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from scaling.core.stage import Stage
    from slurm.local_stages import Snapshot

LINE_SECONDS = 15.0
"""Seconds between two lines about running stages where stderr is not a terminal."""


@contextmanager
def stage_progress(title: str) -> "Iterator[Bars | Lines]":
    """A function to call with each Snapshot: it shows bars on a terminal, and prints lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(title)
        return
    columns = (
        TextColumn("{task.description}", justify="left"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress, title)


class Bars:
    """One bar for all stages together and one for each running stage."""

    def __init__(self, progress: Progress, title: str) -> None:
        self.progress = progress
        self.whole = progress.add_task(title, note="", total=None)
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, snapshot: "Snapshot") -> None:
        total = len(snapshot.done) + len(snapshot.running) + len(snapshot.waiting)
        self.progress.update(
            self.whole, completed=len(snapshot.done), total=total, note=f"{len(snapshot.done)}/{total}"
        )
        for stage, event in snapshot.running:
            if stage.id not in self.tasks:
                self.tasks[stage.id] = self.progress.add_task(f"  {_name(stage)}", note="", total=None)
            self.progress.update(
                self.tasks[stage.id], completed=event.get("done", 0), total=event.get("total"), note=_note(event)
            )
        running = {stage.id for stage, _ in snapshot.running}
        for ended_stage in self.tasks.keys() - running:
            self.progress.remove_task(self.tasks.pop(ended_stage))


class Lines:
    """A line when a stage starts or ends, and at times a line about the progress of the running stages."""

    def __init__(self, title: str) -> None:
        self.title, self.started, self.printed_at = title, time.monotonic(), time.monotonic()
        self.states: dict[str, str] = {}

    def __call__(self, snapshot: "Snapshot") -> None:
        total = len(snapshot.done) + len(snapshot.running) + len(snapshot.waiting)
        first = not self.states
        for stage in snapshot.done:
            if self._changed(stage, "done") and not first:
                self._print(f"{_name(stage)} done ({len(snapshot.done)}/{total})")
        for stage, _ in snapshot.running:
            if self._changed(stage, "running"):
                self._print(f"{_name(stage)} started")
        if first and snapshot.done:
            self._print(f"{len(snapshot.done)} of {total} stages are already complete")
        if snapshot.running and time.monotonic() - self.printed_at > LINE_SECONDS:
            self._print(
                "; ".join(
                    f"{_name(stage)} {_share(event)} {_note(event)}".rstrip() for stage, event in snapshot.running
                )
            )

    def _changed(self, stage: "Stage", state: str) -> bool:
        before, self.states[stage.id] = self.states.get(stage.id), state
        return before != state

    def _print(self, text: str) -> None:
        self.printed_at = time.monotonic()
        print(f"[{self.printed_at - self.started:5.0f} s] {self.title}: {text}", file=sys.stderr, flush=True)


def _name(stage: "Stage") -> str:
    return f"{stage.slug} {stage.compute}".rstrip()


def _share(event: dict[str, Any]) -> str:
    return f"{event['done']}/{event['total']}" if "total" in event else "starting"


def _note(event: dict[str, Any]) -> str:
    return f"loss {event['loss']:.3f}" if "loss" in event else str(event.get("doing", ""))

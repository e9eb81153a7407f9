"""Progress of a command in the terminal: a bar with an ETA per stage, a line per decision."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

COLUMNS = (
    TextColumn("[bold]{task.description:<18}"),
    BarColumn(bar_width=28),
    MofNCompleteColumn(),
    TextColumn("{task.fields[note]:<34}"),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)


class StageProgress:
    """Draw what happens; give its `listen` to an `EventLog`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(*COLUMNS, console=console)
        self._bar: TaskID | None = None
        self._preparation: TaskID | None = None
        self._outcomes: list[bool] = []

    def __enter__(self) -> StageProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def listen(self, event: dict[str, Any]) -> None:
        """Draw one event."""
        draw = getattr(self, f"_on_{event['kind']}", None)
        if draw is not None:
            draw(event)

    def _on_run_started(self, event: dict[str, Any]) -> None:
        word = "resumes" if event["resumed"] else "starts"
        self.console.print(f"run [bold]{event['run_id']}[/] {word}; watch it with: opentau tui {event['run_id']}")

    def _on_stage_started(self, event: dict[str, Any]) -> None:
        self._outcomes = []
        self._bar = self._progress.add_task(event["stage"], total=None, note="")

    def _on_stage_progress(self, event: dict[str, Any]) -> None:
        self._update(completed=event["done"], total=event["total"])

    def _on_train_metrics(self, event: dict[str, Any]) -> None:
        losses = [
            f"{name.split('/')[-1]} {value:.3f}" for name, value in event["metrics"].items() if "loss" in name or "flow" in name
        ]
        self._update(note=" ".join(losses)[:34])

    def _on_episode_finished(self, event: dict[str, Any]) -> None:
        self._outcomes.append(event["outcome"] == "success")
        self._update(note=f"{sum(self._outcomes)} of {len(self._outcomes)} succeeded")

    def _on_stage_finished(self, event: dict[str, Any]) -> None:
        if self._bar is not None:
            self._progress.remove_task(self._bar)
            self._bar = None
        words = "already there" if event["is_reused"] else f"{event['seconds']:.0f} s"
        summary = ", ".join(
            f"{key.split('/')[-1]} {_short(value)}" for key, value in event["summary"].items() if _is_short(value)
        )
        self.console.print(f"[green]✓[/] {event['stage']:<18} {words:<13} {summary}", highlight=False)

    def _on_verdict(self, event: dict[str, Any]) -> None:
        self.console.print(f"  {event['text']}", highlight=False)

    def _on_note(self, event: dict[str, Any]) -> None:
        if "percent" in event:
            self._draw_preparation(event["percent"], event["text"])
            return
        colour = {"warning": "yellow", "error": "red"}.get(event["level"], "dim")
        self.console.print(f"  [{colour}]{event['text']}[/]", highlight=False)

    def _on_station(self, event: dict[str, Any]) -> None:
        if event["state"] in ("lost", "replaced"):
            self.console.print(f"  [yellow]station {event['station']} {event['state']}[/] {event['text']}", highlight=False)

    def _draw_preparation(self, percent: int, text: str) -> None:
        if self._preparation is None:
            self._preparation = self._progress.add_task("preparing", total=100, note="")
        self._progress.update(self._preparation, completed=percent, note=text.split("%")[-1].strip()[:34])
        if percent >= 100:
            self._progress.remove_task(self._preparation)
            self._preparation = None

    def _update(self, **fields: Any) -> None:
        if self._bar is not None:
            self._progress.update(self._bar, **fields)


def _is_short(value: Any) -> bool:
    """Whether a fact fits into the line; ids, texts and tables have places of their own."""
    return isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 12)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""Progress in the terminal: a run's own events, drawn."""

from __future__ import annotations

import io

from rich.console import Console

from opentau.cli.progress import StageProgress
from tests.unit.report.synthetic_run import run_events


def printed_of(events: list[dict]) -> str:
    console = Console(file=io.StringIO(), width=160)
    with StageProgress(console) as progress:
        for event in events:
            progress.listen(event)
    return console.file.getvalue()


def test_every_stage_and_verdict_of_a_run_gets_its_line() -> None:
    events = list(run_events())
    printed = printed_of(events)
    for event in events:
        if event["kind"] == "stage_finished":
            assert f"✓ {event['stage']}" in printed
        if event["kind"] == "verdict":
            assert event["text"].split(".")[0][:60] in printed


def test_preparing_a_scene_is_a_bar_that_ends_and_no_line() -> None:
    notes = [
        {"kind": "note", "level": "info", "text": f"task 0: {percent} % building", "percent": percent}
        for percent in (0, 40, 100)
    ]
    notes.append({"kind": "note", "level": "warning", "text": "a warning stays"})
    printed = printed_of(notes)
    assert "a warning stays" in printed
    assert "100 %" not in printed

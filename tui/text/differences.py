"""What was configured otherwise: options from one start of the run to the next, inputs from one iteration to the next."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

from opentau.runfiles import StageFiles
from opentau.runstate import RunSummary, StageState
from tui.text.lines import Line, cut, wrapped

CONTENT_ID = re.compile(r"[0-9a-f]{64}")


def attempt_rows(summary: RunSummary, width: int) -> list[Line]:
    """Return every start of the run with the options that changed since the one before."""
    lines: list[Line] = []
    before: dict[str, str] | None = None
    for attempt in summary.attempts:
        stamp = time.strftime("%m-%d %H:%M:%S ", time.localtime(attempt.t))
        options = options_of(attempt.command)
        if before is None:
            lines += [[(stamp, "dim"), ("started", "")], *wrapped(attempt.command, width, "dim")]
        else:
            changes = [*_changes(before, options)]
            lines.append(
                [(stamp, "dim"), ("resumed, " + (f"{len(changes)} options changed" if changes else "same options"), "")]
            )
            lines += [cut([("  ", ""), *change], width) for change in changes]
        before = options
    for change in summary.changes:
        words = f"set {change.option} = {change.value}, from iteration {change.iteration} on"
        lines.append(cut([("~ ", "warning"), (words, "")], width))
    return lines or [[("not started yet", "dim")]]


def iteration_rows(summary: RunSummary, files: Mapping[str, StageFiles] | None, iteration: int, width: int) -> list[Line]:
    """Return how the inputs of an iteration's stages differ from those of the same work one iteration before."""
    if files is None:
        return [[("the run's files are on another machine; the events tell the starts above", "dim")]]
    lines: list[Line] = []
    for stage in summary.stages:
        if stage.iteration != iteration or stage.name not in files:
            continue
        earlier = _sibling(stage, iteration - 1, summary, files)
        if earlier is None:
            lines.append([(stage.name, "strong"), (" is the first of its kind", "dim")])
            continue
        changes = [*_changes(_flat(files[earlier].inputs), _flat(files[stage.name].inputs))]
        if not earlier.startswith(f"{stage.work}-"):  # of another kind of stage: what only one of them has says nothing
            changes = [change for change in changes if change[0][0].startswith("~")]
        options = [change for change in changes if not CONTENT_ID.search(change[-1][0])]
        made = len(changes) - len(options)
        told = "same options" if not options else f"{len(options)} options differ"
        lines.append(
            [(stage.name, "strong"), (f" against {earlier}: {told}", ""), (f", {made} inputs are new" if made else "", "dim")]
        )
        lines += [cut([("  ", ""), *change], width) for change in options]
    return [cut(line, width) for line in lines] or [[(f"iteration {iteration} has no finished stage yet", "dim")]]


def options_of(command: str) -> dict[str, str]:
    """Return the options of a command line by name, without what marks them as new or removed."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    pairs = (word.lstrip("+~").partition("=") for word in words if "=" in word)
    return {name: value for name, _, value in pairs}


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Line]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        sign, style = ("+", "good") if old is None else ("-", "bad") if new is None else ("~", "warning")
        words = f"{old} → {new}" if old is not None and new is not None else (new if old is None else old) or ""
        yield [(f"{sign} {name}: ", style), (words, "")]


def _sibling(stage: StageState, iteration: int, summary: RunSummary, files: Mapping[str, StageFiles]) -> str | None:
    name = f"{stage.work}-{iteration}"
    if name in files:
        return name
    return "sft-0" if stage.work == "update" and iteration == 0 and "sft-0" in files else None


def _flat(plain: Any, prefix: str = "") -> dict[str, str]:
    """Return nested inputs as {'train.batch_size': '32'}."""
    if not isinstance(plain, Mapping):
        return {prefix.rstrip("."): str(plain)}
    rows: dict[str, str] = {}
    for key, value in plain.items():
        rows |= _flat(value, f"{prefix}{key}.")
    return rows

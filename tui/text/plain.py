"""A run without a screen: its screens as plain text or as JSON, for pipes, CI, `--plain` and `--json`."""

from __future__ import annotations

import msgspec

from opentau.runfiles import RunFiles
from opentau.runstate import RunSummary
from tui.text.checkpoints import checkpoint_list, checkpoint_rows
from tui.text.differences import attempt_rows, iteration_rows
from tui.text.episodes import chosen_episodes, episode_rows
from tui.text.lines import Line, plain
from tui.text.log import log_rows
from tui.text.loop import header, stage_rows
from tui.text.operator import order_rows, prompt_rows
from tui.text.stations import station_rows
from tui.text.success import difference_rows, failure_rows, success_rows, task_rows, throughput_rows
from tui.text.training import curve_rows, loss_chart, machine_rows
from tui.text.value import calibration_rows, histogram_rows, measure_rows, share_rows

CHART_ROWS = 8
EPISODE_ROWS = 40


def render_plain(
    summary: RunSummary,
    *,
    now: float | None = None,
    width: int = 80,
    num_log_rows: int = 10,
    screen: str = "loop",
    files: RunFiles | None = None,
    level: str = "info",
    search: str = "",
) -> str:
    """Return a screen as plain text; `now` is the newest event's time by default, `num_log_rows` 0 gives the whole log."""
    now = summary.last_t if now is None else now
    blocks = [header(summary, now, width)]
    for title, rows in _blocks(summary, now, width, screen=screen, files=files, level=level, search=search):
        blocks.append([[(title, "")], *(rows[-num_log_rows:] if title == "LOG" else rows)])
    return "\n\n".join("\n".join(plain(line).rstrip() for line in block).rstrip() for block in blocks) + "\n"


def to_json(summary: RunSummary) -> str:
    """Return everything that the screens rest on, as one line of JSON."""
    return msgspec.json.encode(summary).decode()


def _blocks(
    summary: RunSummary, now: float, width: int, *, screen: str, files: RunFiles | None, level: str, search: str
) -> list[tuple[str, list[Line]]]:
    """Return the parts of a screen, each with its title."""
    if screen == "loop":
        return [
            ("STAGES", stage_rows(summary, now, width)),
            ("SUCCESS", success_rows(summary, now, width)),
            ("STATIONS", station_rows(summary, now, width)),
            ("LOG", log_rows(summary, now, width)),
        ]
    if screen == "success":
        return [
            ("SUCCESS", success_rows(summary, now, width)),
            ("CANDIDATE MINUS INCUMBENT", difference_rows(summary, now, width)),
            ("HOW EPISODES END", failure_rows(summary, now, width)),
            ("THROUGHPUT", throughput_rows(summary, now, width)),
            ("TASKS", task_rows(summary, now, width)),
        ]
    if screen == "value":
        return _value_blocks(summary, width, files)
    if screen == "training":
        return [
            ("LOSS", loss_chart(summary, now, width, stage=None, height=CHART_ROWS)),
            ("METRICS", curve_rows(summary, now, width)),
            ("RATES AND MACHINE", machine_rows(summary, now, width)),
        ]
    if screen == "checkpoints":
        stages = files.stages() if files is not None else None
        return [("POLICIES", checkpoint_rows(checkpoint_list(summary, stages), width))]
    if screen == "episodes":
        return [("EPISODES", episode_rows(chosen_episodes(summary)[:EPISODE_ROWS], summary.labels, width))]
    if screen == "differences":
        stages = files.stages() if files is not None else None
        return [
            ("STARTS OF THE RUN", attempt_rows(summary, width)),
            ("INPUTS", iteration_rows(summary, stages, summary.iteration or 0, width)),
        ]
    if screen == "operator":
        return [("SET UP AND JUDGE", prompt_rows(summary, now, width)), ("BLIND ORDER", order_rows(summary, now, width))]
    if screen == "stations":
        return [("STATIONS", station_rows(summary, now, width))]
    return [("LOG", log_rows(summary, now, width, level=level, search=search))]


def _value_blocks(summary: RunSummary, width: int, files: RunFiles | None) -> list[tuple[str, list[Line]]]:
    labelled = [stage.iteration for stage in summary.stages if stage.work == "label" and stage.seconds is not None]
    number = labelled[-1] if labelled else None
    facts = summary.labels_of(number) if number is not None else None
    if facts is None and number is not None and files is not None:
        facts = files.labels(number)
    return [
        ("ADVANTAGES", histogram_rows(facts, width, height=CHART_ROWS)),
        ("LABELS", share_rows(facts, width)),
        ("CRITIC", measure_rows(summary, number or 0, width)),
        ("CALIBRATION", calibration_rows(facts, width)),
    ]

"""The numbers on the screens are those of the events: each is counted again here, from the log alone."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from opentau import control, events
from opentau.intervals import paired_interval, wilson_interval
from opentau.labelfacts import LabelFacts, calibration_bins, histogram
from opentau.runfold import fold
from opentau.runstate import RunSummary
from opentau.types import Source
from tests.tui.states import InventedFiles, told_events
from tui.glyphs import in_ascii, is_plain_terminal
from tui.text.checkpoints import checkpoint_list
from tui.text.differences import attempt_rows, iteration_rows, options_of
from tui.text.episodes import chosen_episodes
from tui.text.lines import Line, columns, difference_bar, plain
from tui.text.log import chosen_lines
from tui.text.pictures import RAMP, picture_lines, picture_size, shrunk
from tui.text.plain import render_plain, to_json
from tui.text.stations import station_cells, station_rows
from tui.text.success import difference_rows, failure_rows, success_rows, task_rows, throughput_rows
from tui.text.training import machine_rows
from tui.text.value import calibration_rows, histogram_rows, measure_rows, share_rows, trace_rows

WIDTH = 120


@pytest.fixture(scope="module")
def run() -> list[dict[str, Any]]:
    return told_events()


@pytest.fixture(scope="module")
def summary(run: list[dict[str, Any]]) -> RunSummary:
    return fold(run)


def text(lines: list[Line]) -> str:
    return "\n".join(map(plain, lines))


def of_kind(run: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in run if event["kind"] == kind]


def row(lines: list[Line], start: str) -> list[str]:
    return next(plain(line) for line in lines if plain(line).startswith(start)).split()


def test_success_rates_and_their_intervals_are_those_of_the_evaluations(run, summary) -> None:
    shown = text(success_rows(summary, 0.0, WIDTH))
    for event in of_kind(run, events.EVALUATED):
        assert f"{100 * event['successes'] / event['episodes']:4.0f} %" in shown
        assert f"{event['successes']:>4}/{event['episodes']}" in shown
        assert event["interval"] == pytest.approx(wilson_interval(event["successes"], event["episodes"]), abs=0.01)


def test_differences_are_those_of_the_verdicts(run, summary) -> None:
    lines = difference_rows(summary, 0.0, WIDTH)
    for event in of_kind(run, events.VERDICT):
        difference, low, high = paired_interval(event["wins"], event["losses"], event["pairs"])
        shown = " ".join(row(lines, f"{event['iteration']} "))
        for value in (difference, low, high):
            assert f"{100 * value:+.0f}".replace("-", "−") in shown
        assert ("promoted" if event["promoted"] else "kept out") in shown


def test_outcomes_help_and_throughput_are_counted_from_the_episodes(run, summary) -> None:
    failures, throughput = failure_rows(summary, 0.0, WIDTH), throughput_rows(summary, summary.last_t, WIDTH)
    seconds = {event["stage"]: event["seconds"] for event in of_kind(run, events.STAGE_FINISHED)}
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for event in of_kind(run, events.EPISODE_FINISHED):
        by_stage.setdefault(event["stage"], []).append(event)
    assert len(by_stage) == 8
    for stage, episodes in by_stage.items():
        outcomes = Counter(event["outcome"] for event in episodes)
        helped, steps = (sum(event[name] for event in episodes) for name in ("num_intervention_steps", "num_steps"))
        assert row(failures, stage)[1:4] == [str(outcomes["success"]), str(outcomes["timeout"]), f"{100 * helped / steps:.0f}"]
        if stage != "demonstrations-0":  # reused: nobody played
            cells = row(throughput, stage)
            assert cells[1] == f"{3600 * outcomes['success'] / seconds[stage]:.0f}"
            assert cells[2] == f"{seconds[stage] / len(episodes):.1f}"
            assert cells[4] == f"{steps / seconds[stage]:.0f}"


def test_rates_of_tasks_are_those_of_the_stages_and_of_collected_episodes(run, summary) -> None:
    lines = task_rows(summary, 0.0, WIDTH)
    collected = [event for event in of_kind(run, events.EPISODE_FINISHED) if event["stage"] == "collect-2"]
    head = plain(lines[0]).split()
    for task in ("libero_object/0", "libero_object/3"):
        numbers = re.findall(r"\d+", " ".join(row(lines, task)[1:]))
        of_task = [event for event in collected if event["task_id"] == task]
        rate = 100 * sum(event["outcome"] == "success" for event in of_task) / len(of_task)
        assert numbers[head.index("c2") - 3] == f"{rate:.0f}"
        assert numbers[0] == ("45" if task.endswith("0") else "65")


def test_clamps_losses_and_refusals_of_stations_are_counted_from_the_events(run, summary) -> None:
    lines = station_rows(summary, summary.last_t, WIDTH)
    for name in ("station-0", "station-1", "station-2"):
        episodes = [event for event in of_kind(run, events.EPISODE_FINISHED) if event["station"] == name]
        lost = sum(event["station"] == name and event["state"] == "lost" for event in of_kind(run, events.STATION))
        cells = row(lines, name)
        wins = sum(event["outcome"] == "success" for event in episodes)
        clamps = sum(event["num_clipped_actions"] for event in episodes)
        assert [cells[3], cells[4], cells[5], cells[7]] == [str(len(episodes)), str(wins), str(lost), str(clamps)]
        station = next(station for station in summary.stations if station.name == name)
        assert station.num_refused == sum(event["num_refused_chunks"] for event in episodes)
        assert f"{wins}/{len(episodes)}" in text(station_cells(summary, summary.last_t, WIDTH))


def test_labels_are_those_of_the_event(run, summary) -> None:
    facts = LabelFacts.from_event(of_kind(run, events.LABELLED)[-1])
    assert summary.labelled[-1] == facts
    shares = share_rows(facts, WIDTH)
    for source in ("demonstration", "autonomous", "intervention"):
        assert row(shares, source)[1:3] == [str(sum(facts.counts[source])), f"{100 * facts.positive[source]:.0f}"]
    assert "libero_object/0 0.100" in text(histogram_rows(facts, WIDTH, height=6))
    assert len(facts.calibration) == 10
    for line, (predicted, realised, _) in zip(calibration_rows(facts, WIDTH), facts.calibration, strict=False):
        cells = plain(line).split()
        assert (cells[0], cells[-1]) == (f"{predicted:.2f}", f"{realised:.2f}")
    assert row(measure_rows(summary, 2, WIDTH), "spearman")[1] == "0.771"


def test_bins_hold_every_frame_once() -> None:
    rng = np.random.default_rng(3)
    columns_of = {"a": rng.normal(0, 1, 500), "b": rng.normal(2, 0.1, 300)}
    edges, counts = histogram(columns_of)
    assert {name: int(column.sum()) for name, column in counts.items()} == {"a": 500, "b": 300}
    assert len(edges) == len(counts["a"]) + 1
    bins = calibration_bins(columns_of["a"], columns_of["a"] + 1)
    assert sum(frames for *_, frames in bins) == 500
    assert all(realised - predicted == pytest.approx(1) for predicted, realised, _ in bins)


def test_the_table_of_policies_tells_ids_scores_and_which_one_stands(run, summary) -> None:
    rows = checkpoint_list(summary, InventedFiles().stages())
    assert [row.stage for row in rows] == ["sft-0", "update-1", "update-2"]
    scored = {event["iteration"]: event for event in of_kind(run, events.EVALUATED) if event["role"] == events.CANDIDATE}
    assert [row.score.successes for row in rows] == [scored[iteration]["successes"] for iteration in range(3)]
    assert [row.verdict.is_promoted if row.verdict else None for row in rows] == [None, True, False]
    assert [row.is_standing for row in rows] == [False, True, False]
    assert [row.is_standing for row in checkpoint_list(summary)] == [False, True, False]
    assert [row.num_bytes for row in rows] == [2_000_000, 7_000_000, 12_000_000]


def test_the_machine_is_told_as_the_trainings_report_it(summary) -> None:
    shown = text(machine_rows(summary, summary.last_t, WIDTH, stage="sft-0"))
    assert "updates/s           1.5" in shown
    assert "2.5 GB" in shown
    assert "5:10, 1.29 updates/s" in shown


def test_options_that_changed_between_starts_and_iterations_are_told(summary, run) -> None:
    again = {**run[0], "t": run[-1]["t"] + 60, "resumed": True, "command": "opentau loop env=libero/object +task_id=3 seed=1"}
    change = {"verb": control.SET, "args": {"option": "collect.episodes", "value": 80}, "state": "done", "text": ""}
    told = {"t": again["t"] + 1, "process": "loop", "kind": events.COMMAND, **change, "iteration": 3}
    shown = text(attempt_rows(fold([*run, again, told]), WIDTH))
    assert "~ task_id: 0 → 3" in shown
    assert "+ seed: 1" in shown
    assert "collect.episodes = 80, from iteration 3 on" in shown
    assert options_of("opentau loop +a.b=1 'c=[1, 2]' --x") == {"a.b": "1", "c": "[1, 2]"}
    inputs = text(iteration_rows(summary, InventedFiles().stages(), 2, WIDTH))
    assert "update-2 against update-1: 1 options differ" in inputs
    assert "~ train.learning_rate: 0.0004 → 0.0002" in inputs
    assert "another machine" in text(iteration_rows(summary, None, 2, WIDTH))


def test_episodes_and_log_lines_are_chosen_as_asked(run, summary) -> None:
    recorded = chosen_episodes(summary)
    assert {episode.stage for episode in recorded} == {"demonstrations-0", "collect-1", "collect-2"}
    assert len(recorded) == 60 + 48 + 48
    assert all(episode.num_intervention_steps for episode in chosen_episodes(summary, "helped"))
    assert len(chosen_episodes(summary, "all")) == len(of_kind(run, events.EPISODE_FINISHED))
    assert [entry.text for entry in chosen_lines(summary, level="warning")] == ["station station-1 lost: no heartbeat for 10 s"]
    assert all("GATE" in entry.text.upper() for entry in chosen_lines(summary, search="gate of"))


def test_a_trace_marks_the_steps_in_which_somebody_intervened() -> None:
    film = InventedFiles().film("collect-1", "collect-1/000003", num_pictures=0)
    lines = trace_rows(film, 127, height=4)
    marks = plain(lines[-1])[6:]
    assert [mark == "▲" for mark in marks] == (film.source == Source.INTERVENTION).tolist()
    assert "after 120 steps" in plain(lines[0])


@pytest.mark.parametrize(
    "screen", ["loop", "success", "value", "stations", "training", "checkpoints", "episodes", "operator", "log", "differences"]
)
@pytest.mark.parametrize("width", [60, 80, 160])
def test_every_screen_can_be_printed_in_any_width_and_in_ascii(summary, screen: str, width: int) -> None:
    for one in (summary, fold([]), fold(told_events(until="collect-1"))):
        shown = render_plain(one, screen=screen, width=width, files=InventedFiles())
        assert max(map(len, shown.splitlines())) <= width
        ascii_text = in_ascii(shown)
        assert ascii_text.isascii()
        assert len(ascii_text) == len(shown)
        assert "?" not in ascii_text, "every character that is drawn has a likeness"


def test_json_holds_what_the_screens_rest_on(summary) -> None:
    told = to_json(summary)
    assert '"num_episodes":48' in told
    assert '"calibration":' in told


def test_a_difference_is_drawn_to_scale_with_zero_marked() -> None:
    shown = plain(difference_bar(0.2, (0.1, 0.3), 41, reach=0.4))
    assert shown.index("●") == 30
    assert shown[20] == "│"
    assert plain(difference_bar(0.0, (-0.2, 0.2), 41, reach=0.4))[20] == "●"


def test_columns_are_as_high_as_their_values() -> None:
    rows = columns([0, 1, 2, 4], 2)
    assert rows == ["   █", " ▄██"]
    assert columns([float("nan"), 1.0], 1) == [" █"]


def test_pictures_keep_their_shape_and_brightness() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 30:] = 255
    assert picture_size(pixels, columns=30, rows=20) == (30, 10)
    lines = picture_lines(pixels, columns=30, rows=20)
    assert len(lines) == 10
    assert lines[0][0] == ("▀", "#000000 on #000000")
    assert lines[0][-1] == ("▀", "#ffffff on #ffffff")
    assert plain(picture_lines(pixels, columns=30, rows=20, is_ascii=True)[0]) == RAMP[0] * 15 + RAMP[-1] * 15
    assert shrunk(pixels, height=80, width=120).shape == (80, 120, 3)
    assert shrunk(np.full((7, 5, 3), 9, np.uint8), height=3, width=2).tolist() == [[[9] * 3] * 2] * 3


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "vt100", "LANG": "en_US.UTF-8"}, True),
        ({"TERM": "xterm-256color", "LANG": "C"}, True),
        ({"TERM": "xterm-256color", "LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, True),
        ({"TERM": "xterm-256color", "LANG": "de_DE.utf8"}, False),
        ({"TERM": "tmux-256color"}, False),
    ],
)
def test_a_terminal_without_unicode_is_known_by_its_name_or_locale(environ: dict[str, str], expected: bool) -> None:
    assert is_plain_terminal(environ) is expected

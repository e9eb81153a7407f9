"""The screen as plain text, for pipes and CI, and the pieces it is made of."""

from __future__ import annotations

import pytest

from opentau.runfold import fold
from tests.unit.report.synthetic_run import command_event, run_events
from tui.text.lines import about_text, bar, clock, cut, interval_bar, plain, sparkline, spread
from tui.text.plain import render_plain


def test_the_plain_screen_holds_every_part_of_a_run() -> None:
    text = render_plain(fold(run_events()))
    for part in ("STAGES", "SUCCESS", "STATIONS", "LOG", "✓ finished", "official end", " 72 %  36/50", "57.0 CPU-min"):
        assert part in text
    assert "better, promoted · 14 won, 2 lost of 40" in text
    assert "undecided, kept out · 17 won, 11 lost of 100" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_run_without_promotion_says_so() -> None:
    assert "no candidate was promoted · official states 46 % → 46 %" in render_plain(fold(run_events(is_promoted=False)))


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("until", ["demonstrations-0", "sft-0", "gate-1", "final-0", "final-2", ""])
def test_no_line_is_wider_than_asked_for(until: str, width: int) -> None:
    assert max(map(len, render_plain(fold(run_events(until=until)), width=width).splitlines())) <= width


def test_an_empty_run_is_waiting() -> None:
    text = render_plain(fold([]))
    assert "○ waiting" in text
    assert "no evaluation yet" in text


def test_a_quiet_run_is_suspected_dead_only_while_it_should_be_talking() -> None:
    run = run_events(until="sft-0")
    t = run[-1]["t"]
    assert "no news for 2 min 00 s" in render_plain(fold(run), now=t + 120)
    paused = [*run, command_event(t, "pause", "done")]
    assert "no news" not in render_plain(fold(paused), now=t + 120)


def test_the_interval_bar_marks_rate_and_ends_to_scale() -> None:
    assert plain(interval_bar(0.5, (0.3, 0.8), 11)) == "···├─●──┤··"
    assert plain(interval_bar(0.0, (0.0, 0.2), 11)) == "●─┤········"
    assert plain(interval_bar(1.0, (0.8, 1.0), 11)) == "········├─●"


def test_pieces_fit_their_width() -> None:
    assert plain(bar(0.5, 10)) == "━━━━━╌╌╌╌╌"
    assert plain(bar(7.0, 4)) == "━━━━"
    assert plain(cut([("demonstrations", ""), ("-0", "dim")], 8)) == "demonst…"
    assert plain(spread([("left side", "")], [("right", "")], 12)) == "left … right"
    assert sparkline([0, float("nan"), 7, 3.5]) == "▁ █▅"
    assert (clock(65), clock(3725)) == ("1:05", "1:02:05")
    assert (about_text(42), about_text(100), about_text(3700)) == ("42 s", "2 min", "1 h 02 min")

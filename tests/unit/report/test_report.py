"""The report page: self-contained, complete, plain about what is missing, and drawn to scale."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from opentau.intervals import paired_interval
from opentau.loop import report_charts as charts
from opentau.loop.report import conclusion, write_report
from opentau.loop.report_charts import BOTTOM, LEFT, RIGHT, TOP, Mark, Series
from opentau.loop.report_data import ReportData
from opentau.loop.report_images import NUM_FRAMES, frame_indices, runs_of
from opentau.runfold import fold
from tests.unit.report.synthetic_report import report_data
from tests.unit.report.synthetic_run import run_events

SECTIONS = (
    "success",
    "gate",
    "interventions",
    "advantages",
    "critic",
    "training",
    "conditioning",
    "time",
    "episodes",
    "configuration",
)
VOID_TAGS = ("meta", "img", "br", "link", "input")


class TagBalance(HTMLParser):
    """Fails on a tag that closes another than the innermost open one; collects addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def svgs(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("</style>")[1]))


def test_the_page_is_well_formed_and_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = write_report(tmp_path, report_data()).read_text()
    tags = TagBalance()
    tags.feed(page)
    assert tags.open == []
    assert tags.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in tags.addresses)
    assert "<script" not in page
    assert not re.search(r"url\(|@import|https?:", page)
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_a_finished_run_shows_every_part(tmp_path: Path) -> None:
    page = write_report(tmp_path, report_data()).read_text()
    words = text_of(page)
    assert [f'<section id="{name}">' in page for name in SECTIONS] == [True] * len(SECTIONS)
    assert len(svgs(page)) == 2 + 1 + 2 + 2 + 3 + 3 + 1
    assert "has been" not in words.replace("has been promoted", "")
    for fact in (
        "46 %",
        "72 %",
        "23 of 50 · 33 to 60 %",
        "official-9f31c2",
        "would need about 420 pairs",
        "57.0",
        "env.image_size",
    ):
        assert fact in words


def test_a_run_without_promotion_says_so_plainly(tmp_path: Path) -> None:
    words = text_of(write_report(tmp_path, report_data(is_promoted=False)).read_text())
    assert "No candidate was promoted: the final policy is that of iteration 0." in words
    assert "iteration 0, also the final policy" in words


def test_promotions_and_refusals_are_told_in_order() -> None:
    assert conclusion(fold(run_events())) == [
        "The candidate of iteration 1 was promoted and stands at the end.",
        "Iteration 2 was not: undecided.",
    ]


def test_stages_that_have_not_run_are_left_out_with_a_plain_line(tmp_path: Path) -> None:
    words = text_of(write_report(tmp_path, ReportData(run=fold(run_events(until="sft-0")))).read_text())
    assert "The run is running, not finished: this page shows what there is so far." in words
    for line in (
        "No policy has been evaluated yet.",
        "No gate has been held yet.",
        "No episodes have been collected yet.",
        "No advantages have been labelled yet.",
        "No value function has been fitted yet.",
        "No policy has been updated yet.",
        "No episode has been recorded yet.",
        "The official states have not been scored yet.",
    ):
        assert line in words


def test_a_run_that_has_not_begun_still_gets_a_page(tmp_path: Path) -> None:
    assert "Nothing has been trained yet." in text_of(write_report(tmp_path, ReportData(run=fold([]))).read_text())


def test_what_a_run_says_cannot_break_the_page(tmp_path: Path) -> None:
    run = run_events()
    run[0]["command"] = "opentau loop note='<script>alert(1)</script>'"
    for event in run:
        if event["kind"] == "evaluated":
            event["policy"] = "<b>x</b>"
    page = write_report(tmp_path, ReportData(run=fold(run))).read_text()
    assert "<script" not in page
    assert "<b>x" not in page
    svgs(page)


def test_every_drawn_number_lies_inside_the_drawing_area() -> None:
    marks = [
        Mark(group="a", series=0, value=0.2, low=0.0, high=1.0),
        Mark(group="b", series=1, value=-3.0),
        Mark(group="b", series=2, value=2.0),
    ]
    lines = [Series(name="x", points=[(0, float("nan")), (5, 3.0), (10, 400.0)], series=5)]
    drawn = [
        charts.interval_chart(marks, label="x", low=-1, high=1),
        charts.bar_chart(marks, label="x"),
        charts.histogram_chart({0: [3, 0, 5], 1: [1, 2, 0]}, [-1.0, 0.0, 1.0, 2.0], [0.3, 9.0], label="x"),
        charts.calibration_chart([(-0.2, -0.4, 10), (-0.9, -1.0, 3)], label="x"),
        charts.line_chart(lines, label="x", x_label="update"),
    ]
    for chart in drawn:
        root = ElementTree.fromstring(chart)
        horizontal = [float(value) for node in root.iter() for name in ("x1", "x2", "cx") if (value := node.get(name))]
        vertical = [float(value) for node in root.iter() for name in ("y1", "y2", "cy") if (value := node.get(name))]
        assert all(LEFT <= x <= RIGHT for x in horizontal)
        assert all(TOP <= y <= BOTTOM for y in vertical)


def test_bars_are_drawn_to_scale() -> None:
    root = ElementTree.fromstring(
        charts.bar_chart([Mark(group=str(v), series=1, value=v) for v in (5.0, 10.0, 20.0)], label="x")
    )
    heights = [float(node.get("height", "0")) for node in root.iter("rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.3)
    assert heights[2] == pytest.approx(4 * heights[0], abs=0.3)


def test_a_histogram_draws_every_frame_once(tmp_path: Path) -> None:
    data = report_data()
    page = write_report(tmp_path, ReportData(run=data.run, advantages=data.advantages[:1])).read_text()
    section = page.split('id="advantages"')[1].split("</section>")[0]
    assert sum(int(n) for n in re.findall(r"<title>(\d+) frames", section)) == 4000 + 6000 + 500


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-1, 0, [-1, -0.8, -0.6, -0.4, -0.2, 0])]
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_the_paired_interval_is_symmetric_and_covers_the_truth_of_simulated_gates() -> None:
    assert paired_interval(7, 7, 40)[0] == 0
    wins, losses = paired_interval(9, 3, 40), paired_interval(3, 9, 40)
    assert wins == pytest.approx((-losses[0], -losses[2], -losses[1]))
    rng = np.random.default_rng(0)
    counts = rng.multinomial(60, [0.25, 0.10, 0.65], size=2000)
    covered = [low <= 0.15 <= high for _, low, high in (paired_interval(int(won), int(lost), 60) for won, lost, _ in counts)]
    assert 0.93 <= np.mean(covered) <= 0.98


def test_a_filmstrip_shows_first_and_last_frame_and_who_acted() -> None:
    assert frame_indices(280)[0] == 0
    assert frame_indices(280)[-1] == 279
    assert len(frame_indices(280)) == NUM_FRAMES
    assert frame_indices(3) == [0, 1, 2]
    assert runs_of(np.array([1, 1, 2, 1])) == [(1, 0.5), (2, 0.25), (1, 0.25)]

"""The page of a study: its first sentence follows the numbers, and it says what is missing."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from opentau.errors import DataError
from opentau.study.curves import mean_curve
from opentau.study.page import PageFacts, write_page
from opentau.study.plan import StudyPlan
from opentau.study.rows import Row
from tests.unit.study.invented_rows import row, share

SEEDS = (1, 2, 3)
PLAN = StudyPlan(
    name="attribution",
    question="Does the label rule earn the gain?",
    hypotheses=("RECAP beats resft.", "Random labels lose nothing."),
    primary="Success of the final policies, recap minus resft.",
    comparisons=(("recap", "resft"),),
    base=("env=tabletop", "iterations=1"),
    variants={"recap": (), "resft": ("improve=resft",)},
    tasks=((0,),),
    seeds=SEEDS,
)
FACTS = PageFacts(env="tabletop", planned_cpu_s=7200.0, spent_cpu_s=5400.0, machine={"processor": "2 cores", "python": "3.11"})


def rows_with(*, recap: tuple[int, ...], resft: tuple[int, ...]) -> list[Row]:
    """Return rows with these successes of 40 at the end, after 10 of 40."""
    finals = {"recap": recap, "resft": resft}
    return [
        row(variant, seed=seed, first=share(10, episodes=40), final=share(final, episodes=40))
        for variant, counts in finals.items()
        for seed, final in zip(SEEDS, counts, strict=False)
    ]


def page(directory: Path, rows: list[Row], *, study: StudyPlan = PLAN, facts: PageFacts = FACTS) -> str:
    return write_page(directory, study=study, rows=rows, facts=facts).read_text()


def first_sentence(text: str) -> str:
    return text.split("\n\n")[1]


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_first_sentence_flips_with_the_numbers(tmp_path: Path) -> None:
    better, worse = rows_with(recap=(30, 31, 32), resft=(20, 20, 20)), rows_with(recap=(20, 20, 20), resft=(30, 31, 32))
    # Differences 25, 27.5 and 30 points: mean 27.5, t interval ± 4.303 * 2.5 / sqrt(3) = 6.2.
    assert first_sentence(page(tmp_path, better)) == (
        "**`recap` beats `resft` by 27.5 points (95 % t interval 21.3 to 33.7, 3 cells).**"
    )
    assert first_sentence(page(tmp_path, worse)) == (
        "**`recap` does not beat `resft` and is worse: −27.5 points (95 % t interval −33.7 to −21.3, 3 cells).**"
    )


def test_a_gain_that_only_these_cells_show_is_not_called_a_win(tmp_path: Path) -> None:
    sentence = first_sentence(page(tmp_path, rows_with(recap=(39, 22, 22), resft=(20, 20, 20))))
    assert sentence.startswith("**`recap` does not beat `resft`: +19.2 points (95 % t interval −")
    assert "on these cells alone it does (95 % bootstrap interval " in sentence


def test_no_difference_is_not_called_worse(tmp_path: Path) -> None:
    sentence = first_sentence(page(tmp_path, rows_with(recap=(20, 21, 19), resft=(20, 20, 20))))
    assert sentence.startswith("**`recap` does not beat `resft`: 0.0 points")


def test_one_cell_is_judged_by_its_episodes(tmp_path: Path) -> None:
    sentence = first_sentence(page(tmp_path, rows_with(recap=(36,), resft=(12,))))
    assert sentence.startswith("**`recap` beats `resft` by 60.0 points (95 % bootstrap interval ")
    assert sentence.endswith(", 1 cell).**")


def test_a_study_without_comparisons_judges_the_gain_of_its_first_variant(tmp_path: Path) -> None:
    study = dataclasses.replace(PLAN, comparisons=())
    sentence = first_sentence(page(tmp_path, rows_with(recap=(30, 31, 32), resft=(20, 20, 20)), study=study))
    assert sentence.startswith("**`recap` beats its iteration 0 by 52.5 points")


def test_an_unfinished_study_says_what_is_missing(tmp_path: Path) -> None:
    missing = dataclasses.replace(FACTS, missing=(("resft", 0, 3), ("resft", 0, 2)))
    text = page(tmp_path, rows_with(recap=(30, 31, 32), resft=(20,)), facts=missing)
    assert first_sentence(text).startswith("**Not finished: 2 of 6 rows are missing.**")
    assert "beats" not in first_sentence(text)
    assert "| `resft` | 0    | 2, 3  |" in section(text, "Missing rows")


def test_a_study_without_any_row_still_has_a_page(tmp_path: Path) -> None:
    missing = dataclasses.replace(FACTS, missing=tuple((variant, 0, seed) for variant in PLAN.variants for seed in SEEDS))
    text = page(tmp_path, [], facts=missing)
    assert first_sentence(text) == "**Not finished: 6 of 6 rows are missing.** No cell has `recap` and `resft` yet."
    assert not (tmp_path / "curves.svg").exists()


def test_the_page_states_the_plan_and_how_to_repeat_it(tmp_path: Path) -> None:
    text = page(tmp_path, rows_with(recap=(30, 31, 32), resft=(20, 20, 20)))
    for line in (
        PLAN.question,
        "1. RECAP beats resft.",
        PLAN.primary,
        "- `resft`: `improve=resft`",
        "opentau study attribution",
        "2.00 planned, 1.50 spent",
        "- processor: 2 cores",
        "`spec`",
    ):
        assert line in text
    assert str(tmp_path) not in text


def test_the_tables_hold_the_numbers_of_the_rows(tmp_path: Path) -> None:
    text = page(tmp_path, rows_with(recap=(30, 31, 32), resft=(20, 20, 9)))
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section(text, "Runs").splitlines() if "`" in line
    ]
    assert cells[0] == ["`recap`", "0", "1", "10/40", "14.2 to 40.2", "30/40", "59.8 to 85.8", "+50.0"]
    assert cells[-1][-1] == "−2.5"
    gains = [line for line in section(text, "Gains").splitlines() if "`resft`" in line]
    assert gains[0].strip("| ").endswith("| 1")  # one of its cells is negative
    # All six steps are equal: the ratio of 31/40 over 10/40 successes at 40 and 100 steps, by hand.
    hours_final, hours_first = 31 * 40 + 9 * 100, 10 * 40 + 30 * 100
    assert f"{31 / hours_final / (10 / hours_first):.2f}" in section(text, "Throughput")


def test_the_page_says_how_many_episodes_a_point_of_gain_took(tmp_path: Path) -> None:
    played = {"collect-1 episodes": 30.0, "collect-2 episodes": 30.0, "final-2 episodes": 1000.0}
    steps = {"collect-1 steps": 900.0, "collect-2 steps": 1100.0, "collect-1 intervention_steps": 50.0}
    rows = [
        dataclasses.replace(each, facts={**each.facts, **played, **steps} if each.variant == "recap" else each.facts)
        for each in rows_with(recap=(30, 30, 30), resft=(20, 20, 20))
    ]
    lines = [line for line in section(page(tmp_path, rows), "Episodes").splitlines() if "`" in line]
    (cells,) = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[:4] == ["`recap`", "60", "2.5", "+50.0"]
    assert cells[5] == "1.2"
    low, high = map(float, cells[6].split(" to "))
    assert low < 1.2 < high
    for final, ends in ((11, "no upper limit"), (9, "—")):
        others = [dataclasses.replace(each, scores={**each.scores, "final": share(final, episodes=40)}) for each in rows]
        assert ends in section(page(tmp_path, others), "Episodes").splitlines()[-1].split("|")[-2]


def test_zero_successes_of_iteration_0_are_explained(tmp_path: Path) -> None:
    rows = [row("recap", seed=seed, first=share(0), final=share(5)) for seed in SEEDS]
    text = page(tmp_path, rows)
    assert "the baseline solved none of its 30 episodes" in section(text, "Throughput")
    assert "no episode is solved by both" in section(text, "Steps to success")


def test_other_indicators_are_compared_with_the_final_policy(tmp_path: Path) -> None:
    rows = rows_with(recap=(30, 31, 32), resft=(20, 20, 20))
    assert "## Indicators" not in page(tmp_path, rows)
    served = share(20, episodes=40)
    more = [dataclasses.replace(item, scores={**item.scores, "final-negative": served}) for item in rows[:3]]
    lines = [
        line for line in section(page(tmp_path, [*more, *rows[3:]]), "Indicators").splitlines() if "final-negative" in line
    ]
    assert len(lines) == 1
    assert "+27.5" in lines[0]


def test_equal_rows_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    rows = rows_with(recap=(30, 31, 32), resft=(20, 20, 20))
    for name, given in (("a", rows), ("b", rows[::-1])):
        (tmp_path / name).mkdir()
        page(tmp_path / name, given)
    for file in ("page.md", "curves.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_curves_have_a_panel_a_name_and_a_line_a_variant(tmp_path: Path) -> None:
    rows = rows_with(recap=(30, 31, 32), resft=(20, 20, 20))
    rows[0] = dataclasses.replace(rows[0], curves={**rows[0].curves, "sft-0 train/<gap>": ((0.0, 0.1), (50.0, 0.2))})
    page(tmp_path, rows)
    svg = ElementTree.parse(tmp_path / "curves.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    titles = [text.text for text in svg.iter(f"{space}text") if text.get("class") == "title"]
    assert titles == ["sft-0 train/<gap>", "update-1 train/held_out_loss"]
    lines = [title.text for title in svg.iter(f"{space}title")]
    assert lines == ["recap, mean of 1", "recap, mean of 3", "resft, mean of 3"]


def test_a_mean_curve_ends_where_the_shortest_one_does() -> None:
    assert mean_curve([((0.0, 1.0), (10.0, 3.0), (20.0, 9.0)), ((0.0, 2.0), (10.0, 5.0))]) == [(0.0, 1.5), (10.0, 4.0)]


def test_rows_of_another_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="awr"):
        page(tmp_path, [row("awr", seed=1, first=share(1), final=share(2))])


def test_the_page_does_not_load_torch() -> None:
    code = "import sys, opentau.study.page; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"

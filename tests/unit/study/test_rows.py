"""Raw rows of a study on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentau.errors import OptionError
from opentau.study.rows import read_rows, row_from, write_rows
from tests.unit.study.invented_rows import row, score, share


def test_rows_come_back_as_they_were_written_in_the_order_of_their_names(tmp_path: Path) -> None:
    plain = row("resft", seed=1, first=share(3), final=share(5))
    rich = row("recap", seed=2, task=4, first=share(3), final=score([1, 0, 1]), final_negative=share(1, eval_spec="other"))
    early = row("recap", seed=1, task=4, first=share(0), final=share(10))
    write_rows(tmp_path / "rows.json", [plain, rich, early])
    assert read_rows(tmp_path / "rows.json") == [early, rich, plain]


def test_equal_rows_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    rows = [row(variant, seed=seed, first=share(3), final=share(5)) for variant in ("resft", "recap") for seed in (2, 1)]
    write_rows(tmp_path / "a.json", rows)
    write_rows(tmp_path / "b.json", rows[::-1])
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_an_unknown_column_of_a_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="sede"):
        row_from({"variant": "recap", "task": 0, "sede": 1, "run": "r", "scores": {}, "cpu_seconds": 1.0})

"""Every screen in every state, size and theme looks as recorded; `python -m tests.tui.snapshots` records anew."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from tests.tui.snapshots import CELLS, FOLDER, SIZES, THEMES, Cell, drawn, in_place_and_time
from tests.tui.states import STATES
from tui.actions import VIEWS


def test_eighty_cells_cover_every_pair_of_screen_state_size_and_theme() -> None:
    assert len(CELLS) <= 80
    axes = {"view": tuple(VIEWS), "state": STATES, "size": SIZES, "theme": THEMES}
    for (one, firsts), (other, seconds) in combinations(axes.items(), 2):
        assert {(getattr(cell, one), getattr(cell, other)) for cell in CELLS} == set(product(firsts, seconds)), (one, other)


def test_there_is_a_file_for_every_cell_and_for_nothing_else() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {cell.name for cell in CELLS}


@pytest.mark.tui
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_a_screen_looks_as_recorded(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    in_place_and_time()
    monkeypatch.delenv("NO_COLOR", raising=False)
    if cell.theme == "no-colour":
        monkeypatch.setenv("NO_COLOR", "1")
    text = drawn(cell)
    assert text == (FOLDER / f"{cell.name}.txt").read_text(encoding="utf-8")
    rows = text.splitlines()[:-1]
    assert len(rows) == cell.size[1]
    assert max(map(len, rows)) <= cell.size[0]
    colours = text.splitlines()[-1].removeprefix("-- colours: ").split()
    if cell.theme == "no-colour":
        assert all(colour == colour[:2] * 3 for colour in colours)

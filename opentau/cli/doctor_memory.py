"""`opentau doctor --memory`: what a training will need of memory, and what makes it fit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from opentau.cli.compose import compose_config
from opentau.loop.memory import GB, Change, machine_bytes, single_changes, training_need, what_fits
from opentau.loop.options import LoopOptions
from opentau.loop.setting import describe_tasks
from opentau.training.memory import MemoryNeed
from opentau.types import Interface

WORDS = {
    "trained": "weights that are trained",
    "frozen": "weights that stay",
    "optimizer": "the optimiser's two numbers a weight",
    "averages": "averaged weights",
    "passes": "gradients and activations, at most",
    "loading": "loading and saving, at other times",
}


def show_memory(overrides: Sequence[str], *, stage: str, limit_gb: float | None, num_processes: int, as_json: bool) -> int:
    """Print a prediction for a training with these options; return 1 when it does not fit."""
    options = _options(overrides)
    main = Interface.from_dict(describe_tasks(options, on_line=lambda line: None)[0].interface)

    def need_with(further: Sequence[str]) -> MemoryNeed:
        return training_need(_options([*overrides, *further]), main, stage=stage, num_processes=num_processes)

    console = Console(stderr=True)
    limit = int((limit_gb or options.training.memory_gb or machine_bytes() / GB) * GB)
    with console.status("counting a pass of the policy, then what changes would save"):
        need = need_with([])
        fits = need.total <= limit
        singles, fitting = (
            ([], None) if fits else what_fits(single_changes(options, stage=stage), limit=limit, need_with=need_with)
        )
    if as_json:
        print(json.dumps(_plain(need, limit=limit, singles=singles, fitting=fitting)))
    else:
        _print(need, limit=limit, singles=singles, fitting=fitting, stage=stage)
    return 0 if fits else 1


def _options(overrides: Sequence[str]) -> LoopOptions:
    return LoopOptions.from_config(compose_config("loop", list(overrides)))


def _plain(need: MemoryNeed, *, limit: int, singles: Sequence[Change], fitting: Change | None) -> dict[str, object]:
    return {
        "total_gb": need.total / GB,
        "limit_gb": limit / GB,
        "fits": need.total <= limit,
        "parts_gb": {name: value / GB for name, value in dataclasses.asdict(need).items()},
        "changes": [{"options": list(each.options), "total_gb": each.need.total / GB} for each in singles],
        "fits_with": None if fitting is None else {"options": list(fitting.options), "total_gb": fitting.need.total / GB},
    }


def _print(need: MemoryNeed, *, limit: int, singles: Sequence[Change], fitting: Change | None, stage: str) -> None:
    console = Console()
    table = Table("memory of a process", "GB")
    table.columns[1].justify = "right"
    for name, words in WORDS.items():
        table.add_row(words, f"{getattr(need, name) / GB:.2f}")
    table.add_section()
    table.add_row(f"needed by {stage}, predicted to a fifth", f"{need.total / GB:.2f}")
    table.add_row("limit", f"{limit / GB:.2f}")
    console.print(table)
    if need.total <= limit:
        console.print("It fits.")
        return
    changes = Table("one change alone", "GB", "saves", "fits")
    for each in singles:
        saved = need.total - each.need.total
        changes.add_row(
            each.options[0], f"{each.need.total / GB:.2f}", f"{saved / GB:.2f}", "yes" if each.need.total <= limit else ""
        )
    console.print(changes, highlight=False, markup=False)
    if fitting is None:
        console.print("All of them together do not make it fit: use fewer cameras, a smaller policy, or more memory.")
        return
    console.print(
        f"It fits in {fitting.need.total / GB:.2f} GB with: {' '.join(fitting.options)}", highlight=False, markup=False
    )

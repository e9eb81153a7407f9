"""What people decided about a run: written once, numbered by the iteration from which it holds, and never rewritten."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from opentau.checkpoint import write_json
from opentau.control import LABEL, PIN, PROMOTE, ROLLBACK, SET, UNKNOWN, UNPIN

DECISIONS_FILE = "decisions.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One command that changes the course of a run, or what is kept of it."""

    verb: str
    args: Mapping[str, Any]
    """As carried out: a label names its episode and the recording that it lies in, a pin the directory of its stage."""
    iteration: int
    """The first one in which it holds, so that a resumed run finds what it had."""
    command_id: str
    operator: str = ""


@dataclass(slots=True)
class Decisions:
    """All decisions of a run, oldest first; a file beside its stages."""

    run_dir: Path
    _known: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        path = self.run_dir / DECISIONS_FILE
        if path.is_file():
            self._known = [Decision(**plain) for plain in json.loads(path.read_text())]

    def add(self, decision: Decision) -> None:
        """Write a decision down; one of the same command is there already and stays as it was."""
        if all(known.command_id != decision.command_id for known in self._known):
            self._known.append(decision)
            write_json(self.run_dir / DECISIONS_FILE, [asdict(known) for known in self._known])

    def options(self, iteration: int) -> dict[str, Any]:
        """Return the options that people changed, as they hold in an iteration."""
        return {each.args["option"]: each.args["value"] for each in self._of(SET) if each.iteration <= iteration}

    def outcomes(self, iteration: int) -> dict[str, dict[str, str]]:
        """Return what people said of episodes until the learning of an iteration: {stage directory: {episode id: outcome}}."""
        said: dict[str, dict[str, str]] = {}
        for each in self._of(LABEL):
            if each.iteration <= iteration:
                of_stage = said.setdefault(each.args["directory"], {})
                of_stage[each.args["episode_id"]] = each.args["outcome"]
        kept = {stage: {e: o for e, o in episodes.items() if o != UNKNOWN} for stage, episodes in said.items()}
        return {stage: episodes for stage, episodes in kept.items() if episodes}

    def of_gate(self, iteration: int) -> bool | None:
        """Return whether people promote the candidate of an iteration with its verdict; None where nobody spoke in time."""
        spoken = [each for each in self._of(PROMOTE, ROLLBACK) if each.iteration == each.args["iteration"] == iteration]
        if spoken:
            return spoken[-1].verb == PROMOTE
        before = self.run_dir / "overrides" / f"gate-{iteration}.json"  # where runs of earlier versions keep it
        return bool(json.loads(before.read_text())["promote"]) if before.is_file() else None

    def after_gates(self, iteration: int) -> list[tuple[bool, int]]:
        """Return what people decided of earlier gates that holds from this iteration on: (promote, whose candidate)."""
        later = [each for each in self._of(PROMOTE, ROLLBACK) if each.iteration == iteration > each.args["iteration"]]
        return [(each.verb == PROMOTE, each.args["iteration"]) for each in later]

    def pinned(self) -> dict[str, str]:
        """Return the pinned stages and their directories."""
        pins: dict[str, str] = {}
        for each in self._of(PIN, UNPIN):
            pins.pop(each.args["stage"], None)
            if each.verb == PIN:
                pins[each.args["stage"]] = each.args["directory"]
        return pins

    def _of(self, *verbs: str) -> list[Decision]:
        return [each for each in self._known if each.verb in verbs]

"""The gate: a group-sequential exact test that decides, pair by pair, whether a candidate policy replaces the incumbent."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentau.config import later
from opentau.errors import OptionError
from opentau.loop.evidence import Evidence, Pair, PairedEvidence, UnpairedEvidence

# A pair is an episode of each policy: on one placement, seed and flow noise where these can be repeated, else on two.


MIN_GUARD_PAIRS = 5
"""Of these every one lost has a one-sided p of 0.03."""


class Decision(enum.StrEnum):
    """What the gate says of a candidate."""

    BETTER = "better"
    NOT_BETTER = "not better"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """When the gate looks and how much evidence it asks for."""

    is_open: bool = False
    """Whether every candidate is promoted unseen; for studies, whose final scores judge."""
    looks: tuple[int, ...] = (20, 40, 60, 80, 100)
    """Numbers of pairs after which it may decide."""
    levels: tuple[float, ...] = (0.006, 0.012, 0.017, 0.021, 0.024)
    """One-sided p-value that promotes at each look; together they keep false promotions at or below 5 %."""
    veto_level: float = 0.01
    """Holm-adjusted p-value of "worse in this task" below which one task vetoes a promotion."""
    is_paired: bool = later(True)
    """Whether both policies meet the same placements. False for hardware, where no scene comes back: they then take turns in
    a random order that the operator does not know, and successes are compared."""
    guards: tuple[str, ...] = later(())
    """Perturbations of the environment (docs/environments.md) under which a candidate that is better must not be worse."""
    guard_pairs: int = later(40)
    """Pairs of each guard, played after a verdict of "better"."""
    guard_level: float = later(0.05)
    """Holm-adjusted one-sided p-value of "worse" at which a guard keeps the incumbent."""

    @property
    def evidence(self) -> Evidence:
        return PairedEvidence() if self.is_paired else UnpairedEvidence()

    def __post_init__(self) -> None:
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 1:
            raise OptionError(f"gate.looks is {self.looks}; it must be a growing list of numbers of pairs")
        if len(self.levels) != len(self.looks):
            raise OptionError(
                f"gate.levels has {len(self.levels)} entries and gate.looks {len(self.looks)}; give one level per look"
            )
        if not all(0 < level < 0.5 for level in (*self.levels, self.veto_level)):
            raise OptionError("every level of the gate lies between 0 and 0.5")
        if not 0 < self.guard_level < 0.5:
            raise OptionError(f"gate.guard_level is {self.guard_level}; it lies between 0 and 0.5")
        if self.guards and (self.is_open or not self.is_paired):
            raise OptionError(
                "gate.guards needs a gate that plays pairs on placements that come back: leave gate.is_open false and "
                "gate.is_paired true, or name no guards"
            )
        if self.guards and self.guard_pairs < MIN_GUARD_PAIRS:
            raise OptionError(f"gate.guard_pairs is {self.guard_pairs}; fewer than {MIN_GUARD_PAIRS} cannot show a loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The gate's answer and everything it rests on."""

    decision: Decision
    num_pairs: int
    """Pairs that the verdict rests on."""
    wins: int
    """Pairs in which only the candidate succeeded; unpaired: its successes."""
    losses: int
    """Pairs in which only the incumbent succeeded; unpaired: its successes."""
    p_value: float
    """Chance of at least so many wins for two equal policies."""
    level: float
    """The p-value that would have promoted at this look."""
    vetoes: tuple[str, ...] = ()
    """Tasks in which the candidate is clearly worse."""
    evidence: Evidence
    """The test behind it."""

    @property
    def pairs_needed(self) -> int | None:
        """How many pairs a difference of the observed size needs; None unless the candidate leads."""
        return self.evidence.pairs_needed(self.wins, self.losses, num_pairs=self.num_pairs, level=self.level)

    def explain(self) -> str:
        """Return the verdict in one or two sentences."""
        counts = (
            f"{self.evidence.describe(self.wins, self.losses, num_pairs=self.num_pairs)} "
            f"(one-sided p = {self.p_value:.2g}, promoted at {self.level:g} or less)"
        )
        if self.vetoes:
            return f"{counts}, but the candidate is clearly worse in {', '.join(self.vetoes)}: not better, the incumbent stays."
        if self.decision is Decision.BETTER:
            return f"{counts}: better, the candidate is promoted."
        if self.decision is Decision.NOT_BETTER:
            return f"{counts}. The incumbent leads: not better, the incumbent stays."
        if self.pairs_needed is None:
            return f"{counts}: undecided, the incumbent stays. Nothing suggests that more pairs would tell the two apart."
        return (
            f"{counts}: undecided, the incumbent stays. If the observed difference is real, about {self.pairs_needed} pairs "
            "would show it four times out of five."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Judge pairs in plan order; the answer depends on their outcomes alone, not on when or how many at once they came."""

    options: GateOptions

    def next_look(self, num_pairs: int) -> int | None:
        """Return how many pairs to have played before deciding again; None when no look is left."""
        return next((look for look in self.options.looks if look > num_pairs), None)

    def decide(self, pairs: Sequence[Pair]) -> Verdict | None:
        """Return the verdict of the first look that decides, or None while pairs are missing; pairs beyond it do not count."""
        for index, look in enumerate(self.options.looks):
            if len(pairs) < look:
                return None
            seen = pairs[:look]
            wins, losses = self.options.evidence.count(seen)
            decision = self.decide_counts(look_index=index, wins=wins, losses=losses)
            if decision is not None:
                return self._verdict(decision, look_index=index, pairs=seen)
        return None

    def decide_counts(self, *, look_index: int, wins: int, losses: int) -> Decision | None:
        """Return what one look decides from its counts alone, before vetoes; None means play on."""
        num_pairs = self.options.looks[look_index]
        if self.options.evidence.p_value(wins, losses, num_pairs=num_pairs) <= self.options.levels[look_index]:
            return Decision.BETTER
        if losses > wins:
            return Decision.NOT_BETTER
        return Decision.UNDECIDED if look_index == len(self.options.looks) - 1 else None

    def _verdict(self, decision: Decision, *, look_index: int, pairs: Sequence[Pair]) -> Verdict:
        evidence, level = self.options.evidence, self.options.veto_level
        wins, losses = evidence.count(pairs)
        vetoes = vetoing_tasks(pairs, evidence=evidence, level=level) if decision is Decision.BETTER else ()
        return Verdict(
            decision=Decision.NOT_BETTER if vetoes else decision,
            num_pairs=len(pairs),
            wins=wins,
            losses=losses,
            p_value=evidence.p_value(wins, losses, num_pairs=len(pairs)),
            level=self.options.levels[look_index],
            vetoes=vetoes,
            evidence=evidence,
        )


def vetoing_tasks(pairs: Sequence[Pair], *, evidence: Evidence, level: float) -> tuple[str, ...]:
    """Return the tasks in which the candidate is worse at a Holm-adjusted one-sided p below `level`."""
    by_task: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_task.setdefault(pair.task_id, []).append(pair)
    p_values = {}
    for task, members in by_task.items():
        wins, losses = evidence.count(members)
        p_values[task] = evidence.p_value(losses, wins, num_pairs=len(members))
    return tuple(task for task, p_value in adjust(p_values).items() if p_value < level)


def adjust(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for their number, the smallest first (Holm 1979, Scandinavian Journal of Statistics 6)."""
    adjusted, highest = {}, 0.0
    for rank, (p_value, name) in enumerate(sorted((p_value, name) for name, p_value in p_values.items())):
        highest = max(highest, p_value * (len(p_values) - rank))
        adjusted[name] = min(1.0, highest)
    return adjusted

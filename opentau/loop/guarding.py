"""Guards of the gate: a candidate that is better must not be clearly worse where the environment is perturbed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentau.loop.evidence import Evidence
from opentau.loop.gate import Decision, adjust
from opentau.loop.ledger import LEDGER_FILE, Ledger
from opentau.loop.plans import CANDIDATE, GUARD, INCUMBENT, paired_plans
from opentau.loop.run import Product, StageWork
from opentau.loop.scoring import pairs_of, play, score_of
from opentau.loop.setting import Setting
from opentau.types import derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """What one guard saw."""

    name: str
    wins: int
    losses: int
    num_pairs: int
    p_value: float
    """Of "worse", one-sided, adjusted for the number of guards."""
    level: float
    evidence: Evidence

    @property
    def is_worse(self) -> bool:
        return self.p_value < self.level

    def explain(self) -> str:
        """Return in a sentence what the guard saw and what follows."""
        counts = self.evidence.describe(self.wins, self.losses, num_pairs=self.num_pairs)
        if self.is_worse:
            return f"Guard {self.name!r}: {counts} (p of worse = {self.p_value:.2g}): clearly worse, the incumbent stays."
        return f"Guard {self.name!r}: {counts}: not clearly worse."


def after_guards(decision: Decision, guarded: Sequence[Guarded]) -> Decision:
    """Return what is decided when the guards have been faced: one in which the candidate is worse keeps the incumbent."""
    return Decision.NOT_BETTER if any(each.is_worse for each in guarded) else decision


def guard(setting: Setting, iteration: int, *, incumbent: Product, candidate: Product) -> list[Guarded]:
    """Let both policies play the pairs of every guard, and return what came of them in the order of `gate.guards`."""
    options, evidence = setting.options.gate, setting.options.gate.evidence
    counts = {name: _face_perturbed(setting, iteration, name, incumbent, candidate) for name in options.guards}
    p_values = adjust(
        {
            name: evidence.p_value(count["losses"], count["wins"], num_pairs=options.guard_pairs)
            for name, count in counts.items()
        }
    )
    return [
        Guarded(
            name=name,
            wins=count["wins"],
            losses=count["losses"],
            num_pairs=options.guard_pairs,
            p_value=p_values[name],
            level=options.guard_level,
            evidence=evidence,
        )
        for name, count in counts.items()
    ]


def _face_perturbed(setting: Setting, iteration: int, name: str, incumbent: Product, candidate: Product) -> Mapping[str, Any]:
    """Play the pairs of one guard; return the stage's summary."""
    setting = setting.perturbed(name)
    options, stage = setting.options, f"{GUARD}-{name}-{iteration}"
    seed, num_pairs = derive_seed(options.seed, GUARD, name), options.gate.guard_pairs
    plans = paired_plans(tasks=setting.task_ids, iteration=iteration, num_pairs=num_pairs, seed=seed)

    def work(work: StageWork) -> None:
        served = {INCUMBENT: incumbent.path, CANDIDATE: candidate.path}
        ledger = Ledger(work.output / LEDGER_FILE)
        with setting.session(stage, iteration, policies=served) as session:
            results = play(setting, session, plans, ledger)
        ledger.write_ordered(results)
        wins, losses = options.gate.evidence.count(pairs_of(results, candidate=CANDIDATE))
        work.summary.update(wins=wins, losses=losses)
        for role, policy in ((INCUMBENT, incumbent), (CANDIDATE, candidate)):
            of_role = [result for result in results if result.plan.policy_id == role]
            work.summary[role] = score_of(setting, policy, [result.plan for result in of_role], of_role)

    inputs = {
        **setting.env_inputs,
        **setting.play_inputs,
        "incumbent": incumbent.id,
        "candidate": candidate.id,
        "pairs": num_pairs,
    }
    return setting.run.stage(stage, iteration=iteration, inputs=inputs, work=work).summary

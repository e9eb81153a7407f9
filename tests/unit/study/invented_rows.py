"""Invented rows of a study: scores with chosen successes, for the study tests."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.study.rows import FINAL, FIRST, PolicyScore, Row

MAX_STEPS, CONTROL_HZ = 100, 20.0


def score(is_success: Sequence[int], *, num_steps: Sequence[int] | None = None, eval_spec: str = "spec") -> PolicyScore:
    """Return a score with these outcomes; successes take 40 steps where none are given."""
    steps = num_steps if num_steps is not None else [40 if success else MAX_STEPS for success in is_success]
    return PolicyScore(
        policy="policy",
        eval_spec=eval_spec,
        max_steps=MAX_STEPS,
        control_hz=CONTROL_HZ,
        is_success=tuple(bool(success) for success in is_success),
        num_steps=tuple(steps),
    )


def share(successes: int, *, episodes: int = 10, eval_spec: str = "spec") -> PolicyScore:
    """Return a score whose first episodes succeed."""
    return score([1] * successes + [0] * (episodes - successes), eval_spec=eval_spec)


def row(variant: str, *, seed: int, first: PolicyScore, final: PolicyScore, task: int = 0, **more: PolicyScore) -> Row:
    """Return a row with both scores; further scores by name, '_' for '-'."""
    further = {name.replace("_", "-"): extra for name, extra in more.items()}
    return Row(
        variant=variant,
        task=task,
        seed=seed,
        run=f"{variant}-task{task}-seed{seed}",
        scores={FIRST: first, FINAL: final, **further},
        options_id="invented",
        own_cpu_seconds=60.0,
        cpu_seconds=1800.0,
        facts={"value-1 value/auroc": 0.8 + 0.01 * seed},
        curves={"update-1 train/held_out_loss": ((0.0, 1.0 + seed), (100.0, 0.5), (200.0, 0.25))},
    )

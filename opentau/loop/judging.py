"""Stages that score policies: the first evaluation, the paired gate, and the final score on the official states."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from opentau import events
from opentau.checkpoint import write_json
from opentau.loop.gate import Decision, Gate, Verdict
from opentau.loop.guarding import Guarded, after_guards, guard
from opentau.loop.ledger import LEDGER_FILE, Ledger
from opentau.loop.plans import (
    CANDIDATE,
    FINAL,
    INCUMBENT,
    blind_name,
    final_plans,
    interleaved_plans,
    paired_plans,
    score_stage,
)
from opentau.loop.run import Product, StageWork
from opentau.loop.scoring import pairs_of, play, score_of
from opentau.loop.setting import Setting
from opentau.rollout.evaluation import evaluation_plans
from opentau.rollout.session import RolloutSession
from opentau.types import EpisodePlan, EpisodeResult, derive_seed

VERDICT_FILE = "verdict.json"


def begin(
    setting: Setting, iteration: int, *, incumbent: Product, gates: Mapping[int, tuple[Product, Product]]
) -> tuple[Setting, Product]:
    """Begin an iteration; return its setting and the policy that stands, both as people decided since the last one.

    `gates`: the incumbent and the candidate of every gate so far. A promoted candidate stands whatever came after it; one that
    is rolled back gives way to what stood before it, unless another stands already.
    """
    course = setting.run.begin_iteration(iteration)
    for is_promoted, of in course.after_gates:
        before, candidate = gates[of]
        if is_promoted:
            incumbent = candidate
        elif incumbent.id == candidate.id:
            incumbent = before
    return setting.with_options(course.options), incumbent


def evaluate(
    setting: Setting,
    iteration: int,
    *,
    policy: Product,
    num_episodes: int | None = None,
    is_official: bool = False,
    stage: str = "",
) -> Product:
    """Score one policy on placements of its own, or on the official initial states."""
    options, stage = setting.options, stage or f"evaluate-{iteration}"
    num_episodes = num_episodes or options.evaluation.episodes
    plans = scored_plans(setting, stage, num_episodes=num_episodes, is_official=is_official)

    def work(work: StageWork) -> None:
        ledger = Ledger(work.output / LEDGER_FILE)
        with setting.session(stage, iteration, policies={CANDIDATE: policy.path}) as session:
            results = play(setting, session, plans, ledger)
        ledger.write_ordered(results)
        work.summary.update(score_of(setting, policy, plans, results))

    inputs = {
        **setting.env_inputs,
        **setting.play_inputs,
        "policy": policy.id,
        "episodes": num_episodes,
        "official": is_official,
    }
    product = setting.run.stage(stage, iteration=iteration, inputs=inputs, work=work)
    _announce(setting, stage, iteration, events.CANDIDATE, product.summary)
    return product


def scored_plans(setting: Setting, stage: str, *, num_episodes: int, is_official: bool) -> list[EpisodePlan]:
    """Return the episodes of an evaluation, the first ones of each task the same however many there are."""
    return evaluation_plans(
        setting.task_ids,
        name=stage,
        policy_id=CANDIDATE,
        num_episodes=num_episodes,
        seed=derive_seed(setting.options.seed, stage),
        is_official=is_official,
    )


def face(setting: Setting, iteration: int, *, incumbent: Product, candidate: Product) -> bool:
    """Let both policies play the same placements until the gate decides; return whether the candidate is promoted.

    Where no placement comes back (`+gate.is_paired=false`) they take turns in a random order that nobody is told. A candidate
    that is better faces the gate's guards as well. A person's promote or rollback stands above the verdict; an open gate
    promotes without play.
    """
    options, stage = setting.options, f"gate-{iteration}"
    if options.gate.is_open:
        return setting.run.gate_override(iteration) is not False
    names = {
        role: role if options.gate.is_paired else blind_name(role, iteration=iteration, seed=options.seed)
        for role in (INCUMBENT, CANDIDATE)
    }

    def work(work: StageWork) -> None:
        served = {names[INCUMBENT]: incumbent.path, names[CANDIDATE]: candidate.path}
        gate, ledger = Gate(options=options.gate), Ledger(work.output / LEDGER_FILE)
        with setting.session(stage, iteration, policies=served) as session:
            results, verdict = _play_until_decided(setting, session, iteration, gate, ledger, names)
        ledger.write_ordered(results)
        write_json(work.output / VERDICT_FILE, _verdict_dict(verdict))
        work.summary.update(verdict=str(verdict.decision), **_verdict_dict(verdict))
        for role, policy in ((INCUMBENT, incumbent), (CANDIDATE, candidate)):
            of_role = [result for result in results if result.plan.policy_id == names[role]]
            work.summary[role] = score_of(setting, policy, [result.plan for result in of_role], of_role)

    inputs = {
        **setting.env_inputs,
        **setting.play_inputs,
        "incumbent": incumbent.id,
        "candidate": candidate.id,
        "gate": {
            "looks": options.gate.looks,
            "levels": options.gate.levels,
            "veto_level": options.gate.veto_level,
            **({} if options.gate.is_paired else {"is_paired": False}),
        },
    }
    product = setting.run.stage(stage, iteration=iteration, inputs=inputs, work=work)
    is_better = product.summary["verdict"] == Decision.BETTER
    guarded = guard(setting, iteration, incumbent=incumbent, candidate=candidate) if is_better else []
    return _conclude(setting, stage, iteration, product.summary, guarded)


def _play_until_decided(
    setting: Setting, session: RolloutSession, iteration: int, gate: Gate, ledger: Ledger, names: Mapping[str, str]
) -> tuple[list[EpisodeResult], Verdict]:
    """Play look after look; `names` is what the incumbent and the candidate are called in the plans."""
    make_plans = paired_plans if gate.options.is_paired else interleaved_plans
    num_pairs = 0
    while (look := gate.next_look(num_pairs)) is not None:
        num_pairs = look
        plans = make_plans(tasks=setting.task_ids, iteration=iteration, num_pairs=num_pairs, seed=setting.options.seed)
        results = play(setting, session, plans, ledger)
        verdict = gate.decide(pairs_of(results, candidate=names[CANDIDATE]))
        if verdict is not None:
            return results, verdict
    raise AssertionError("the last look always decides")


def _conclude(setting: Setting, stage: str, iteration: int, summary: Mapping[str, Any], guarded: Sequence[Guarded]) -> bool:
    verdict = after_guards(Decision(summary["verdict"]), guarded)
    is_better = verdict is Decision.BETTER
    override = setting.run.gate_override(iteration)
    is_promoted = is_better if override is None else override
    text = " ".join([summary["text"], *(each.explain() for each in guarded)])
    if override is not None and override != is_better:
        text += f" A person decided otherwise: {'promoted' if override else 'rolled back'}."
    _announce(setting, stage, iteration, events.INCUMBENT, summary[INCUMBENT])
    _announce(setting, stage, iteration, events.CANDIDATE, summary[CANDIDATE])
    setting.run.events.emit(
        events.VERDICT,
        iteration=iteration,
        verdict=str(verdict),
        pairs=summary["pairs"],
        wins=summary["wins"],
        losses=summary["losses"],
        p_value=summary["p_value"],
        text=text,
        promoted=is_promoted,
        **({} if setting.options.gate.is_paired else {"paired": False}),
    )
    return is_promoted


def score_final(
    setting: Setting, iteration: int, *, policy: Product, known: Product | None = None, indicator: str | None = None
) -> Product:
    """Score the policy that stands after an iteration on the final states, which nothing else has seen.

    With `indicator` it is asked with that one instead of its own, on the same states and noise. A policy that stood before
    keeps its `known` score.
    """
    options = setting.options
    stage = score_stage(iteration, indicator=indicator)
    plans = final_plans(
        tasks=setting.task_ids,
        num_official=options.evaluation.final_states,
        num_drawn=options.evaluation.final_episodes,
        seed=options.seed,
        name=FINAL,
    )

    def work(work: StageWork) -> None:
        if known is not None and known.summary["policy"] == policy.id:
            shutil.copyfile(known.path / LEDGER_FILE, work.output / LEDGER_FILE)
            work.summary.update(known.summary)
            return
        ledger = Ledger(work.output / LEDGER_FILE)
        with setting.session(stage, iteration, policies={CANDIDATE: policy.path}, indicator=indicator) as session:
            results = play(setting, session, plans, ledger)
        ledger.write_ordered(results)
        work.summary.update(score_of(setting, policy, plans, results))

    inputs = {
        **setting.env_inputs,
        **setting.play_inputs,
        "policy": policy.id,
        "states": options.evaluation.final_states,
        "drawn": options.evaluation.final_episodes,
        "asked_with": indicator,
    }
    product = setting.run.stage(stage, iteration=iteration, inputs=inputs, work=work)
    if indicator is None:
        _announce(setting, stage, iteration, events.FINAL, product.summary)
    return product


def _verdict_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "pairs": verdict.num_pairs,
        "wins": verdict.wins,
        "losses": verdict.losses,
        "p_value": verdict.p_value,
        "level": verdict.level,
        "vetoes": list(verdict.vetoes),
        "text": verdict.explain(),
    }


def _announce(setting: Setting, stage: str, iteration: int, role: str, score: Mapping[str, Any]) -> None:
    names = ("policy", "episodes", "successes", "interval", "eval_spec", "simulated_s")
    setting.run.events.emit(
        events.EVALUATED, stage=stage, iteration=iteration, role=role, **{name: score[name] for name in names}
    )

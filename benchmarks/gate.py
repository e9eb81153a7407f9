"""The gate on Bernoulli policies: how often it promotes equal, worse and better candidates, and how soon.

Paired (simulators) it is simulated; unpaired (hardware, `+gate.is_paired=false`) its error rates are added up exactly.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from math import comb

import numpy as np

from opentau.loop.gate import Decision, Gate, GateOptions

# Shapes: R simulated runs, L looks, P pairs of the last look.

WORSE, EQUAL, BETTER = -0.20, 0.0, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A pair of policies: how much better the candidate is and how often the two disagree."""

    name: str
    difference: float
    """Candidate's minus incumbent's success probability."""
    discordance: float
    """Probability that exactly one of the two succeeds in a pair."""
    incumbent: float | None = None
    """Incumbent's success probability; None where only the two above matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the gate did in the simulated runs of one scenario."""

    name: str
    difference: float
    discordance: float
    incumbent: float | None
    promoted: float
    not_better: float
    undecided: float
    mean_pairs: float


def scenarios() -> list[Scenario]:
    """Return the scenarios of the table.

    Candidates that differ are simulated at the discordances of independent outcomes (the most a shared placement should
    give) around an incumbent of 30, 50 and 70 %, at their least possible one, and equal policies at 0.1 to 0.8.
    """
    equal = [Scenario(name="equal", difference=EQUAL, discordance=round(d / 10, 1)) for d in range(1, 9)]
    worse = [Scenario(name="20 points worse", difference=WORSE, discordance=d) for d in _discordances(WORSE, (0.3, 0.5, 0.7))]
    better = [
        Scenario(name="25 points better", difference=BETTER, discordance=d) for d in _discordances(BETTER, (0.3, 0.5, 0.7))
    ]
    return [*equal, *worse, *better]


def unpaired_scenarios() -> list[Scenario]:
    """Return equal policies of 5 to 95 % success, and worse and better candidates than incumbents of 30, 50 and 70 %."""

    def scenario(name: str, incumbent: float, difference: float) -> Scenario:
        candidate = incumbent + difference
        discordance = candidate * (1 - incumbent) + incumbent * (1 - candidate)
        return Scenario(name=name, difference=difference, discordance=round(discordance, 3), incumbent=incumbent)

    equal = [scenario("equal", share / 20, EQUAL) for share in range(1, 20)]
    worse = [scenario("20 points worse", p, WORSE) for p in (0.3, 0.5, 0.7)]
    return [*equal, *worse, *(scenario("25 points better", p, BETTER) for p in (0.3, 0.5, 0.7))]


def _discordances(difference: float, incumbents: tuple[float, ...]) -> list[float]:
    candidates = [(p, p + difference) for p in incumbents]
    independent = {round(p * (1 - q) + q * (1 - p), 3) for p, q in candidates}
    return sorted({abs(difference)} | independent)


def decision_table(gate: Gate) -> np.ndarray:
    """Return what each look decides for every count, int8 [L, wins, losses]: -1 play on, else the decision's position."""
    looks = gate.options.looks
    table = np.full((len(looks), looks[-1] + 1, looks[-1] + 1), -1, dtype=np.int8)
    decisions = list(Decision)
    for index, look in enumerate(looks):
        for wins in range(look + 1):
            for losses in range(look + 1 - wins):
                decision = gate.decide_counts(look_index=index, wins=wins, losses=losses)
                if decision is not None:
                    table[index, wins, losses] = decisions.index(decision)
    return table


def play(gate: Gate, *, wins_RP: np.ndarray, losses_RP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each run's decision (position in `Decision`) and the pairs it took, from bool outcomes [R, P]."""
    looks = np.array(gate.options.looks)
    table = decision_table(gate)
    wins_RL = np.cumsum(wins_RP, axis=1)[:, looks - 1]
    losses_RL = np.cumsum(losses_RP, axis=1)[:, looks - 1]
    decided_RL = table[np.arange(len(looks)), wins_RL, losses_RL]
    first_R = np.argmax(decided_RL >= 0, axis=1)
    return decided_RL[np.arange(len(first_R)), first_R], looks[first_R]


def simulate(gate: Gate, scenario: Scenario, *, num_runs: int, seed: int) -> Measured:
    """Return the shares of each decision and the mean number of pairs over `num_runs` simulated runs."""
    rng = np.random.default_rng(seed)
    win = (scenario.discordance + scenario.difference) / 2
    draws_RP = rng.random((num_runs, gate.options.looks[-1]))
    wins_RP = draws_RP < win
    losses_RP = (draws_RP >= win) & (draws_RP < scenario.discordance)
    decisions_R, pairs_R = play(gate, wins_RP=wins_RP, losses_RP=losses_RP)
    shares = {decision: float(np.mean(decisions_R == position)) for position, decision in enumerate(Decision)}
    return Measured(
        **asdict(scenario),
        promoted=shares[Decision.BETTER],
        not_better=shares[Decision.NOT_BETTER],
        undecided=shares[Decision.UNDECIDED],
        mean_pairs=float(np.mean(pairs_R)),
    )


def exact(gate: Gate, scenario: Scenario) -> Measured:
    """Return the chance of each decision of an unpaired gate and its mean number of pairs, without simulation."""
    assert scenario.incumbent is not None
    looks, decisions = gate.options.looks, list(Decision)
    reached_WL, played, mean_pairs = np.ones((1, 1)), 0, 0.0  # chance of every count of wins and losses that plays on
    shares = dict.fromkeys(Decision, 0.0)
    for index, look in enumerate(looks):
        won = _binomial(look - played, scenario.incumbent + scenario.difference)
        lost = _binomial(look - played, scenario.incumbent)
        now_WL = np.zeros((look + 1, look + 1))
        for (extra_wins, extra_losses), chance in np.ndenumerate(np.outer(won, lost)):
            rows, columns = extra_wins + len(reached_WL), extra_losses + len(reached_WL)
            now_WL[extra_wins:rows, extra_losses:columns] += chance * reached_WL
        decided_WL = np.array([[_decided(gate, index, w, lost_) for lost_ in range(look + 1)] for w in range(look + 1)])
        for position, decision in enumerate(decisions):
            shares[decision] += float(now_WL[decided_WL == position].sum())
        mean_pairs += look * float(now_WL[decided_WL >= 0].sum())
        reached_WL, played = np.where(decided_WL < 0, now_WL, 0.0), look
    return Measured(
        **asdict(scenario),
        promoted=shares[Decision.BETTER],
        not_better=shares[Decision.NOT_BETTER],
        undecided=shares[Decision.UNDECIDED],
        mean_pairs=mean_pairs,
    )


def _decided(gate: Gate, look_index: int, wins: int, losses: int) -> int:
    decision = gate.decide_counts(look_index=look_index, wins=wins, losses=losses)
    return -1 if decision is None else list(Decision).index(decision)


def _binomial(num: int, share: float) -> np.ndarray:
    return np.array([comb(num, k) * share**k * (1 - share) ** (num - k) for k in range(num + 1)])


def shortfalls(rows: list[Measured], *, max_pairs: int) -> list[str]:
    """Return a sentence for every row that misses what the gate promises."""
    missed = []
    for row in rows:
        where = f"{row.name} at discordance {row.discordance}, incumbent {row.incumbent or 'any'}"
        if row.difference == EQUAL and row.promoted > 0.05:
            missed.append(f"{where}: promoted in {row.promoted:.2%} of the runs, at most 5 % allowed")
        if row.difference == WORSE and row.promoted > 0.001:
            missed.append(f"{where}: promoted in {row.promoted:.2%} of the runs, at most 0.1 % allowed")
        if row.difference == BETTER and row.promoted < 0.90:
            missed.append(f"{where}: promoted in {row.promoted:.2%} of the runs, at least 90 % wanted")
        if row.difference == BETTER and row.mean_pairs > 0.7 * max_pairs:
            missed.append(f"{where}: {row.mean_pairs:.1f} pairs on average, at most {0.7 * max_pairs:.0f} wanted")
    return missed


def main(arguments: list[str] | None = None) -> int:
    """Print the table; with --require, exit 1 when a promise is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unpaired", action="store_true", help="the gate of hardware, where no placement comes back")
    parser.add_argument("--runs", type=int, default=20_000, help="simulated runs per scenario")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--require", action="store_true", help="fail when a promise of the gate is missed")
    options = parser.parse_args(arguments)
    gate = Gate(options=GateOptions(is_paired=not options.unpaired))
    if options.unpaired:
        rows = [exact(gate, scenario) for scenario in unpaired_scenarios()]
    else:
        rows = [simulate(gate, scenario, num_runs=options.runs, seed=options.seed) for scenario in scenarios()]
    missed = shortfalls(rows, max_pairs=gate.options.looks[-1])
    if options.json:
        print(json.dumps({"runs": options.runs, "rows": [asdict(row) for row in rows], "missed": missed}, indent=1))
    else:
        print(f"{'candidate':<18}{'discordance':>12}{'promoted':>10}{'not better':>12}{'undecided':>11}{'pairs':>8}")
        for row in rows:
            shares = f"{row.promoted:>10.2%}{row.not_better:>12.2%}{row.undecided:>11.2%}"
            print(f"{row.name:<18}{row.discordance:>12.3f}{shares}{row.mean_pairs:>8.1f}")
        print(*missed, sep="\n")
    return 1 if options.require and missed else 0


if __name__ == "__main__":
    sys.exit(main())

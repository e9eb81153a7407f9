"""The gate's verdicts, their words, and what it promises of false promotions and power."""

from __future__ import annotations

import importlib.util
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from opentau.errors import OptionError
from opentau.loop.evidence import Pair, PairedEvidence, UnpairedEvidence, fisher_test, sign_test
from opentau.loop.gate import Decision, Gate, GateOptions, adjust

GATE = Gate(options=GateOptions())
UNPAIRED = Gate(options=GateOptions(is_paired=False))


@pytest.fixture(scope="module")
def simulation():
    path = Path(__file__).parents[3] / "benchmarks" / "gate.py"
    spec = importlib.util.spec_from_file_location("benchmark_gate", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def pairs(*, wins: int = 0, losses: int = 0, ties: int = 0, task_id: str = "t/0") -> list[Pair]:
    """Interleaved evenly, so that every look sees about the same shares."""
    outcomes = [(False, True)] * wins + [(True, False)] * losses + [(True, True)] * ties
    order = np.random.default_rng(0).permutation(len(outcomes))
    return [Pair(task_id=task_id, is_incumbent_success=outcomes[i][0], is_candidate_success=outcomes[i][1]) for i in order]


def test_the_sign_test_is_exact() -> None:
    for wins, losses in product(range(5), range(5)):
        throws = list(product((0, 1), repeat=wins + losses))
        assert sign_test(wins, losses) == sum(sum(throw) >= wins for throw in throws) / len(throws)


def test_fishers_test_is_exact() -> None:
    labels = list(product((0, 1), repeat=6))  # which 3 of 6 episodes were the candidate's, all equally likely
    for wins, losses in product(range(4), range(4)):
        successes = [True] * (wins + losses) + [False] * (6 - wins - losses)
        counts = [sum(map(int.__and__, label, map(int, successes))) for label in labels if sum(label) == 3]
        assert fisher_test(wins, losses, 3) == sum(count >= wins for count in counts) / len(counts)


def test_nothing_is_decided_before_the_first_look() -> None:
    assert GATE.decide(pairs(wins=19)) is None
    assert GATE.next_look(0) == 20
    assert GATE.next_look(20) == 40
    assert GATE.next_look(99) == 100
    assert GATE.next_look(100) is None


def test_a_clear_lead_promotes_at_the_first_look() -> None:
    verdict = GATE.decide(pairs(wins=8, ties=12) + pairs(losses=80))
    assert verdict is not None
    assert (verdict.decision, verdict.num_pairs, verdict.wins, verdict.losses) == (Decision.BETTER, 20, 8, 0)
    assert "better, the candidate is promoted" in verdict.explain()


def test_it_stops_when_the_incumbent_leads_at_a_look() -> None:
    verdict = GATE.decide(pairs(wins=1, losses=2, ties=17))
    assert verdict is not None
    assert (verdict.decision, verdict.num_pairs) == (Decision.NOT_BETTER, 20)
    assert "the incumbent stays" in verdict.explain()


def test_a_small_lead_stays_undecided_and_says_how_many_pairs_it_would_need() -> None:
    verdict = GATE.decide(pairs(wins=3, losses=2, ties=15) * 5)
    assert verdict is not None
    assert (verdict.decision, verdict.num_pairs, verdict.wins, verdict.losses) == (Decision.UNDECIDED, 100, 15, 10)
    assert verdict.pairs_needed is not None
    assert verdict.pairs_needed > 100
    assert f"about {verdict.pairs_needed} pairs" in verdict.explain()


def test_equal_counts_stay_undecided_without_a_number_of_pairs() -> None:
    verdict = GATE.decide(pairs(wins=2, losses=2, ties=16) * 5)
    assert verdict is not None
    assert (verdict.decision, verdict.pairs_needed) == (Decision.UNDECIDED, None)
    assert "Nothing suggests" in verdict.explain()


def test_identical_policies_without_discordant_pairs_stay_undecided() -> None:
    verdict = GATE.decide(pairs(ties=100))
    assert verdict is not None
    assert (verdict.decision, verdict.p_value) == (Decision.UNDECIDED, 1.0)


def test_pairs_beyond_the_deciding_look_change_nothing() -> None:
    played = pairs(wins=8, ties=12)
    assert GATE.decide(played) == GATE.decide(played + pairs(losses=7))


def test_the_number_of_pairs_needed_gives_the_promised_power() -> None:
    needed = PairedEvidence().pairs_needed(30, 15, num_pairs=100, level=0.024)
    assert needed is not None
    draws = np.random.default_rng(0).random((4000, needed))
    wins, losses = np.sum(draws < 0.30, axis=1), np.sum((draws >= 0.30) & (draws < 0.45), axis=1)
    power = np.mean([sign_test(int(won), int(lost)) <= 0.024 for won, lost in zip(wins, losses, strict=True)])
    assert 0.74 < power < 0.86


def test_one_task_vetoes_only_when_it_is_clearly_worse() -> None:
    gate = Gate(options=GateOptions(looks=(100,), levels=(0.024,)))
    better_elsewhere = pairs(wins=40, ties=40, task_id="t/0")
    clearly_worse = gate.decide(better_elsewhere + pairs(losses=9, ties=11, task_id="t/1"))
    perhaps_worse = gate.decide(better_elsewhere + pairs(losses=6, ties=14, task_id="t/1"))
    assert clearly_worse is not None
    assert perhaps_worse is not None
    assert (clearly_worse.decision, clearly_worse.vetoes) == (Decision.NOT_BETTER, ("t/1",))
    assert "clearly worse in t/1" in clearly_worse.explain()
    assert perhaps_worse.decision is Decision.BETTER


def test_the_veto_accounts_for_the_number_of_tasks() -> None:
    gate = Gate(options=GateOptions(looks=(100,), levels=(0.024,)))
    worse = pairs(losses=7, ties=3, task_id="t/worse")  # p = 0.0078 on its own
    few = gate.decide(worse + pairs(wins=60, ties=30, task_id="t/0"))
    many = gate.decide(worse + [pair for task in range(9) for pair in pairs(wins=6, ties=4, task_id=f"t/{task}")])
    assert few is not None
    assert many is not None
    assert many.decision is Decision.BETTER
    assert few.decision is Decision.BETTER  # 2 · 0.0078 > 0.01
    assert Gate(options=GateOptions(looks=(100,), levels=(0.024,), veto_level=0.02)).decide(
        worse + pairs(wins=60, ties=30, task_id="t/0")
    ).vetoes == ("t/worse",)


@pytest.mark.parametrize(
    "options",
    [
        {"looks": (40, 20), "levels": (0.01, 0.01)},
        {"levels": (0.01,)},
        {"veto_level": 0.0},
        {"guard_level": 0.6},
        {"guards": ("noise",), "guard_pairs": 4},
        {"guards": ("noise",), "is_paired": False},
        {"guards": ("noise",), "is_open": True},
    ],
)
def test_looks_and_levels_that_do_not_fit_are_refused(options: dict) -> None:
    with pytest.raises(OptionError):
        GateOptions(**options)


def test_p_values_are_adjusted_for_their_number_as_holm_does() -> None:
    assert adjust({"a": 0.01, "b": 0.04, "c": 0.03}) == {"a": 0.03, "c": 0.06, "b": 0.06}
    assert adjust({"a": 0.7, "b": 0.6}) == {"b": 1.0, "a": 1.0}
    assert adjust({}) == {}


def test_the_vectorised_simulation_decides_as_the_gate_does(simulation) -> None:
    rng = np.random.default_rng(1)
    draws = rng.random((300, 100))
    win, loss = rng.uniform(0.05, 0.5, (300, 1)), rng.uniform(0.05, 0.4, (300, 1))
    wins, losses = draws < win, (draws >= win) & (draws < win + loss)
    decisions, num_pairs = simulation.play(GATE, wins_RP=wins, losses_RP=losses)
    assert len(set(decisions)) == 3
    for run in range(300):
        played = [
            Pair(task_id="t/0", is_candidate_success=bool(won), is_incumbent_success=bool(lost))
            for won, lost in zip(wins[run], losses[run], strict=True)
        ]
        verdict = GATE.decide(played)
        assert verdict is not None
        assert (verdict.decision, verdict.num_pairs) == (list(Decision)[decisions[run]], num_pairs[run])


def test_the_gate_keeps_its_promises_in_twenty_thousand_runs_each(simulation) -> None:
    rows = [simulation.simulate(GATE, scenario, num_runs=20_000, seed=0) for scenario in simulation.scenarios()]
    assert {row.discordance for row in rows if row.difference == 0} == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}
    assert simulation.shortfalls(rows, max_pairs=100) == []


def test_on_hardware_successes_are_compared_whichever_pair_they_fall_into() -> None:
    played = pairs(wins=13, losses=2, ties=5)
    verdict, shuffled = UNPAIRED.decide(played), UNPAIRED.decide(played[::-1])
    assert verdict is not None
    assert (verdict.decision, verdict.wins, verdict.losses, verdict.num_pairs) == (Decision.BETTER, 18, 7, 20)
    assert verdict.p_value == fisher_test(18, 7, 20)
    assert "In 20 episodes each, in random order, the candidate succeeded 18 times and the incumbent 7" in verdict.explain()
    assert shuffled == verdict


def test_an_unpaired_lead_says_how_many_episodes_it_would_need() -> None:
    needed = UnpairedEvidence().pairs_needed(60, 45, num_pairs=100, level=0.024)
    assert needed is not None
    won, lost = np.random.default_rng(0).binomial(needed, [[0.60], [0.45]], (2, 2000))
    power = np.mean([fisher_test(int(wins), int(losses), needed) <= 0.024 for wins, losses in zip(won, lost, strict=True)])
    assert 0.70 < power < 0.86


def test_the_unpaired_gate_keeps_its_promises_exactly(simulation) -> None:
    rows = [simulation.exact(UNPAIRED, scenario) for scenario in simulation.unpaired_scenarios()]
    assert {row.incumbent for row in rows if row.difference == 0} >= {0.05, 0.5, 0.95}
    assert simulation.shortfalls(rows, max_pairs=100) == []

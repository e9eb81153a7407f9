"""What the outcomes of two policies say about which is better: exact tests for shared and for unrelated initial states."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Protocol

POWER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The outcomes of one episode of each policy, on one placement where placements can be repeated."""

    task_id: str
    is_incumbent_success: bool
    is_candidate_success: bool


class Evidence(Protocol):
    """A one-sided test of "the candidate is better"; wins speak for the candidate, losses for the incumbent."""

    def count(self, pairs: Sequence[Pair]) -> tuple[int, int]:
        """Return wins and losses."""
        ...

    def p_value(self, wins: int, losses: int, *, num_pairs: int) -> float:
        """Return the chance of at least so many wins for two equal policies."""
        ...

    def pairs_needed(self, wins: int, losses: int, *, num_pairs: int, level: float) -> int | None:
        """Return the pairs that show the observed difference at `level` with 80 % power; None unless wins exceed losses."""
        ...

    def describe(self, wins: int, losses: int, *, num_pairs: int) -> str:
        """Return the counts in words."""
        ...


@dataclass(frozen=True, slots=True)
class PairedEvidence:
    """Both play the same placements, seeds and noise: only pairs in which exactly one succeeds count (McNemar, exact)."""

    def count(self, pairs: Sequence[Pair]) -> tuple[int, int]:
        outcomes = Counter((pair.is_candidate_success, pair.is_incumbent_success) for pair in pairs)
        return outcomes[True, False], outcomes[False, True]

    def p_value(self, wins: int, losses: int, *, num_pairs: int) -> float:
        return sign_test(wins, losses)

    def pairs_needed(self, wins: int, losses: int, *, num_pairs: int, level: float) -> int | None:
        """Connor (1987), "Sample size for testing differences in proportions for the paired-sample design", Biometrics 43."""
        if wins <= losses:
            return None
        discordance, difference = (wins + losses) / num_pairs, (wins - losses) / num_pairs
        return _num_needed(difference, math.sqrt(discordance), math.sqrt(discordance - difference**2), level=level)

    def describe(self, wins: int, losses: int, *, num_pairs: int) -> str:
        return f"Of {num_pairs} pairs, {wins} were won by the candidate alone and {losses} by the incumbent alone"


@dataclass(frozen=True, slots=True)
class UnpairedEvidence:
    """Each episode has a scene of its own, as on hardware: wins and losses are the successes of either (Fisher, exact)."""

    def count(self, pairs: Sequence[Pair]) -> tuple[int, int]:
        return sum(pair.is_candidate_success for pair in pairs), sum(pair.is_incumbent_success for pair in pairs)

    def p_value(self, wins: int, losses: int, *, num_pairs: int) -> float:
        return fisher_test(wins, losses, num_pairs)

    def pairs_needed(self, wins: int, losses: int, *, num_pairs: int, level: float) -> int | None:
        """Fleiss, Tytun, Ury (1980), "A simple approximation for calculating sample sizes …", Biometrics 36, uncorrected."""
        if wins <= losses:
            return None
        won, lost = wins / num_pairs, losses / num_pairs
        mean = (won + lost) / 2
        spread = math.sqrt(2 * mean * (1 - mean))
        return _num_needed(won - lost, spread, math.sqrt(won * (1 - won) + lost * (1 - lost)), level=level)

    def describe(self, wins: int, losses: int, *, num_pairs: int) -> str:
        return f"In {num_pairs} episodes each, in random order, the candidate succeeded {wins} times and the incumbent {losses}"


@cache
def sign_test(wins: int, losses: int) -> float:
    """Return the exact chance of at least `wins` heads in `wins + losses` fair throws; 1 without any."""
    num_discordant = wins + losses
    return sum(math.comb(num_discordant, heads) for heads in range(wins, num_discordant + 1)) / 2**num_discordant


@cache
def fisher_test(wins: int, losses: int, num_each: int) -> float:
    """Return the exact chance that at least `wins` of all `wins + losses` successes fall to one of two equal policies.

    Each plays `num_each` episodes (Fisher 1935, the hypergeometric tail).
    """
    total = wins + losses
    ways = sum(math.comb(num_each, k) * math.comb(num_each, total - k) for k in range(wins, min(total, num_each) + 1))
    return ways / math.comb(2 * num_each, total)


def _num_needed(difference: float, spread_if_equal: float, spread: float, *, level: float) -> int:
    z_level, z_power = NormalDist().inv_cdf(1 - level), NormalDist().inv_cdf(POWER)
    return math.ceil(((z_level * spread_if_equal + z_power * spread) / difference) ** 2)

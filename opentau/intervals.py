"""How sure a success rate, or the difference of two, is: 95 % intervals that screen, report and studies share."""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson_interval(successes: int, episodes: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a binomial share (Wilson 1927); (0, 1) without episodes."""
    if not 0 <= successes <= episodes:
        raise ValueError(f"{successes} successes of {episodes} episodes; there cannot be more than episodes, nor fewer than 0")
    if episodes == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = successes / episodes, z * z / episodes
    centre = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / episodes + weight / (4 * episodes)) / (1 + weight)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == episodes else centre + half
    return low, high


def paired_interval(wins: int, losses: int, pairs: int) -> tuple[float, float, float]:
    """Return the difference of two paired success rates and its 95 % interval (Bonett and Price, 2012)."""
    win, loss = (wins + 1) / (pairs + 2), (losses + 1) / (pairs + 2)
    spread = 1.96 * math.sqrt((win + loss - (win - loss) ** 2) / (pairs + 2))
    return (wins - losses) / pairs, max(-1.0, win - loss - spread), min(1.0, win - loss + spread)


def unpaired_interval(wins: int, losses: int, episodes: int) -> tuple[float, float, float]:
    """Return the difference of two independent success rates and its 95 % interval (Newcombe 1998, method 10)."""
    won, lost = wins / episodes, losses / episodes
    (won_low, won_high), (lost_low, lost_high) = wilson_interval(wins, episodes), wilson_interval(losses, episodes)
    difference = won - lost
    return (
        difference,
        difference - math.hypot(won - won_low, lost_high - lost),
        difference + math.hypot(won_high - won, lost - lost_low),
    )

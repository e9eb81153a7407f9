"""Recording: plays the plans that a dataset does not hold yet and adds each episode as it arrives; the caller finishes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from opentau.rollout.session import RolloutSession
from opentau.types import Episode, EpisodePlan, EpisodeResult


class EpisodeWriter(Protocol):
    """What a dataset under construction offers; `opentau.data.lerobot.writer.DatasetWriter` is one."""

    def recorded(self) -> set[int]:
        """Return the plan indices that are safely on disk."""
        ...

    def add(self, index: int, episode: Episode) -> None:
        """Commit one episode."""
        ...


def record(
    session: RolloutSession,
    plans: Sequence[EpisodePlan],
    writer: EpisodeWriter,
    *,
    on_result: Callable[[EpisodeResult], None] = lambda result: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[EpisodeResult]:
    """Record the missing episodes of the plans.

    Returns the results of this call in plan order. An episode that ended in an error is not recorded: it is played
    again when the recording is resumed. The index of a plan names its episode's file, so that the dataset does not
    depend on the order of arrival.
    """
    done = writer.recorded()
    missing = [plan for plan in plans if plan.index not in done]

    def add(result: EpisodeResult, episode: Episode | None) -> None:
        if episode is not None:
            writer.add(result.plan.index, episode)
        on_result(result)

    if not missing:
        return []
    recorded = [plan.episode_id for plan in plans if plan.index in done]
    return session.run(missing, on_episode=add, should_stop=should_stop, recorded=recorded)

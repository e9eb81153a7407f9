"""Which plan is played next and by whom, and which results still count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from opentau.errors import OptionError
from opentau.types import EpisodePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class LostPlan:
    """A plan whose station died; it waits to be played again."""

    plan: EpisodePlan
    num_losses: int
    """How often this plan lost its station so far."""


class PlanQueue:
    """Hand out each plan until its result is there once; not thread-safe."""

    def __init__(self, plans: Sequence[EpisodePlan], *, recorded: Collection[str] = ()) -> None:
        """`recorded`: ids of episodes of the same run whose results are safe already."""
        self._waiting = list(plans)
        self._unfinished = {plan.episode_id: plan for plan in plans}
        self._finished = set(recorded)
        self._playing: dict[str, EpisodePlan] = {}
        self._num_losses: Counter[str] = Counter()
        if len(self._unfinished) != len(plans) or len({plan.index for plan in plans}) != len(plans):
            raise OptionError("two plans of one run have the same index or the same episode_id; number them apart")

    def take(self, station_id: str, *, prefer_task: str | None) -> EpisodePlan | None:
        """Return the first waiting plan, if possible one of the task whose environment the station has open."""
        if not self._waiting:
            return None
        plan = next((plan for plan in self._waiting if plan.task_id == prefer_task), self._waiting[0])
        self._waiting.remove(plan)
        self._playing[station_id] = plan
        return plan

    def finish(self, station_id: str, episode_id: str) -> bool:
        """Note a result; return False for a second one of the same plan, or of a plan that is not of this run."""
        playing = self._playing.get(station_id)
        if playing is not None and playing.episode_id == episode_id:
            del self._playing[station_id]
        plan = self._unfinished.pop(episode_id, None)
        if plan is None:
            return False
        self._finished.add(episode_id)
        if plan in self._waiting:
            self._waiting.remove(plan)
        return True

    def lose(self, station_id: str) -> LostPlan | None:
        """Put the plan of a dead station first in line again; None where it had none that still matters."""
        plan = self._playing.pop(station_id, None)
        if plan is None or plan.episode_id not in self._unfinished:
            return None
        self._waiting.insert(0, plan)
        self._num_losses[plan.episode_id] += 1
        return LostPlan(plan=plan, num_losses=self._num_losses[plan.episode_id])

    def is_expected(self, episode_id: str) -> bool:
        """Return whether the result of this episode would be the first."""
        return episode_id in self._unfinished

    def is_finished(self, episode_id: str) -> bool:
        """Return whether this episode's result is there already."""
        return episode_id in self._finished

    @property
    def num_playing_policies(self) -> int:
        """Stations that may ask for a chunk now."""
        return sum(plan.policy_id != "" for plan in self._playing.values())

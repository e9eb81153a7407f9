"""Recording into a dataset, and going on with one that was interrupted."""

from __future__ import annotations

from opentau.rollout.recorder import record
from opentau.rollout.session import RolloutSession
from opentau.types import Episode, EpisodeResult
from tests.fakes import ScriptedPolicy
from tests.unit.rollout.sessions import options, plan


class ListWriter:
    """Keeps episodes by index."""

    def __init__(self, *, full_after: int | None = None) -> None:
        self.episodes: dict[int, Episode] = {}
        self._full_after = full_after

    def recorded(self) -> set[int]:
        return set(self.episodes)

    def add(self, index: int, episode: Episode) -> None:
        assert index not in self.episodes
        if len(self.episodes) == self._full_after:
            raise OSError(28, "No space left on device")
        self.episodes[index] = episode


def test_an_interrupted_recording_goes_on_and_ends_as_if_undisturbed():
    plans = [plan(i) for i in range(5)]
    whole, parts, seen = ListWriter(), ListWriter(), list[EpisodeResult]()
    with RolloutSession(options(), policies={"p": ScriptedPolicy()}) as session:
        record(session, plans, whole)
        record(session, plans, parts, on_result=seen.append, should_stop=lambda: len(seen) == 2)
        assert len(parts.episodes) == 2
        kept = dict(parts.episodes)
        results = record(session, plans, parts)
        assert record(session, plans, parts) == []
    assert len(results) == 3
    assert all(parts.episodes[index] is episode for index, episode in kept.items())
    assert {i: e.digest() for i, e in parts.episodes.items()} == {i: e.digest() for i, e in whole.episodes.items()}


def test_an_episode_that_failed_is_played_again_on_resume(tmp_path):
    breaking = {"fail_at_step": 5, "accident_file": str(tmp_path / "accident")}
    writer = ListWriter()
    plans = [plan(i) for i in range(2)]
    with RolloutSession(options(env=breaking, num_stations=1), policies={"p": ScriptedPolicy()}) as session:
        record(session, plans, writer)
        assert set(writer.episodes) == {1}
        record(session, plans, writer)
    assert set(writer.episodes) == {0, 1}

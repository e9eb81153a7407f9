"""A stage that plays recorded episodes of an idle policy on the tabletop, and a client that plays the expert by jogs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from opentau.config import build
from opentau.control import HAND_BACK, JOG, JOGGED, TAKE_OVER, Command, LocalRunClient, RunClient
from opentau.events import COMMAND, STATION, TAKEOVER
from opentau.loop.run import StageWork, open_run
from opentau.rollout.options import RolloutOptions
from opentau.rollout.session import RolloutSession
from opentau.types import ActionChunk, Actor, Episode, EpisodePlan, EpisodeResult, Interface, PolicyRequest, derive_seed

MAX_STEPS = 600
TABLETOP = {"target": "envs.tabletop.environment:TabletopEnv", "args": {"image_size": 32, "max_steps": MAX_STEPS}}
EXPERT = {"target": "envs.experts.pick_place:PickPlaceExpert", "args": {}}
TASK = "tabletop/0"
ANSWER_S = 60.0
RENEW_S = 3.0


class IdlePolicy:
    """Does nothing, and takes its time to say so."""

    policy_version = "idle"
    action_horizon = 8

    def __init__(self, *, infer_s: float) -> None:
        self.interface = Interface.from_dict(build(TABLETOP).metadata["interface"])
        self._infer_s = infer_s

    def infer(self, requests: list[PolicyRequest]) -> list[ActionChunk]:
        time.sleep(self._infer_s)
        return [ActionChunk(actions=np.zeros((8, 7), np.float32), policy_version="idle") for _ in requests]


def plan(index: int = 0, **changes: Any) -> EpisodePlan:
    defaults: dict[str, Any] = {"task_id": TASK, "seed": 7 + index, "actor": Actor.POLICY, "policy_id": "p"}
    return EpisodePlan(index=index, episode_id=f"collect-1/{index:06d}", **(defaults | changes))


def play(
    run_dir: Path, plans: list[EpisodePlan], *, infer_s: float = 0.05, **opened: Any
) -> dict[str, tuple[EpisodeResult, Episode | None]]:
    """Play the plans in a stage of a run, steered as the loop steers its sessions; return what arrived."""
    arrived: dict[str, tuple[EpisodeResult, Episode | None]] = {}
    options = RolloutOptions(env=TABLETOP, tasks={TASK: {"task_id": 0}}, expert=EXPERT, num_stations=1, execute_horizon=8)

    def note(result: EpisodeResult, episode: Episode | None) -> None:
        arrived[result.plan.episode_id] = (result, episode)

    with open_run(run_dir, config={}, command="test", expected_s={"collect-1": 1.0}) as run:

        def work(work: StageWork) -> None:
            session = RolloutSession(
                options,
                policies={"p": IdlePolicy(infer_s=infer_s)},
                events=run.events,
                stage="collect-1",
                live_dir=run_dir / "live",
                on_poll=run.obey_commands,
            )
            with session, opened_to(run_dir, run, **opened):
                run.steering.stations = session.desk
                session.run(plans, on_episode=note)
            run.steering.stations = None

        run.steering.last_iteration = 1
        run.begin_iteration(1)
        run.stage("collect-1", iteration=1, inputs={}, work=work)
    return arrived


@contextmanager
def opened_to(run_dir: Path, run: Any, *, listen: Callable[..., Any] | None = None) -> Iterator[None]:
    """Let others come to the run meanwhile, where a test asks for it."""
    if listen is None:
        yield
        return
    with listen(run_dir, log=run.events):
        yield


class Scripted:
    """Sends commands and waits for what came of them, as a screen does."""

    def __init__(self, client: RunClient) -> None:
        self.client = client
        self.events: list[dict[str, Any]] = []
        self._renewed: float | None = None
        """When the lease was renewed last; None while nothing is asked for that needs it for long."""

    def wait_for(self, holds: Callable[[dict[str, Any]], bool], *, since: int = 0) -> dict[str, Any]:
        """Return the first event for which it holds, of those from `since` on."""
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            self.events += self.client.new_events()
            for event in self.events[since:]:
                if holds(event):
                    return event
            if self._renewed is not None and time.monotonic() - self._renewed > RENEW_S:
                self.client.renew()
                self._renewed = time.monotonic()
            time.sleep(0.005)
        raise AssertionError(f"nothing of the kind in {ANSWER_S:g} s; the last events: {self.events[-5:]}")

    def ask(self, verb: str, **args: Any) -> dict[str, Any]:
        """Send a command and return the event that tells its fate."""
        command, since = Command(verb=verb, args=args), len(self.events)
        self.client.send(command)
        fates = ("done", "refused", "repeated")
        return self.wait_for(
            lambda event: (
                event["kind"] == COMMAND and event.get("command_id") == command.command_id and event["state"] in fates
            ),
            since=since,
        )

    def station(self) -> str:
        """Return the station once it is there."""
        return str(self.wait_for(lambda event: event["kind"] == STATION and event["state"] == "connected")["station"])

    def take_over(self) -> tuple[str, int]:
        """Take the station over; return it and the step at which it is in hand."""
        station = self.station()
        self._renewed = time.monotonic()
        began = self.ask(TAKE_OVER, station=station)
        assert began["state"] == "done", began
        return station, int(began["tick"])

    def jog(self, station: str, action: np.ndarray, **args: Any) -> dict[str, Any]:
        rates = {name: float(rate) for name, rate in zip(JOGGED, action, strict=True)}
        return self.ask(JOG, station=station, **rates, **args)


def play_expert(scripted: Scripted, *, seed: int) -> tuple[int, list[np.ndarray], bool]:
    """Take over and do what the expert does on a copy of the scene; return first step, actions, and the copy's success."""
    env = build(TABLETOP, task_id=0)
    station, tick = scripted.take_over()
    env.reset(seed=derive_seed(seed, "env"))
    for _ in range(tick):
        env.advance(np.zeros(7, np.float32))
    expert = build(EXPERT, env)
    expert.start(seed=0, is_clean=True)
    actions, is_success = [], False
    while not is_success and len(actions) < 200:
        action = np.clip(expert.act(), -1.0, 1.0).astype(np.float32)
        told = scripted.jog(station, action)
        assert told["state"] == "done", told
        actions.append(action)
        _, is_success, _, _ = env.advance(action)
    env.close()
    return tick, actions, is_success


def main() -> None:
    """Take over, jog three times, say so, and go on renewing until somebody ends this process."""
    client = LocalRunClient(Path(sys.argv[1]), operator="anna", lease_s=8.0)
    scripted = Scripted(client)
    print("ready", flush=True)
    station, _ = scripted.take_over()
    for _ in range(3):
        scripted.jog(station, np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]))
    print("in hand", flush=True)
    while True:
        client.renew()
        time.sleep(0.3)


def hand_back(scripted: Scripted, station: str) -> dict[str, Any]:
    """Hand back and return the event that tells that nobody has it in hand any more."""
    assert scripted.ask(HAND_BACK, station=station)["state"] == "done"
    return scripted.wait_for(lambda event: event["kind"] == TAKEOVER and event["state"] == "ended")


if __name__ == "__main__":
    main()

"""The station program, `python -P -m robot_bridge.station resolved.yaml`: plays what the server assigns and uploads it.

It loads an environment, an expert, a supervisor and a perturbation, or a robot, its operator and its teleoperation device, by
`target`.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
import traceback
from collections import OrderedDict
from contextlib import closing
from pathlib import Path
from typing import NoReturn

from opentau.config import build
from opentau.errors import LinkError, OpenTauError, OptionError, StorageError, near_matches
from opentau.protocols import StepEnv
from opentau.types import EpisodePlan, EpisodeResult, Interface, Outcome, require_same_interface
from robot_bridge.config import StationConfig
from robot_bridge.parents import die_with_parent
from robot_bridge.playing.chunking import ChunkingOptions, DelayEstimate
from robot_bridge.playing.hands import Hands
from robot_bridge.playing.playback import PlaybackOptions
from robot_bridge.playing.player import EpisodePlayer
from robot_bridge.station_link import Dismissed, Refused, StationLink
from robot_bridge.wire.delivery import Fate
from robot_bridge.wire.images import DEFAULT_QUALITY
from robot_bridge.wire.link import Plane
from robot_bridge.wire.liveness import Silence
from robot_bridge.wire.messages import MAX_HEADER_BYTES, encode
from robot_bridge.wire.payloads import PlayedEpisode, upload_of
from robot_bridge.wire.spool import Spool
from robot_bridge.workcell.cell import make_workcell
from robot_bridge.workcell.robot_env import RobotEnv

EXIT_DONE, EXIT_LINK_LOST, EXIT_UNUSABLE = 0, 1, 2
"""Exit codes; a station that is unusable (options, rendering) would fail again, so nobody restarts it."""

DESCRIPTION = f"""Run a station: dial in to a server, play the episodes it assigns on the file's environment, deliver them.

`opentau serve` writes a file for every station it waits for. On another machine the same file does, where its env is.
  session, station_id                         whom to dial, and as whom; no two stations have one name
  control_endpoint, inference_endpoint
  env, tasks, expert, supervisor              what to load: target: "pkg.mod:Name", args: …
  robot, limits, operator, teleop             a robot in place of env, expert and supervisor (docs/robots.md)
  execute_horizon, delay_ticks, chunking      how chunks are played
  image_encoding: jpeg                        a tenth of the bytes, for links that are not loopback
  jpeg_quality: {DEFAULT_QUALITY}
  spool: FOLDER, reconnect_s: 600             keep finished episodes on disk until the server has them, and go on trying
                                              while it is away; spool_bytes limits the folder
  clock_interval_s: 0.5                       measure how far the server's clock is from ours
  answer_within_ms: 250                       do not have older requests answered
  statistics_id: ID                           play only policies that encode with these statistics
  telemetry_endpoint                          tell viewers how it goes

It ends with {EXIT_DONE} when it is dismissed, with {EXIT_LINK_LOST} when the server is lost or refuses it (start it again: what
is spooled is delivered), and with {EXIT_UNUSABLE} when options or environment are unusable."""

SPOOL_RETRY_S = 5.0
"""Time between two offers of an episode that no run expects."""

_MESSAGE_LENGTH = 2_000


class Station:
    """Environments by task, opened when first needed, and the players on them."""

    def __init__(self, config: StationConfig, link: StationLink, *, folder: Path = Path()) -> None:
        """`folder` is where the limits of a robot and what must be remembered of it lie; raises `OptionError`."""
        self._config = config
        self._link = link
        self._cell = make_workcell(config, folder=folder) if config.robot is not None else None
        self._hands = Hands(link, latch=self._cell.latch if self._cell else None)
        link.on_steer = self._hands.receive
        self._delay = DelayEstimate(start_ticks=config.delay_ticks, num_warm_up=self._chunking.num_warm_up)
        self._players: OrderedDict[str, tuple[StepEnv, EpisodePlayer]] = OrderedDict()
        self._interface: Interface | None = None
        self._spool = None if config.spool is None else Spool(Path(config.spool), max_bytes=config.spool_bytes)

    def open_task(self, task_id: str) -> EpisodePlayer:
        """Return the player of a task, building its environment and plug-ins if need be."""
        if task_id in self._players:
            self._players.move_to_end(task_id)
            return self._players[task_id][1]
        if task_id not in self._config.tasks:
            raise OptionError(f"this station has no task {task_id!r}.{near_matches(task_id, self._config.tasks)}")
        while len(self._players) >= self._config.max_open_envs:
            self._players.popitem(last=False)[1][0].close()
        self._link.keep_alive(is_building=True)
        env = self._make_env(task_id)
        interface = Interface.from_dict(env.metadata["interface"])
        if self._interface is None:
            self._interface = interface
        require_same_interface(policy=self._interface, station=interface, station_id=f"{self._config.station_id} ({task_id})")
        player = self._make_player(env)
        self._players[task_id] = (env, player)
        return player

    def introduce(self) -> None:
        """Open the first task and offer its interface to the server."""
        self.open_task(next(iter(self._config.tasks)))
        assert self._interface is not None, "opening a task sets the interface"
        self._link.hello(self._interface, limits_id=self._cell.limits.id if self._cell else "")

    def serve(self) -> NoReturn:
        """Play plan after plan until the server says goodbye (`Dismissed`); raises `LinkError` when it is gone."""
        while True:
            waits_s = SPOOL_RETRY_S if self._deliver_spooled() else math.inf
            plan = self._link.next_plan(within_s=waits_s)
            if plan is None or (self._spool is not None and self._spool.holds(plan.episode_id)):
                continue  # what is held is delivered, not played again
            played = self._play(plan)
            if self._spool is None:
                self._link.upload(played)
            else:
                self._keep(played)

    def come_back(self) -> bool:
        """Try to reach a server that went away, for as long as the configuration says, or longer for what no disk holds."""
        if self._spool is None or self._interface is None:
            return False
        waited = Silence()
        while waited.advance() <= self._config.reconnect_s or self._spool.has_unsaved:
            try:
                self._link.dial_again(self._interface)
            except Refused:
                raise
            except LinkError as error:
                print(error, file=sys.stderr, flush=True)
            else:
                return True
        return False

    def save_rest(self) -> None:
        """Wait until everything unsent is on the disk; the operator is told what it waits for."""
        while self._spool is not None and self._spool.has_unsaved:
            try:
                self._spool.save_rest()
            except StorageError as error:
                print(f"the station does not end yet: {error}", file=sys.stderr, flush=True)
                time.sleep(SPOOL_RETRY_S)

    def _keep(self, played: PlayedEpisode) -> None:
        """Spool an episode; where the disk takes nothing it stays in memory, and the station says so and goes on."""
        assert self._spool is not None, "stations without a spool upload at once"
        message, columns = upload_of(played, session=self._link.session)
        try:
            self._spool.add(played.result.plan.episode_id, encode(message, columns))
        except StorageError as error:
            print(error, file=sys.stderr, flush=True)

    def _deliver_spooled(self) -> bool:
        """Offer what waits, oldest first; return whether something is left."""
        if self._spool is None:
            return False
        for spooled in self._spool.waiting():
            delivered = self._link.deliver(spooled)
            if delivered.fate is Fate.TAKEN:
                self._spool.remove(spooled)
            elif delivered.fate is Fate.REFUSED:
                kept = self._spool.set_aside(spooled) or "nowhere"
                text = f"the server refuses episode {spooled.episode_id}: {delivered.text}. It is kept as {kept}"
                print(text, file=sys.stderr, flush=True)
        try:
            self._spool.save_rest()
        except StorageError as error:
            print(error, file=sys.stderr, flush=True)
        return bool(self._spool.waiting())

    def _play(self, plan: EpisodePlan) -> PlayedEpisode:
        try:
            played = self.open_task(plan.task_id).play(plan)
            if self._spool is None:
                _require_uploadable(played)
            return played
        except (Dismissed, LinkError):
            raise
        except Exception as error:  # noqa: BLE001  (the border to plug-ins: the episode fails, the station goes on)
            traceback.print_exc()
            self._drop(plan.task_id)
            return _failed(plan, error)

    def close(self) -> None:
        """Let go of the robot; simulators end with the process."""
        for env, _ in self._players.values() if self._cell else ():
            env.close()

    @property
    def _chunking(self) -> ChunkingOptions:
        return self._config.chunking or ChunkingOptions()

    def _make_env(self, task_id: str) -> StepEnv:
        args = self._config.tasks[task_id]
        if self._cell is None:
            return build(self._config.env, **args)
        env = RobotEnv(self._cell, task_id=task_id, on_wait=self._link.keep_alive, **args)
        self._link.health.hold_of = lambda: env.drive.hold_level.word
        return env

    def _make_player(self, env: StepEnv) -> EpisodePlayer:
        config = self._config
        inner = getattr(env, "unwrapped", env)
        interface = Interface.from_dict(env.metadata["interface"])
        return EpisodePlayer(
            env,
            expert=build(config.expert, inner) if config.expert else None,
            supervisor=build(config.supervisor, max_steps=env.max_steps) if config.supervisor else None,
            perturbation=build(config.perturbation) if config.perturbation else None,
            link=self._link,
            options=PlaybackOptions(
                execute_horizon=config.execute_horizon,
                delay_ticks=config.delay_ticks,
                chunking=self._chunking,
                is_step=interface.is_step,
                control_hz=interface.control_hz,
            ),
            takeover=config.takeover,
            delay=self._delay if self._cell else None,
            reports=config.chunking is not None,
            hands=self._hands,
            on_tick=self._link.keep_alive,
        )

    def _drop(self, task_id: str) -> None:
        """Forget an environment that failed; the next episode gets a fresh one."""
        env, _ = self._players.pop(task_id, (None, None))
        if env is not None:
            try:
                env.close()
            except Exception:  # noqa: BLE001  (what failed to play may fail to close)
                traceback.print_exc()


def _require_uploadable(played: PlayedEpisode) -> None:
    if played.episode is None:
        return
    num_bytes = sum(column.nbytes for column in played.episode.columns().values())
    limit = Plane.CONTROL.value.max_bytes - MAX_HEADER_BYTES
    if num_bytes > limit:
        raise OptionError(f"the recording has {num_bytes} bytes, the limit is {limit}; lower image_size or max_steps")


def _failed(plan: EpisodePlan, error: Exception) -> PlayedEpisode:
    message = f"{type(error).__name__}: {error}"[:_MESSAGE_LENGTH]
    result = EpisodeResult(
        plan=plan,
        outcome=Outcome.ERROR,
        num_steps=0,
        num_intervention_steps=0,
        policy_version="",
        digest="",
        message=message,
    )
    return PlayedEpisode(result=result, episode=None, prompt="", env_id="", num_clipped_actions=0)


def main() -> int:
    """Run a station until the server dismisses it."""
    file = _arguments().parse_args().file
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to everybody in the terminal; the parent decides
    try:
        config = StationConfig.load(file)
        die_with_parent(config.parent_pid)
        with StationLink(config) as link, closing(Station(config, link, folder=file.parent)) as station:
            return _run(station)
    except OpenTauError as error:
        print(error, file=sys.stderr)
        return EXIT_UNUSABLE


def _arguments() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(
        prog="python -P -m robot_bridge.station", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("file", type=Path, metavar="FILE.yaml", help="the station's configuration (StationConfig)")
    return arguments


def _run(station: Station) -> int:
    try:
        try:
            station.introduce()
        except (ValueError, RuntimeError) as error:  # the environment cannot be made: options, rendering
            print(error, file=sys.stderr)
            return EXIT_UNUSABLE
        return _serve(station)
    except Dismissed:
        station.save_rest()
        return EXIT_DONE
    except LinkError as error:
        print(error, file=sys.stderr)
        return EXIT_LINK_LOST


def _serve(station: Station) -> int:
    while True:
        try:
            station.serve()
        except Refused:
            raise
        except LinkError as error:
            print(error, file=sys.stderr, flush=True)
            if not station.come_back():
                return EXIT_LINK_LOST


if __name__ == "__main__":
    sys.exit(main())

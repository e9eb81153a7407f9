"""`opentau robot record`: demonstrations by a human's device, recorded as a LeRobot dataset."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from opentau.cli.robot_arguments import Lines
from opentau.cli.robot_workcell import check_plugins, compose_workcell, require_ours, workcell_parser
from opentau.config import build
from opentau.data.lerobot.writer import DatasetWriter
from opentau.errors import OptionError
from opentau.protocols import Robot
from opentau.types import Actor, Episode, EpisodePlan, Outcome
from robot_bridge.playing.playback import PlaybackOptions
from robot_bridge.playing.player import EpisodePlayer
from robot_bridge.wire.payloads import PlayedEpisode
from robot_bridge.workcell.cell import Workcell
from robot_bridge.workcell.clock import RealClock, Ticker
from robot_bridge.workcell.first_runs import FirstRuns
from robot_bridge.workcell.limits import Limits
from robot_bridge.workcell.robot_env import RobotEnv
from robot_bridge.workcell.stop import StopLatch
from robot_bridge.workcell.takeover import TakeoverOptions

DESCRIPTION = """Record demonstrations: a human's device moves the robot, and every episode is on disk before the next begins.
  opentau robot record arm.yaml --into demos/pick --prompt "pick up the cube" --episodes 50
  opentau robot record robot=so101 robot.args.port=… robot.args.calibration=follower.json limits=limits.yaml \\
      teleop=so101_leader teleop.args.port=… teleop.args.calibration=leader.json --into … --prompt … --episodes …

The same limits, ladder of holds and stop as in a run stand between device and robot. Enter starts an episode: the robot goes to
its start pose, if its limits have one, and then comes to the device, which is not recorded. Enter again ends it as a success, f
and Enter as a failure, d and Enter discards it, q and Enter stops. An interrupted recording goes on with the same command; the
dataset is finished after the last episode."""
APPROACH = TakeoverOptions(demonstrator_holds=True, moves_robot=True, align_speed=0.3)
_STOP = "q"
_VERDICTS = {"": Outcome.SUCCESS, "s": Outcome.SUCCESS, "f": Outcome.FAILURE, "d": Outcome.ABORTED, _STOP: Outcome.ABORTED}


class Demonstrator:
    """Whoever records, at the terminal: an `Operator` who types lines."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._is_asked = False
        self.wants_to_stop = False

    def prepare(self, plan: EpisodePlan) -> bool:
        """Return whether Enter was pressed since the question; raises `KeyboardInterrupt` for q."""
        if not self._is_asked:
            print(
                f"Episode {plan.index}: set the scene up, hold the device where the robot may go, and press Enter.",
                file=sys.stderr,
            )
            self._is_asked = True
        line = self._lines.newest()
        if line == _STOP:
            raise KeyboardInterrupt
        self._is_asked = line is None
        return line is not None

    def verdict(self, plan: EpisodePlan, *, tick: int) -> Outcome | None:
        """Return what the line that was typed says of the episode, or None."""
        line = self._lines.newest()
        self.wants_to_stop = self.wants_to_stop or line == _STOP
        return None if line is None else _VERDICTS.get(line)


def main(argv: Sequence[str]) -> int:
    """Record demonstrations."""
    arguments = workcell_parser("robot record", DESCRIPTION)
    arguments.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="the dataset, new or unfinished")
    arguments.add_argument("--prompt", required=True, help="the instruction, as a person would say it")
    arguments.add_argument("--episodes", type=int, required=True, help="how many the dataset shall have")
    arguments.add_argument("--task-id", default="real/0", help="the task's name in results (real/0)")
    arguments.add_argument("--seconds", type=float, default=60.0, help="an episode's longest time (60)")
    arguments.add_argument("--limits", type=Path, metavar="FILE", help="the robot's limits, in place of the workcell's")
    arguments.add_argument("--lossless", action="store_true", help="keep pictures as PNG, not as video: many times the size")
    options = arguments.parse_intermixed_args(argv)
    demonstrator = Demonstrator(lines := Lines())
    cell = _workcell(options.words, limits=options.limits, demonstrator=demonstrator)
    interface = cell.robot.interface
    max_steps = round(options.seconds * interface.control_hz)
    env = RobotEnv(cell, task_id=options.task_id, prompt=options.prompt, max_steps=max_steps)
    playback = PlaybackOptions(execute_horizon=1, delay_ticks=0, control_hz=interface.control_hz)
    player = EpisodePlayer(env, link=None, options=playback, takeover=APPROACH, on_tick=lambda: None)
    writer = DatasetWriter(
        options.into,
        interface=interface,
        fps=round(interface.control_hz),
        robot_type=cell.robot.robot_type,
        env_id=env.env_id,
        video_cameras=[] if options.lossless else list(interface.cameras),
    )
    with contextlib.ExitStack() as stack:
        cell.connect()
        stack.callback(_switch_off, cell, lines)
        for index in sorted(set(range(options.episodes)) - writer.recorded()):
            played, episode = _record_one(player, demonstrator, index=index, task_id=options.task_id)
            writer.add(index, episode)
            print(json.dumps({"episode": index, **_summary(played, episode)}), flush=True)
    writer.finish()
    print(options.into)
    return 0


def _workcell(words: Sequence[str], *, limits: Path | None, demonstrator: Demonstrator) -> Workcell:
    workcell = compose_workcell(words, needs=("robot", "teleop"))
    require_ours(workcell.plain, "record")
    check_plugins(workcell.plain)
    named = workcell.plain.get("limits")
    if limits is None and not named:
        raise OptionError(f"{workcell.where} names no limits, and a robot does not move without; set limits=FILE")
    robot: Robot = build(workcell.plain["robot"])
    latch = StopLatch()
    latch.listen()
    return Workcell(
        robot=robot,
        limits=Limits.load(limits or workcell.folder / str(named)),
        ticker=Ticker(RealClock(), hz=robot.interface.control_hz),
        latch=latch,
        first_runs=FirstRuns(None),
        operator=demonstrator,
        teleop=build(workcell.plain["teleop"], interface=robot.interface),
    )


def _record_one(
    player: EpisodePlayer, demonstrator: Demonstrator, *, index: int, task_id: str
) -> tuple[PlayedEpisode, Episode]:
    """Record until an episode is kept; returns how it was played, and the part of it that a human moved the robot in."""
    plan = EpisodePlan(index=index, episode_id=f"demonstrations/{index:06d}", task_id=task_id, seed=index, actor=Actor.EXPERT)
    while True:
        played = player.play(plan)
        if demonstrator.wants_to_stop:
            raise KeyboardInterrupt
        episode = None if played.episode is None else without_approach(played.episode)
        if episode is not None and episode.outcome is not Outcome.ABORTED:
            return played, episode
        why = played.result.message or "nobody moved the robot: hold the device where it may go"
        print(f"episode {index} is not kept: {why}", file=sys.stderr, flush=True)


def without_approach(episode: Episode) -> Episode | None:
    """Return an episode from the first frame on in which a human moved the robot; None where there is none."""
    moved = np.flatnonzero(~episode.is_held)
    if not len(moved):
        return None
    start = int(moved[0])
    columns = ("state", "action", "policy_action", "executed_action", "source", "reward", "value", "sim_state")
    return dataclasses.replace(
        episode,
        images={camera: pixels[start:] for camera, pixels in episode.images.items()},
        robot={name: column[start:] for name, column in episode.robot.items()},
        **{name: getattr(episode, name)[start:] for name in columns},
    )


def _summary(played: PlayedEpisode, episode: Episode) -> dict[str, object]:
    timing = played.report.timing if played.report else None
    return {
        "outcome": episode.outcome.value,
        "steps": len(episode),
        "late_steps": timing.num_missed if timing else 0,
        "clipped_steps": int(np.count_nonzero(episode.robot["clip_mask"].any(axis=1))),
        "max_age_ms": round(float(episode.robot["obs_age_ms"].max())),
    }


def _switch_off(cell: Workcell, lines: Lines) -> None:
    """Switch the robot off once somebody holds it; at the end of the input at once."""
    try:
        with contextlib.suppress(KeyboardInterrupt):
            lines.ask("Hold the arm: pressing Enter switches its power off.")
        cell.relax()
    finally:
        cell.close()

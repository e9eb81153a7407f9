"""A human's devices: keys of a real terminal and events of a joystick become actions, takeovers and labels."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from opentau.errors import OptionError, RobotError
from opentau.types import Actor, EpisodePlan, Interface, Outcome
from robot_bridge.teleops.gamepad import AXIS, BUTTON, EVENT, INITIAL, GamepadTeleop
from robot_bridge.teleops.jogging import LEAD_S, Jog
from robot_bridge.teleops.keyboard import KeyboardTeleop
from robot_bridge.teleops.recorded import RecordedTeleop
from robot_bridge.teleops.terminal import Terminal as Reader

JOINTS = ("pan.pos", "lift.pos", "gripper.pos")
STATE = np.array([10.0, -5.0, 50.0], np.float32)


def arm(action_space: str = "absolute_joint", names: tuple[str, ...] = JOINTS) -> Interface:
    units = tuple("deg" for _ in names)
    return Interface(
        cameras={}, state_names=names, state_units=units, action_names=names, action_units=units,
        action_space=action_space, control_hz=30.0,
    )  # fmt: skip


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Terminal:
    """A person's end of a pseudo-terminal, and the keyboard device on the other."""

    def __init__(self, **options: object) -> None:
        self.person, self.station = pty.openpty()
        self.clock = Clock()
        terminal = Reader(self.station, now=self.clock)
        self.teleop = KeyboardTeleop(interface=arm(), terminal=terminal, now=self.clock, **options)

    def type(self, keys: str) -> None:
        os.write(self.person, keys.encode())


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    terminal.teleop.connect()
    yield terminal
    terminal.teleop.close()
    os.close(terminal.person)
    os.close(terminal.station)


def test_a_key_moves_its_joint_from_where_the_robot_is(terminal: Terminal) -> None:
    terminal.type("q")
    assert terminal.teleop.wants_control()
    np.testing.assert_allclose(terminal.teleop.act(STATE), [11.0, -5.0, 50.0])  # 30 degrees a second at 30 Hz
    terminal.type("d")
    np.testing.assert_allclose(terminal.teleop.act(STATE), [12.0, -5.0, 49.0])


def test_a_joint_stops_when_its_key_repeats_no_more(terminal: Terminal) -> None:
    terminal.type("w")
    terminal.teleop.act(STATE)
    terminal.clock.now_s += 0.5
    np.testing.assert_allclose(terminal.teleop.act(STATE), [10.0, -4.0, 50.0])
    assert terminal.teleop.wants_control()


def test_the_human_lets_go_by_pausing_or_by_enter(terminal: Terminal) -> None:
    assert not terminal.teleop.wants_control()
    terminal.type("a")
    assert terminal.teleop.wants_control()
    terminal.clock.now_s += 2.1
    assert not terminal.teleop.wants_control()
    terminal.type("a\n")
    assert not terminal.teleop.wants_control()
    terminal.type("q")
    assert terminal.teleop.wants_control()
    np.testing.assert_allclose(terminal.teleop.act(STATE + 1), [12.0, -4.0, 51.0])  # afresh from the new pose


@pytest.mark.parametrize(("key", "outcome"), [("+", Outcome.SUCCESS), ("-", Outcome.FAILURE), ("x", Outcome.ABORTED)])
def test_labels_are_told_once(terminal: Terminal, key: str, outcome: Outcome) -> None:
    terminal.type(key)
    assert terminal.teleop.verdict() is outcome
    assert terminal.teleop.verdict() is None
    assert not terminal.teleop.wants_control()


def test_the_terminal_is_given_back_as_it_was() -> None:
    import termios

    terminal = Terminal()
    before = termios.tcgetattr(terminal.station)
    terminal.teleop.connect()
    assert termios.tcgetattr(terminal.station) != before
    terminal.teleop.close()
    assert termios.tcgetattr(terminal.station) == before


def test_without_a_terminal_the_keyboard_says_what_to_do() -> None:
    end, other = os.pipe()
    with pytest.raises(RobotError, match="start the station in one"):
        KeyboardTeleop(interface=arm(), terminal=Reader(end)).connect()
    os.close(end)
    os.close(other)


def test_the_space_bar_stops_the_robot_and_only_another_key_lets_it_go_on(terminal: Terminal) -> None:
    terminal.type("q ")
    assert (terminal.teleop.wants_stop(), terminal.teleop.wants_stop()) == (True, False)
    assert not terminal.teleop.wants_rearm()
    terminal.type("!")
    assert terminal.teleop.wants_rearm()


def test_too_many_dimensions_for_the_keys_are_refused() -> None:
    with pytest.raises(RobotError, match="at most 8 dimensions, this robot has 9"):
        KeyboardTeleop(interface=arm(names=tuple(f"j{number}" for number in range(9))))


def test_the_target_never_runs_far_ahead_of_a_blocked_robot() -> None:
    jog = Jog(interface=arm(), speed=30.0)
    for _ in range(100):
        action = jog.act(STATE, rate_A=np.array([1.0, 0.0, -1.0]))
    np.testing.assert_allclose(action, STATE + 30.0 * LEAD_S * np.array([1.0, 0.0, -1.0]))


def test_where_actions_are_changes_the_gripper_keeps_its_last_command() -> None:
    jog = Jog(interface=arm("delta_ee", ("dx", "dy", "gripper")), speeds={"dy": 0.25})
    np.testing.assert_allclose(jog.act(STATE, rate_A=np.array([1.0, -1.0, 1.0])), [0.5, -0.25, 1.0])
    np.testing.assert_allclose(jog.act(STATE, rate_A=np.zeros(3)), [0.0, 0.0, 1.0])
    np.testing.assert_allclose(jog.act(STATE, rate_A=np.array([0.0, 0.0, -0.3])), [0.0, 0.0, -1.0])


class Pad:
    """A joystick device whose events a test writes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "js0"
        os.mkfifo(self.path)
        self.teleop = GamepadTeleop(interface=arm(), device=str(self.path), speed=30.0)
        self.teleop.connect()
        self.file = os.open(self.path, os.O_WRONLY)

    def send(self, kind: int, number: int, value: int) -> None:
        os.write(self.file, EVENT.pack(0, value, kind, number))


@pytest.fixture
def pad(tmp_path: Path) -> Iterator[Pad]:
    pad = Pad(tmp_path)
    yield pad
    pad.teleop.close()
    os.close(pad.file)


def test_the_gamepad_acts_only_while_its_dead_man_button_is_held(pad: Pad) -> None:
    pad.send(BUTTON | INITIAL, 4, 0)
    assert not pad.teleop.wants_control()
    pad.send(BUTTON, 4, 1)
    assert pad.teleop.wants_control()
    pad.send(BUTTON, 4, 0)
    assert not pad.teleop.wants_control()


def test_sticks_move_joints_and_their_dead_zone_does_not(pad: Pad) -> None:
    pad.send(AXIS, 0, 32767)
    pad.send(AXIS, 1, -32767)  # pushed away from the person
    pad.send(AXIS, 4, 3000)
    np.testing.assert_allclose(pad.teleop.act(STATE), [11.0, -4.0, 50.0], atol=1e-4)


def test_buttons_label_but_their_first_report_does_not(pad: Pad) -> None:
    pad.send(BUTTON | INITIAL, 0, 1)
    assert pad.teleop.verdict() is None
    pad.send(BUTTON, 1, 1)
    assert pad.teleop.verdict() is Outcome.FAILURE
    assert pad.teleop.verdict() is None


def test_back_stops_and_start_rearms(pad: Pad) -> None:
    pad.send(BUTTON, 6, 1)
    assert (pad.teleop.wants_stop(), pad.teleop.wants_stop(), pad.teleop.wants_rearm()) == (True, False, False)
    pad.send(BUTTON, 7, 1)
    assert pad.teleop.wants_rearm()


def test_a_missing_gamepad_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RobotError, match="cannot be opened: No such file"):
        GamepadTeleop(interface=arm(), device=str(tmp_path / "js9")).connect()


def plan(seed: int) -> EpisodePlan:
    return EpisodePlan(index=0, episode_id=f"e/{seed}", task_id="arm/0", seed=seed, actor=Actor.POLICY, policy_id="p")


def play(teleop: RecordedTeleop, *, num_ticks: int, aligned_after: int = 0) -> dict[int, np.ndarray]:
    """Return what the device asked for, by tick, of a robot that takes so many ticks to come to it."""
    asked, num_held = {}, 0
    for tick in range(num_ticks):
        num_held = num_held + 1 if teleop.wants_control() else 0
        if num_held > 1 + aligned_after:  # the first tick pauses the policy
            asked[tick] = teleop.act(STATE)
    return asked


def test_a_recorded_motion_is_played_once_the_robot_has_come_to_it_and_in_every_episode_anew(tmp_path: Path) -> None:
    motion = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.save(tmp_path / "m.npy", motion)
    teleop = RecordedTeleop(interface=arm(), motions=[str(tmp_path / "m.npy")], at_ticks=[4, 30], patience_ticks=10)
    for seed in (1, 2):
        teleop.start(plan(seed))
        assert teleop.pose() is None
        asked = play(teleop, num_ticks=12, aligned_after=3)
        assert list(asked) == [8, 9, 10, 11]
        np.testing.assert_array_equal(np.stack(list(asked.values())), motion[:4])
        np.testing.assert_array_equal(teleop.pose(), motion[4])


def test_a_robot_that_does_not_come_to_the_motion_is_let_go(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((5, 3), np.float32))
    teleop = RecordedTeleop(interface=arm(), motions=[str(tmp_path / "m.npy")], at_ticks=[2], patience_ticks=10)
    teleop.start(plan(1))
    held = [teleop.wants_control() for _ in range(30)]
    assert np.flatnonzero(held).tolist() == list(range(2, 13))


def test_the_episodes_seed_chooses_among_motions(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.npy" for number in range(3)]
    for number, file in enumerate(files):
        np.save(file, np.full((2, 3), number, np.float32))
    teleop = RecordedTeleop(interface=arm(), motions=[str(file) for file in files], at_ticks=[0])

    def chosen(seed: int) -> int:
        teleop.start(plan(seed))
        assert teleop.wants_control()
        return int(teleop.pose()[0])

    assert {chosen(seed) for seed in range(30)} == {0, 1, 2}
    assert [chosen(seed) for seed in range(10)] == [chosen(seed) for seed in range(10)]


def test_what_is_no_motion_of_the_robot_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.full((5, 3), np.nan, np.float32))
    np.save(tmp_path / "wide.npy", np.zeros((5, 4), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    for name in ("m.npy", "wide.npy", "objects.npy", "absent.npy"):
        with pytest.raises(OptionError, match="motion"):
            RecordedTeleop(interface=arm(), motions=[str(tmp_path / name)], at_ticks=[0])
    with pytest.raises(OptionError, match="at least one"):
        RecordedTeleop(interface=arm(), motions=[], at_ticks=[0])

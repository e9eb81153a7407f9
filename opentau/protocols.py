"""The plug-in points: what a policy, an environment, an expert, a supervisor and an episode source must offer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from opentau.types import ActionChunk, Episode, EpisodePlan, Interface, Outcome, PolicyRequest, Reading


class Policy(Protocol):
    """Answers observations with action chunks; an answer depends on the request, and at most on its episode's earlier ones."""

    interface: Interface
    action_horizon: int
    policy_version: str

    def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        """Return one chunk per request; each is bit-equal whatever else is in the batch."""
        ...


@runtime_checkable
class NormalisingPolicy(Policy, Protocol):
    """A policy that says with which statistics it encodes states and actions."""

    @property
    def statistics_id(self) -> str: ...


@runtime_checkable
class ContinuingPolicy(Policy, Protocol):
    """A policy that says how many committed actions it continues; one that does not say takes any number."""

    @property
    def max_committed(self) -> int: ...


class Critic(Protocol):
    """Scores observations for a supervisor while a policy is deployed."""

    def values(self, requests: Sequence[PolicyRequest]) -> np.ndarray:
        """Return float32 [B] in [-1, 0]."""
        ...


@runtime_checkable
class StepEnv(Protocol):
    """A gymnasium environment with our observation dict, plus physics and pixels as separate calls.

    Observations are ``{"images": {camera: uint8 [Y, X, 3]}, "state": float32 [S]}``; ``step`` is ``advance`` followed by
    ``observe``. ``metadata["interface"]`` is the plain dict of `Interface`.
    """

    metadata: dict[str, Any]
    prompt: str
    task_id: str
    env_id: str
    max_steps: int
    num_initial_states: int

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        """Start an episode; ``options={"initial_state": i}`` picks an official state, else the seed draws one."""
        ...

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict]:
        """Play one control step without rendering: reward, terminated (success), truncated, info."""
        ...

    def observe(self) -> dict[str, Any]:
        """Return the current observation in fresh arrays."""
        ...

    def get_state(self) -> np.ndarray:
        """Return the full simulator state, float64 [N]."""
        ...

    def set_state(self, state: np.ndarray) -> None:
        """Restore what `get_state` returned; the step counter is not part of it."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class GroundedEnv(StepEnv, Protocol):
    """An environment that also tells what is true of its scene: the source of visual questions with certain answers."""

    def ground_truth(self) -> dict[str, Any]:
        """Return what holds now, as plain data.

        - objects: {key: {name: as a person would call it, group: plural of its kind or "", position: [x, y, z] m, is_movable}}
        - cameras: {camera: {key: {box: [y_min, x_min, y_max, x_max] in [0, 1] of the observation's image, share: of its
          pixels}}} of the objects that show, with what hides them taken into account
        - held: key of the object in the gripper and supported by nothing else, or None; touched: keys that a finger touches
        - places: [["in" | "on", key]] that objects can lie in or on; relations: [["in" | "on", key, key of the place]]
        """
        ...


@runtime_checkable
class DrawingEnv(StepEnv, Protocol):
    """An environment that says itself what makes its pixels; of one that does not, our renderer does."""

    rendering: str


class Expert(Protocol):
    """Acts on privileged state: gives demonstrations and stands in for the human who intervenes."""

    phase: str
    """What it is doing now, in words ('reach', 'grasp', …)."""

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Plan from the environment's current state; style (pace, pauses, sloppy grasps) from the seed unless clean."""
        ...

    def act(self) -> np.ndarray:
        """Return the next action, float32 [A] within the action space."""
        ...


@runtime_checkable
class NarratingExpert(Expert, Protocol):
    """An expert that says what it acts on, so that its phases can be put into words."""

    @property
    def subject(self) -> str:
        """The object that it moves, as a key of the environment's `ground_truth()["objects"]`."""
        ...

    @property
    def destination(self) -> str:
        """What it brings the object to: such a key, or the name of a place that is no object."""
        ...

    @property
    def relation(self) -> str:
        """'in' or 'on' the destination."""
        ...


class Perturbation(Protocol):
    """Disturbs what a demonstrating expert does, so that demonstrations show recoveries."""

    def start(self, *, seed: int) -> None: ...

    def apply(self, action: np.ndarray) -> np.ndarray:
        """Return the action to execute, float32 [A]."""
        ...


class Supervisor(Protocol):
    """Decides when the expert takes over and when it hands back."""

    def start(self, plan: EpisodePlan) -> None: ...

    def wants_control(self, *, tick: int, state: np.ndarray, value: float | None, is_intervening: bool) -> bool:
        """Return whether the expert should act in this control step."""
        ...


class Robot(Protocol):
    """Hardware in real time; no call waits longer than a control step, except `connect`.

    What limits its motion is not here but around it: a robot executes what it is given.
    """

    interface: Interface
    robot_type: str
    """For example 'so101'; the dataset's word for it."""

    def connect(self) -> None:
        """Open the hardware and hold the present pose; raises `RobotError` that names the part and the fix."""
        ...

    def read(self) -> Reading:
        """Return the newest state and images with their ages; raises `RobotError` for a part that does not answer."""
        ...

    def command(self, action: np.ndarray) -> None:
        """Send targets, float32 [A] in the units of the interface, and return at once."""
        ...

    def hold(self) -> None:
        """Take the present pose as the target."""
        ...

    def relax(self) -> None:
        """Switch the actuators' power off, whatever else is broken."""
        ...

    def close(self) -> None:
        """Let go of the hardware; the pose is held unless `relax` was called."""
        ...


class Teleop(Protocol):
    """A human's hands: keyboard, gamepad, leader arm."""

    def connect(self) -> None: ...

    def wants_control(self) -> bool:
        """Return whether the human holds the device's dead-man switch."""
        ...

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the human's action for a robot in this state, float32 [A] in the units of the interface."""
        ...

    def pose(self) -> np.ndarray | None:
        """Return where the device itself is, float32 [S], for alignment before a takeover; None for one without a pose."""
        ...

    def verdict(self) -> Outcome | None:
        """Return how the human says the episode ended, once, or None."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class ScriptedTeleop(Teleop, Protocol):
    """A device that a program plays in place of a human: in tests, rehearsals and simulations."""

    def start(self, plan: EpisodePlan) -> None:
        """Learn which episode begins; what is random comes from its seed."""
        ...


class Operator(Protocol):
    """Whoever looks after a robot between episodes and says what came of them."""

    def prepare(self, plan: EpisodePlan) -> bool:
        """Set the scene up for an episode; polled until it returns True."""
        ...

    def verdict(self, plan: EpisodePlan, *, tick: int) -> Outcome | None:
        """Return the outcome once it is known, in the middle of an episode or after its last step."""
        ...


class EpisodeSource(Protocol):
    """A dataset as training sees it."""

    interface: Interface

    def __len__(self) -> int:
        """Return the number of episodes."""
        ...

    def load(self, index: int) -> Episode: ...

    def __iter__(self) -> Iterator[Episode]: ...


class Plugin(Protocol):
    """What every group yaml holds: an importable target and its arguments."""

    target: str
    args: Mapping[str, Any]

"""The words that every part of OpenTau shares: observations, chunks, episodes, plans and interfaces; numpy at most."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from opentau.errors import InterfaceMismatch

# Shapes: T control steps of an episode, H predicted actions of a chunk, A action dimensions, S state dimensions,
# N numbers of a simulator state, Y and X image rows and columns.


GRIPPER_WORDS = ("grip", "jaw", "claw")
"""In the names of actions that open and close: these are targets in every action space."""


class Source(enum.IntEnum):
    """Who commanded a frame."""

    DEMONSTRATION = 0
    AUTONOMOUS = 1
    INTERVENTION = 2


class Outcome(enum.StrEnum):
    """How an episode ended; `TIMEOUT` counts as a failure everywhere."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    ABORTED = "aborted"
    ERROR = "error"


class Phase(enum.IntEnum):
    """Who has a robot in hand, frame by frame."""

    AUTONOMOUS = 0
    PAUSED = 1
    """It holds: a human has taken over and not begun to move it, or has let go of it."""
    ALIGN = 2
    """It and the human's device come to the same pose."""
    HUMAN = 3
    RESUME = 4
    """It holds until the policy has planned afresh."""


CLIP_MASK = "clip_mask"
ROBOT_COLUMNS = {CLIP_MASK: "uint8", "fsm_state": "int8", "hold_level": "int8", "obs_age_ms": "float32"}
"""What only robots record of each frame (`Episode.robot`), and as what.

clip_mask [T, A]: which limits changed each dimension of the action, bits of `robot_bridge.workcell.safety.Clip`; fsm_state
[T]: `Phase`; hold_level [T]: how far down the ladder of holds the robot was, 0 where it moved as asked (`safety.Hold` there);
obs_age_ms [T]: age of the oldest part of the observation when it was read.
"""


class Actor(enum.StrEnum):
    """Who is planned to act in an episode."""

    POLICY = "policy"
    EXPERT = "expert"


class Indicator(enum.IntEnum):
    """Advantage indicator of a training sample or of a served policy (π*0.6, arXiv:2511.14759, section IV)."""

    ABSENT = -1
    NEGATIVE = 0
    POSITIVE = 1


class Fallback(enum.StrEnum):
    """What stands in for a chunk that a policy said in action tokens which spell none."""

    HELD = "held"
    """The rest of the episode's last chunk, then its last action."""
    DRAWN = "drawn"
    """A chunk drawn by the flow, where there is nothing to hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a policy sees at one control step."""

    images: Mapping[str, np.ndarray]
    """Camera name to uint8 [Y, X, 3], RGB, upright."""
    state: np.ndarray
    """Proprioception, float32 [S], in the units of the interface."""
    prompt: str
    """The instruction, as a person would say it."""
    time_s: float
    """Time since the episode began, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a robot's sensors said last."""

    state: np.ndarray
    """Proprioception, float32 [S], in the units of the interface."""
    state_age_s: float
    """Time since it was measured, seconds."""
    images: Mapping[str, np.ndarray]
    """Camera name to uint8 [Y, X, 3], RGB, upright."""
    image_ages_s: Mapping[str, float]
    """Camera name to the time since its exposure, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionChunk:
    """A policy's answer to one observation."""

    actions: np.ndarray
    """float32 [H, A], in the units of the interface."""
    policy_version: str
    """Id of the checkpoint that answered."""
    value: float | None = None
    """The critic's value of the observation in [-1, 0], where a critic is served beside the policy."""
    subtask: str = ""
    """What the policy said comes next, and acts on; '' where it says nothing."""
    fallback: Fallback | None = None
    """What this stands in for, where the policy's own answer could not be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRequest:
    """One row of an inference batch; the answer is a function of this, and at most of what the episode asked before."""

    observation: Observation
    episode_seed: int
    tick: int
    """Control step of the observation; flow noise is drawn from (episode_seed, tick)."""
    prefix: np.ndarray | None = None
    """Committed actions that will play before the answer arrives, float32 [d, A], d < H; None when d = 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodePlan:
    """One numbered unit of rollout work: the episode is a function of this, the checkpoint and the environment."""

    index: int
    """Position in the plan, counted from zero; names the episode's file."""
    episode_id: str
    """Unique within a run, for example 'collect-1/000017'."""
    task_id: str
    """Task of the environment, for example 'libero_object/3'."""
    seed: int
    """Placement, flow noise, expert style, supervisor and perturbation all derive from it."""
    actor: Actor
    initial_state: int | None = None
    """Index of an official initial state; None draws the placement from `seed`."""
    policy_id: str = ""
    """Which served policy answers; empty for experts."""
    is_supervised: bool = False
    """Whether the supervisor may let the expert take over."""
    is_recorded: bool = True
    """Whether frames are kept; evaluation keeps the outcome only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResult:
    """What is known of a finished episode without its frames."""

    plan: EpisodePlan
    outcome: Outcome
    num_steps: int
    """Control steps played."""
    num_intervention_steps: int
    policy_version: str
    digest: str
    """sha256 over what happened (states and executed actions), independent of time, process and machine load."""
    message: str = ""
    """Why, for errors."""

    @property
    def is_success(self) -> bool:
        return self.outcome is Outcome.SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A recorded episode: columns of common length T and what is constant over it."""

    images: Mapping[str, np.ndarray]
    """Camera name to uint8 [T, Y, X, 3]; what the actor saw before acting."""
    state: np.ndarray
    """float32 [T, S]."""
    action: np.ndarray
    """What the acting agent commanded within limits: the training target, float32 [T, A]."""
    policy_action: np.ndarray
    """What the policy proposed, float32 [T, A]; NaN rows where no policy was asked."""
    executed_action: np.ndarray
    """What reached the environment, injected perturbations included, float32 [T, A]."""
    source: np.ndarray
    """`Source` per frame, int8 [T]."""
    reward: np.ndarray
    """float32 [T]; 1 at success, else 0."""
    value: np.ndarray
    """The served critic's value, float32 [T]; NaN where none was served."""
    sim_state: np.ndarray
    """Simulator state before each action, float64 [T, N]; N = 0 on robots."""
    prompt: str
    task_id: str
    outcome: Outcome
    seed: int
    episode_id: str
    env_id: str
    """Identity of environment, options and versions: the environment's part of the eval-spec id."""
    policy_version: str
    prompts: tuple[str, ...] = ()
    """Prompt per frame, T of them, where it changes within the episode; else empty, and `prompt` holds throughout."""
    subtasks: tuple[str, ...] = ()
    """Per frame what the acting agent was about, in words, '' where nobody said; empty where that is so throughout."""
    robot: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """What only robots record: all of `ROBOT_COLUMNS`; empty for simulators."""
    limits_id: str = ""
    """Hash of the limits that a robot moved within; '' for simulators."""

    def __post_init__(self) -> None:
        length = len(self.state)
        if self.robot or self.limits_id:
            self._check_robot_columns()
        for name in ("prompts", "subtasks"):
            count = len(getattr(self, name))
            if count not in (0, length):
                raise ValueError(f"episode {self.episode_id}: {count} {name} for {length} frames; give one each, or none")
        for name, column in self.columns().items():
            if len(column) != length:
                raise ValueError(
                    f"episode {self.episode_id}: column {name} has {len(column)} rows, the state has {length}; "
                    "all columns of an episode have one length"
                )

    def _check_robot_columns(self) -> None:
        kinds = {name: str(column.dtype) for name, column in self.robot.items()}
        if kinds != ROBOT_COLUMNS:
            raise ValueError(f"episode {self.episode_id}: a robot's columns are {ROBOT_COLUMNS}, these are {kinds}")
        if not self.limits_id:
            raise ValueError(f"episode {self.episode_id}: a robot's columns come with the id of the limits it moved within")
        for name, column in self.robot.items():
            shape = self.action.shape[1:] if name == CLIP_MASK else ()
            if column.shape[1:] != shape:
                raise ValueError(f"episode {self.episode_id}: column {name} is {column.shape}; it must be {('T', *shape)}")

    def __len__(self) -> int:
        return len(self.state)

    def columns(self) -> dict[str, np.ndarray]:
        """Every per-frame array by name; cameras as 'images.<name>'."""
        names = ("state", "action", "policy_action", "executed_action", "source", "reward", "value", "sim_state")
        columns = {name: getattr(self, name) for name in names} | dict(self.robot)
        return columns | {f"images.{camera}": pixels for camera, pixels in sorted(self.images.items())}

    @property
    def num_intervention_steps(self) -> int:
        return int(np.count_nonzero(self.source == Source.INTERVENTION))

    @property
    def is_held(self) -> np.ndarray:
        """Frames in which nobody moved the robot, bool [T]: it held for want of a plan, or a human paused or aligned it."""
        if self.robot:
            is_moved = np.isin(self.robot["fsm_state"], (Phase.AUTONOMOUS, Phase.HUMAN))
            return ~is_moved | (self.robot["hold_level"] > 0)
        # Recordings of others say of no frame what a policy proposed, nor which policy it was.
        return (self.source == Source.AUTONOMOUS) & np.isnan(self.policy_action).any(axis=1) & bool(self.policy_version)

    def digest(self) -> str:
        """Return a sha256 over all content; equal episodes have equal digests on any machine."""
        digest = hashlib.sha256()
        for name, column in self.columns().items():
            digest.update(f"{name}{column.dtype.str}{column.shape}".encode())
            digest.update(np.ascontiguousarray(column).tobytes())
        constants = (self.prompt, self.task_id, str(self.outcome), self.seed, self.episode_id, self.env_id, self.policy_version)
        digest.update(repr(constants).encode())
        if self.prompts or self.subtasks:
            digest.update(repr((self.prompts, self.subtasks)).encode())
        if self.limits_id:
            digest.update(self.limits_id.encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What an environment or robot offers to a policy; its hash is the station's half of the handshake."""

    cameras: Mapping[str, tuple[int, int, int]]
    """Camera name to (Y, X, 3)."""
    state_names: tuple[str, ...]
    state_units: tuple[str, ...]
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    action_space: str
    """'delta_ee', 'absolute_ee', 'delta_joint' or 'absolute_joint'."""
    control_hz: float

    def __post_init__(self) -> None:
        if len(self.state_names) != len(self.state_units) or len(self.action_names) != len(self.action_units):
            raise ValueError("an interface names one unit for every state and every action dimension")

    @property
    def state_dim(self) -> int:
        return len(self.state_names)

    @property
    def action_dim(self) -> int:
        return len(self.action_names)

    @property
    def is_step(self) -> tuple[bool, ...]:
        """Per action dimension, whether it is a step from where the robot is rather than a target; grippers have targets."""
        return tuple(self.action_space.startswith("delta") and not is_gripper(name) for name in self.action_names)

    def to_dict(self) -> dict[str, Any]:
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["cameras"] = {name: list(shape) for name, shape in sorted(self.cameras.items())}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Interface:
        """Build from an environment's `metadata["interface"]` or a message; unknown and missing keys are errors."""
        names = {field.name for field in dataclasses.fields(cls)}
        if set(plain) != names:
            raise ValueError(f"an interface has the keys {sorted(names)}, got {sorted(plain)}")
        return cls(
            cameras={name: (int(y), int(x), int(c)) for name, (y, x, c) in sorted(plain["cameras"].items())},
            state_names=tuple(plain["state_names"]),
            state_units=tuple(plain["state_units"]),
            action_names=tuple(plain["action_names"]),
            action_units=tuple(plain["action_units"]),
            action_space=str(plain["action_space"]),
            control_hz=float(plain["control_hz"]),
        )

    def hash(self) -> str:
        return content_hash(self.to_dict())


def is_gripper(name: str) -> bool:
    """Return whether an action's name says that it opens and closes something."""
    return any(word in name.lower() for word in GRIPPER_WORDS)


def require_same_interface(*, policy: Interface, station: Interface, station_id: str) -> None:
    """Raise `InterfaceMismatch` with a table of both sides unless the station offers what the policy was trained on.

    Cameras that the policy does not use are no mismatch; everything else is compared exactly.
    """
    rows = _interface_differences(policy, station)
    if rows:
        raise InterfaceMismatch(station_id=station_id, rows=rows)


def require_fit(
    *,
    policy: Interface,
    action_horizon: int,
    statistics_id: str,
    station: Interface,
    num_needed: int,
    wanted_statistics: str,
    station_id: str,
) -> None:
    """Compare both halves of the handshake: the interface exactly, and by rule what only the policy has.

    `action_horizon` actions of a chunk must cover the `num_needed` that are played of it, its delay included; where the
    station names the statistics that its numbers are encoded with, they must be the policy's ('' names none). Raises
    `InterfaceMismatch` with every difference.
    """
    rows = _interface_differences(policy, station)
    if action_horizon < num_needed:
        rows.append(("execute_horizon + delay_ticks", f"at most {action_horizon}, its action horizon", num_needed))
    if wanted_statistics and statistics_id != wanted_statistics:
        rows.append(("statistics id", statistics_id or "none", wanted_statistics))
    if rows:
        raise InterfaceMismatch(station_id=station_id, rows=rows)


def _interface_differences(policy: Interface, station: Interface) -> list[tuple[str, Any, Any]]:
    wanted, offered = policy.to_dict(), station.to_dict()
    rows: list[tuple[str, Any, Any]] = []
    for camera, shape in wanted.pop("cameras").items():
        cameras = offered["cameras"]
        if camera not in cameras:
            rows.append((f"cameras ({camera})", shape, "none of this name, but " + (", ".join(cameras) or "no camera at all")))
        elif shape != cameras[camera]:
            rows.append((f"cameras ({camera})", shape, cameras[camera]))
    for key, value in wanted.items():
        names = key.replace("_units", "_names")
        if value == offered[key]:
            continue
        if names != key and wanted[names] == offered[names]:
            both = zip(wanted[names], value, offered[key], strict=True)
            rows += [(f"{key} ({name})", ours, theirs) for name, ours, theirs in both if ours != theirs]
        else:
            rows.append((key, value, offered[key]))
    return rows


def content_hash(plain: Any) -> str:
    """Return the sha256 of plain data (dicts, lists, strings, numbers), independent of key order."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def derive_seed(seed: int, *path: str | int) -> int:
    """Return a seed for one purpose, e.g. ``derive_seed(episode_seed, "noise", tick)``; 63 bits, order matters."""
    digest = hashlib.blake2b(repr((int(seed), *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

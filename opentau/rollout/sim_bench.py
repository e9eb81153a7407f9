"""How fast an environment runs, and on what its time goes: physics, control, rendering, transport."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import zmq

from opentau.types import Observation, PolicyRequest
from robot_bridge.wire.messages import Obs, decode, encode
from robot_bridge.wire.payloads import request_arrays, request_from

STEPPING = ("mj_step", "mj_step1", "mj_step2", "mj_forward", "mj_fwdPosition")
"""MuJoCo's functions whose time counts as physics."""
HELD_TICKS, NUM_WARM_UP_STEPS = 5, 10
SHARES = ("physics", "control", "rendering", "transport")
NAME = "bench"
MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSpeed:
    """Of one environment in one process, rendering and sending every control step."""

    task_id: str
    num_steps: int
    seconds: Mapping[str, float]
    """By what they went on: 'physics' (inside MuJoCo), 'control' (the controller, checks and all else of a step), 'rendering'
    (images and state), 'transport' (an observation there and back over loopback, raw)."""

    @property
    def steps_per_s(self) -> float:
        return self.num_steps / sum(self.seconds.values())

    @property
    def steps_per_s_without_rendering(self) -> float:
        return self.num_steps / (self.seconds["physics"] + self.seconds["control"])

    def to_dict(self) -> dict[str, Any]:
        total = sum(self.seconds.values())
        return {
            "task_id": self.task_id,
            "steps": self.num_steps,
            "steps_per_s": self.steps_per_s,
            "steps_per_s_without_rendering": self.steps_per_s_without_rendering,
            "ms_per_step": {name: 1e3 * each / self.num_steps for name, each in self.seconds.items()},
            "shares": {name: each / total for name, each in self.seconds.items()},
        }


def measure(env: Any, *, num_steps: int, seed: int = 0, on_step: Callable[[int], None] = lambda done: None) -> SimSpeed:
    """Let a hand wander through an environment and time every part; episodes that end are begun anew, untimed."""
    actions = _wandering(env, seed)
    env.reset(seed=seed)
    seconds = dict.fromkeys(SHARES, 0.0)
    with _loopback() as send, _timed_physics() as physics_s:
        for step in range(-NUM_WARM_UP_STEPS, num_steps):
            in_physics = physics_s()
            began = time.perf_counter()
            _, is_terminated, is_truncated, _ = env.advance(next(actions))
            advanced = time.perf_counter()
            in_physics = physics_s() - in_physics
            observation = env.observe()
            observed = time.perf_counter()
            send(observation, env.prompt, max(0, step))
            sent = time.perf_counter()
            if step >= 0:
                parts = (in_physics, advanced - began - in_physics, observed - advanced, sent - observed)
                for name, part in zip(SHARES, parts, strict=True):
                    seconds[name] += part
                on_step(step + 1)
            if is_terminated or is_truncated:
                env.reset(seed=seed + max(0, step) + 1)
    return SimSpeed(task_id=env.task_id, num_steps=num_steps, seconds=seconds)


def _wandering(env: Any, seed: int) -> Iterator[np.ndarray]:
    """Yield actions that are drawn from the middle of the action space and held for a few ticks."""
    rng, space = np.random.default_rng(seed), env.action_space
    middle, half = (space.high + space.low) / 2, (space.high - space.low) / 2
    while True:
        action = (middle + 0.6 * half * rng.uniform(-1.0, 1.0, space.shape)).astype(np.float32)
        for _ in range(HELD_TICKS):
            yield action


@contextmanager
def _timed_physics() -> Iterator[Callable[[], float]]:
    """Time MuJoCo's stepping functions while this holds; what is yielded returns the seconds spent in them so far."""
    import mujoco  # optional package, extra 'sim'

    spent = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal spent
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                spent += time.perf_counter() - began

        return call

    own = {name: getattr(mujoco, name) for name in STEPPING}
    for name, function in own.items():
        setattr(mujoco, name, timed(function))
    try:
        yield lambda: spent
    finally:
        for name, function in own.items():
            setattr(mujoco, name, function)


@contextmanager
def _loopback() -> Iterator[Callable[[Mapping[str, Any], str, int], None]]:
    """Yield a function that sends an observation over loopback as a station does, raw, and reads it as a server does."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as near, context.socket(zmq.PAIR) as far:
        for socket in (near, far):
            socket.linger = 0
        far.connect(f"tcp://127.0.0.1:{near.bind_to_random_port('tcp://127.0.0.1')}")

        def send(observed: Mapping[str, Any], prompt: str, tick: int) -> None:
            observation = Observation(images=observed["images"], state=observed["state"], prompt=prompt, time_s=0.05 * tick)
            request = PolicyRequest(observation=observation, episode_seed=0, tick=tick)
            message = Obs(
                session=NAME, seq=tick, episode_id=NAME, policy_id=NAME, episode_seed=0, tick=tick, time_s=observation.time_s,
                prompt=prompt, wants_value=False,
            )  # fmt: skip
            near.send_multipart(encode(message, request_arrays(request)))
            if not far.poll(5_000):
                raise TimeoutError("an observation did not arrive over loopback within 5 s")
            arrived, arrays = decode(far.recv_multipart(), max_bytes=MAX_BYTES)
            assert isinstance(arrived, Obs)
            request_from(arrived, arrays)

        yield send

"""Somebody else's gymnasium environment as one of ours: named state and actions, official states, outcomes, identity."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.conventions import asked_initial_state, env_id, official_rng
from envs.gymnasium.pictures import SEPARATOR, mujoco_of, observed_pictures, open_pictures

# Shapes: S state dimensions, A action dimensions, V numbers of the environment's own observation without its pictures.

NUM_INITIAL_STATES = 50
OFFICIAL_ENTROPY = 20_261
"""Spawned seed sequences give the official states."""
MAX_SEED = 2**31
"""Environments that seed an older generator take no larger one."""
NUM_TRIED_STEPS = 3


class GymnasiumEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """One of several tasks that a function makes; every task has one interface.

    Observations are ``{"images": {camera: uint8 [Y, X, 3]}, "state": float32 [S]}``. An episode ends with its first success.
    """

    num_initial_states = NUM_INITIAL_STATES
    action_space: gymnasium.spaces.Box

    def __init__(
        self,
        *,
        tasks: Sequence[Mapping[str, Any]],
        task_id: int = 0,
        make: str = "gymnasium:make",
        suite: str = "gymnasium",
        cameras: Mapping[str, str] | None = None,
        image_size: int | None = None,
        shows_sites: bool = False,
        state_indices: Sequence[int] | None = None,
        state_names: Sequence[str] | None = None,
        state_units: Sequence[str] | None = None,
        action_names: Sequence[str] | None = None,
        action_units: Sequence[str] | None = None,
        action_space: str = "delta_ee",
        control_hz: float | None = None,
        success_key: str | None = None,
        max_steps: int | None = None,
    ) -> None:
        """Make a task of ``tasks = [{"prompt": …, "args": …}, …]`` by calling `make` ('package.module:function') with its args.

        - suite: names the environment in runs and tasks
        - cameras, image_size, shows_sites: see `open_pictures`; image_size None keeps the size of what is not drawn by us
        - state_indices: which V become the state, None for all; names and units default to numbers and ''
        - action_space, control_hz: as in an interface; control_hz None takes the environment's render_fps
        - success_key: what in `info` says that the task is done; None takes every termination for a success
        - max_steps: None takes the limit that the environment is registered with

        Raises ValueError for what is missing or does not fit, and for an environment that does not repeat itself under a seed.
        """
        if not 0 <= task_id < len(tasks):
            raise ValueError(f"task_id is {task_id}; tasks has {len(tasks)} entries, numbered from 0")
        task = dict(tasks[task_id])
        if set(task) - {"prompt", "args"} or not task.get("prompt"):
            raise ValueError(f"tasks[{task_id}] is {task}; it has a prompt, and args for {make}")
        self.prompt = str(task["prompt"])
        self.task_id = f"{suite}/{task_id}"
        self.make_args: dict[str, Any] = dict(task.get("args") or {})
        self.inner = _made(make, self.make_args, needs_render=not cameras)
        self.max_steps = _max_steps(self.inner, max_steps)
        self.action_space = _require_box(self.inner.action_space)
        self._success_key = success_key
        self._num_steps = 0
        self._pictures = open_pictures(self.inner, cameras=cameras or {}, image_size=image_size, shows_sites=shows_sites)
        self._picture_keys = observed_pictures(self.inner.observation_space)
        self.numbers = np.empty(0)
        """What the environment itself observed last, without pictures, float64 [V]."""
        self._observe_anew(self.inner.reset(seed=0)[0])
        self._indices = _indices(state_indices, count=len(self.numbers))
        images = self._pictures.draw(self._observed)
        (action_dim,) = self.action_space.shape
        interface = {
            "cameras": {camera: list(picture.shape) for camera, picture in sorted(images.items())},
            **_named("state", state_names, state_units, count=len(self._indices)),
            **_named("action", action_names, action_units, count=action_dim),
            "action_space": action_space,
            "control_hz": _control_hz(self.inner, control_hz),
        }
        self.metadata = {"render_modes": [], "interface": interface}
        self.rendering = self._pictures.origin
        """What makes the pixels."""
        self.env_id = env_id(
            task=self.task_id, prompt=self.prompt, make=make, args=self.make_args, interface=interface,
            cameras=dict(cameras or {}), shows_sites=shows_sites, state_indices=self._indices, success_key=success_key,
            max_steps=self.max_steps, versions=_versions(self.inner, make), pictures=self.rendering,
        )  # fmt: skip
        pixels: dict[str, gymnasium.Space[Any]] = {
            camera: gymnasium.spaces.Box(0, 255, picture.shape, np.uint8) for camera, picture in images.items()
        }
        state = gymnasium.spaces.Box(-np.inf, np.inf, (len(self._indices),), np.float32)
        self.observation_space = gymnasium.spaces.Dict({"images": gymnasium.spaces.Dict(pixels), "state": state})
        self._require_repeatable()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; ``options={"initial_state": i}`` picks an official state, else `seed` draws one.

        Official states are seeds too: of a stream of their own.
        """
        super().reset(seed=seed)
        index = asked_initial_state(options)
        count, entropy = NUM_INITIAL_STATES, OFFICIAL_ENTROPY
        rng = self.np_random if index is None else official_rng(index, count=count, entropy=entropy, family=self.task_id)
        self._begin(int(rng.integers(MAX_SEED)))
        return self.observe(), {"is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Play one control step and draw."""
        reward, terminated, truncated, info = self.advance(action)
        return self.observe(), reward, terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[float, bool, bool, dict[str, Any]]:
        """Play one control step without drawing: reward (1 at success), terminated, truncated, {is_success}."""
        action = np.asarray(action, np.float64)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(f"an action is {self.action_space.shape[0]} finite numbers, got {action}")
        action = np.clip(action, self.action_space.low, self.action_space.high).astype(self.action_space.dtype)
        observed, _, is_terminated, is_truncated, info = self.inner.step(action)
        self._observe_anew(observed)
        self._num_steps += 1
        is_success = self._is_success(is_terminated, info)
        is_over = bool(is_truncated) or self._num_steps >= self.max_steps
        return float(is_success), bool(is_terminated) or is_success, is_over, {"is_success": is_success}

    def observe(self) -> dict[str, Any]:
        """Return images and state in fresh arrays."""
        return {"images": self._pictures.draw(self._observed), "state": self.numbers[self._indices].astype(np.float32)}

    def get_state(self) -> np.ndarray:
        """Return what is known of the state, float64 [N]: MuJoCo's where the environment shows it, else what it observed."""
        found = mujoco_of(self.inner)
        if found is None:
            return self.numbers.copy()
        return importlib.import_module("envs.states").read_state(*found)  # imports mujoco, which need not be there

    def set_state(self, state: np.ndarray) -> None:
        """Refuse: what else an environment remembers (goals, counters) only it knows."""
        raise ValueError(f"{self.task_id} is a gymnasium environment, which cannot be put back into a recorded state")

    def close(self) -> None:
        """Free what draws, and the environment."""
        self._pictures.close()
        self.inner.close()

    def _begin(self, seed: int) -> None:
        self._observe_anew(self.inner.reset(seed=seed)[0])
        self._num_steps = 0

    def _observe_anew(self, observed: Any) -> None:
        self._observed = observed
        self.numbers = _numbers(self.inner.observation_space, observed, without=self._picture_keys)

    def _is_success(self, is_terminated: bool, info: Mapping[str, Any]) -> bool:
        if self._success_key is None:
            return bool(is_terminated)
        if self._success_key not in info:
            raise ValueError(f"success_key is {self._success_key!r}; after a step info has {sorted(info)}")
        return bool(info[self._success_key])

    def _require_repeatable(self) -> None:
        """Raise ValueError unless a seed and actions decide what is observed, whatever came before."""
        still = (self.action_space.low + self.action_space.high) / 2
        first, second = (self._tried(still) for _ in range(2))
        if not np.array_equal(first, second, equal_nan=True):
            raise ValueError(
                f"{self.task_id} does not repeat itself: after two resets with one seed it observed {first} and {second}. "
                "Resuming and comparing need that; have its reset(seed=…) decide everything, for example in a wrapper that "
                "`make` returns"
            )

    def _tried(self, action: np.ndarray) -> np.ndarray:
        """Return what the first steps after a reset with a fixed seed observe, float64 [steps + 1, V]."""
        self._begin(1)
        seen = [self.numbers]
        for _ in range(NUM_TRIED_STEPS):
            self.advance(action)
            seen.append(self.numbers)
        return np.array(seen)


def _made(make: str, args: Mapping[str, Any], *, needs_render: bool) -> gymnasium.Env[Any, Any]:
    try:
        function = pkgutil.resolve_name(make)
        is_gymnasiums = function is gymnasium.make
        own = {"disable_env_checker": True, **({"render_mode": "rgb_array"} if needs_render else {})} if is_gymnasiums else {}
        return function(**(own | dict(args)))
    except (ImportError, AttributeError, TypeError, gymnasium.error.Error) as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{make} cannot make {dict(args)} in Python {platform.python_version()}: {why}") from error


def _max_steps(env: gymnasium.Env[Any, Any], asked: int | None) -> int:
    registered = None if env.spec is None else env.spec.max_episode_steps
    limit = registered if asked is None else asked
    if limit is None or limit < 1:
        raise ValueError(f"max_steps is {asked}, and the environment is registered with {registered}; give 1 or more")
    return limit


def _control_hz(env: gymnasium.Env[Any, Any], asked: float | None) -> float:
    rate = env.metadata.get("render_fps") if asked is None else asked
    if not rate:
        raise ValueError("control_hz is not given, and the environment's metadata has no render_fps; give control_hz")
    return float(rate)


def _require_box(space: gymnasium.Space[Any]) -> gymnasium.spaces.Box:
    is_box = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)
    if not is_box or not np.isfinite([space.low, space.high]).all():  # type: ignore[attr-defined]
        raise ValueError(f"the action space is {space}; policies give a vector of numbers within finite bounds")
    return space  # type: ignore[return-value]


def _indices(asked: Sequence[int] | None, *, count: int) -> list[int]:
    indices = list(range(count)) if asked is None else [int(index) for index in asked]
    if not indices or not all(0 <= index < count for index in indices):
        raise ValueError(f"state_indices is {indices}; the environment observes {count} numbers")
    return indices


def _named(kind: str, names: Sequence[str] | None, units: Sequence[str] | None, *, count: int) -> dict[str, list[str]]:
    """Return {kind_names, kind_units}, by default numbers and ''."""
    given = {"names": names or [f"{kind}_{number}" for number in range(count)], "units": units or [""] * count}
    for word, values in given.items():
        if len(values) != count:
            raise ValueError(f"{kind}_{word} has {len(values)} entries, {list(values)}; there are {count} dimensions")
    return {f"{kind}_{word}": list(values) for word, values in given.items()}


def _numbers(space: gymnasium.Space[Any], observed: Any, *, without: Sequence[str]) -> np.ndarray:
    """Return an observation without its pictures as numbers, float64 [V]."""
    if isinstance(space, gymnasium.spaces.Dict):
        parts = []
        for key, part in space.spaces.items():
            inner = [path.partition(SEPARATOR)[2] for path in without if path.partition(SEPARATOR)[0] == key]
            parts.append(_numbers(part, observed[key], without=inner))
        return np.concatenate(parts) if parts else np.empty(0)
    if "" in without:
        return np.empty(0)
    return np.asarray(gymnasium.spaces.flatten(space, observed), np.float64).ravel()


def _versions(env: gymnasium.Env[Any, Any], make: str) -> dict[str, str]:
    """Return the versions of the Python and the packages that decide what an episode looks like."""
    classes = [kind.__module__ for kind in type(env.unwrapped).__mro__]
    modules = {name.partition(".")[0] for name in [*classes, make.partition(":")[0]]}
    if mujoco_of(env) is not None:
        modules.add("mujoco")
    installed = importlib.metadata.packages_distributions()
    packages = sorted({package for module in modules for package in installed.get(module, ())} | {"gymnasium", "numpy"})
    return {"python": platform.python_version(), **{package: importlib.metadata.version(package) for package in packages}}

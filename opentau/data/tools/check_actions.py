"""Checks of what actions mean: grippers that open where others close, absolute actions declared as deltas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from opentau.data.tools.findings import Finding, Severity, dimension_name, named_episodes
from opentau.types import GRIPPER_WORDS, Interface, is_gripper

# Shapes: T frames, S state dimensions, A action dimensions, L lags.

MAX_LAG_S = 0.5
"""A gripper follows its command within this time."""
CLEAR_CORRELATION = 0.5
"""Correlations below this say nothing about the sign."""
MIN_FRAMES = 10
"""Of an episode whose correlation counts."""
STATE_GRIPPER_WORDS = (*GRIPPER_WORDS, "finger")
WINDOW_S = 0.25
"""Deltas are compared with the state's change over this time, so that a slow controller does not hide them."""
EXPLAINED, UNEXPLAINED = 0.7, 0.3
"""Shares of the variance: one reading of the actions must reach the first while the other stays below the second."""
MIN_AGREEING = 2
"""Dimensions that must say so."""


class Grippers:
    """Compares the sign with which a gripper's opening follows its command, from episode to episode."""

    def __init__(self, interface: Interface, *, fps: float) -> None:
        self._interface = interface
        self._action_dims = _dims_with(interface.action_names, GRIPPER_WORDS)
        self._state_dims = _dims_with(interface.state_names, STATE_GRIPPER_WORDS)
        self._num_lags = max(1, round(MAX_LAG_S * fps)) + 1
        self._correlations: list[tuple[int, float]] = []

    def add(self, index: int, state_TS: np.ndarray, action_TA: np.ndarray) -> None:
        """Take in one episode; several grippers cannot be told apart and are left alone."""
        if len(self._action_dims) != 1 or not self._state_dims or len(state_TS) < MIN_FRAMES:
            return
        # Fingers that mirror each other have opposite signs; the opening is the sum of both distances.
        fingers_TF = state_TS[:, self._state_dims]
        opening_T = np.abs(fingers_TF).sum(axis=1) if len(self._state_dims) > 1 else fingers_TF[:, 0]
        correlation = _strongest_correlation(action_TA[:, self._action_dims[0]], opening_T, num_lags=self._num_lags)
        if abs(correlation) >= CLEAR_CORRELATION:
            self._correlations.append((index, correlation))

    def findings(self) -> Iterator[Finding]:
        if not self._correlations:
            return
        usual = float(np.sign(np.median([correlation for _, correlation in self._correlations])) or 1.0)
        odd = [(index, correlation) for index, correlation in self._correlations if correlation * usual < 0]
        dimension = dimension_name("action", self._action_dims[0], self._interface.action_names)
        if odd:
            episodes = tuple(index for index, _ in odd)
            yield Finding(
                severity=Severity.ERROR,
                code="inverted-gripper",
                text=f"{dimension} moves the gripper the other way in {named_episodes(episodes)}: correlation "
                f"{odd[0][1]:+.2f} with its state, {usual * self._median():+.2f} in most episodes",
                fix="Turn the sign of these episodes' gripper actions, or leave them out with --exclude.",
                episodes=episodes,
                dimension=dimension,
            )
        expected = self._expected_sign()
        if expected and expected != usual:
            yield Finding(
                severity=Severity.WARNING,
                code="gripper-convention",
                text=f"{dimension} {'closes' if usual < 0 else 'opens'} the gripper where it grows (correlation "
                f"{usual * self._median():+.2f}), its name or unit says it {'opens' if usual < 0 else 'closes'} it",
                fix="Correct the name, or turn the sign before mixing with other datasets.",
                dimension=dimension,
            )

    def _median(self) -> float:
        return float(np.median([abs(correlation) for _, correlation in self._correlations]))

    def _expected_sign(self) -> float:
        """Return 1 where names say that larger commands open, -1 where they close, 0 where they say nothing."""
        (dim,) = self._action_dims
        name, unit = self._interface.action_names[dim].lower(), self._interface.action_units[dim].lower()
        if "1 open" in unit.replace("-1 open", "") or "open" in name:
            return 1.0
        if "1 close" in unit.replace("-1 close", "") or "close" in name:
            return -1.0
        is_same_name = [self._interface.state_names[each].lower() for each in self._state_dims] == [name]
        return 1.0 if is_same_name else 0.0


class ActionSpaces:
    """Compares actions with the states after them, and with their changes: which of both are they?"""

    def __init__(self, interface: Interface, *, fps: float) -> None:
        self._interface = interface
        self._window = max(1, round(WINDOW_S * fps))
        self._declared = _declared_space(interface)
        self._pairs = _matching_dims(interface)
        self._absolute: list[np.ndarray] = []
        self._delta: list[np.ndarray] = []

    def add(self, state_TS: np.ndarray, action_TA: np.ndarray) -> None:
        """Take in one episode; without a declaration there is nothing to contradict."""
        window = self._window
        if not self._declared or len(state_TS) < max(MIN_FRAMES, 2 * window) or not self._pairs:
            return
        actions, states = (list(dims) for dims in zip(*self._pairs, strict=True))
        action, state = action_TA[:, actions].astype(np.float64), state_TS[:, states].astype(np.float64)
        self._absolute.append(np.stack([action[:-1], state[1:]]))
        # Integrated over a window, deltas make the distance covered in it.
        summed = np.cumsum(np.concatenate([np.zeros((1, len(actions))), action]), axis=0)
        self._delta.append(np.stack([(summed[window:] - summed[:-window])[:-1], state[window:] - state[:-window]]))

    def findings(self) -> Iterator[Finding]:
        if not self._absolute:
            return
        absolute, delta = (_explained(np.concatenate(each, axis=1)) for each in (self._absolute, self._delta))
        verdicts = np.where((absolute >= EXPLAINED) & (delta <= UNEXPLAINED), 1, 0)
        verdicts -= (delta >= EXPLAINED) & (absolute <= UNEXPLAINED)
        found = "absolute" if verdicts.sum() > 0 else "delta"
        wrong = np.flatnonzero(verdicts == (1 if found == "absolute" else -1))
        # Dimensions that hardly move say nothing, and a single one can correlate by chance; none may say the opposite.
        is_clear = len(wrong) >= min(MIN_AGREEING, len(self._pairs)) and len(wrong) == np.count_nonzero(verdicts)
        if found == self._declared or not is_clear:
            return
        dim, pair = self._pairs[wrong[0]]
        here = dimension_name("action", dim, self._interface.action_names)
        there = dimension_name("observation.state", pair, self._interface.state_names)
        shares = (absolute[wrong[0]], delta[wrong[0]])
        explained, other = shares if found == "absolute" else shares[::-1]
        yield Finding(
            severity=Severity.ERROR,
            code="action-space",
            text=f"actions are declared as {self._declared}, but {here} is {'' if found == 'absolute' else 'the change of '}"
            f"{there} after it: that explains {100 * explained:.0f} % of its variance, the declaration "
            f"{100 * max(0, other):.0f} %",
            fix=f"Declare the actions as {found}, in their names and in the interface of meta/opentau.json.",
            dimension=here,
        )


def _dims_with(names: Sequence[str], words: Sequence[str]) -> list[int]:
    return [dim for dim, name in enumerate(names) if any(word in name.lower() for word in words)]


def _strongest_correlation(action_T: np.ndarray, state_T: np.ndarray, *, num_lags: int) -> float:
    """Return the correlation of largest size over the lags [L] with which a state follows an action; 0 for constants."""
    found = [0.0]
    for lag in range(min(num_lags, len(action_T) - MIN_FRAMES + 1)):
        found.append(_correlation(action_T[: len(action_T) - lag], state_T[lag:]))
    return max(found, key=abs)


def _correlation(first_T: np.ndarray, second_T: np.ndarray) -> float:
    first, second = first_T - first_T.mean(dtype=np.float64), second_T - second_T.mean(dtype=np.float64)
    size = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / size) if size > 1e-12 else 0.0


def _declared_space(interface: Interface) -> str:
    """Return 'absolute' or 'delta' where the interface or the names of the actions say it, else nothing."""
    space = interface.action_space.partition("_")[0]
    if space in ("absolute", "delta"):
        return space
    names = [name for name in interface.action_names if not is_gripper(name)]
    plain = [_plain(name) for name in names]
    is_delta = bool(names) and all(short != name.lower() for short, name in zip(plain, names, strict=True))
    return "delta" if is_delta else ""


def _plain(name: str) -> str:
    """Return the state's name that a delta's name holds: 'x' of 'dx', 'delta_x' and 'x.delta'."""
    lower = name.lower()
    for prefix in ("delta_", "delta.", "d_"):
        lower = lower.removeprefix(prefix)
    lower = lower.removesuffix(".delta").removesuffix("_delta")
    return (
        lower.removeprefix("d")
        if lower.removeprefix("d") in ("x", "y", "z", "rx", "ry", "rz", "roll", "pitch", "yaw")
        else lower
    )


def _matching_dims(interface: Interface) -> list[tuple[int, int]]:
    """Return the action dimensions with the state dimension each of them moves: by name, else by place where both are alike."""
    states = [_plain(name) for name in interface.state_names]
    arm = [dim for dim in range(interface.action_dim) if dim not in _dims_with(interface.action_names, GRIPPER_WORDS)]
    named = [(dim, states.index(name)) for dim in arm if (name := _plain(interface.action_names[dim])) in states]
    if named:
        return named
    return [(dim, dim) for dim in arm] if interface.state_dim >= interface.action_dim else []


def _explained(pairs: np.ndarray) -> np.ndarray:
    """Return per dimension the squared correlation of pairs [2, N, D], negative where they run against each other."""
    correlations = np.array([_correlation(first, second) for first, second in zip(pairs[0].T, pairs[1].T, strict=True)])
    return correlations * np.abs(correlations)

"""An expert that was learned: a small network in an .npz file, played in numpy on the privileged state."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.experts.privileged import PrivilegedState
from envs.experts.surroundings import PrivilegedEnv

# Shapes: P numbers of the privileged state, D action dimensions that the network decides, A all of them.

FORMAT = 1
STATE_LIMIT = 10.0
"""Scaled numbers are cut to this, in training and in play."""
FACTS, MEAN, SCALE = "facts", "mean", "scale"
"""Names in the file; layer i is `weight_i` [out, in] and `bias_i` [out]."""
RELU, TANH = "relu", "tanh"
ACTIVATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {RELU: lambda values: np.maximum(values, 0.0), TANH: np.tanh}


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorFacts:
    """What an actor's file says besides its numbers."""

    state_names: tuple[str, ...]
    """Of the privileged state that it reads."""
    actions: tuple[int, ...]
    """Which dimensions of an action it decides; the others are zero."""
    action_repeat: int
    """Control steps for which an action is held."""
    activation: str
    is_squashed: bool
    """Whether the last layer goes through tanh; else it is cut to [-1, 1]."""
    task_id: str
    """The task that it was trained on."""
    algorithm: str

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT} | {name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_json(cls, text: str) -> ActorFacts:
        """Read them; ValueError for a file of another format."""
        plain: dict[str, Any] = json.loads(text)
        if plain.pop("format", None) != FORMAT:
            raise ValueError(f"the actor's file has another format than {FORMAT}; train the expert again")
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The network with the scales of what it reads."""

    facts: ActorFacts
    mean: np.ndarray
    """float32 [P]."""
    scale: np.ndarray
    """float32 [P]."""
    layers: Sequence[tuple[np.ndarray, np.ndarray]]
    """(weight [out, in], bias [out]) of each, float32."""

    def scaled(self, state: np.ndarray) -> np.ndarray:
        """Return a privileged state [P] as the network reads it, float32 [P]."""
        return np.clip((state - self.mean) / self.scale, -STATE_LIMIT, STATE_LIMIT).astype(np.float32)

    def decide(self, scaled: np.ndarray) -> np.ndarray:
        """Return the action for a scaled state [P] (or several, [B, P]), float32 [D] in [-1, 1]."""
        activate = ACTIVATIONS[self.facts.activation]
        values = np.asarray(scaled, np.float64)
        for index, (weight, bias) in enumerate(self.layers):
            values = values @ weight.T.astype(np.float64) + bias
            if index < len(self.layers) - 1:
                values = activate(values)
        return (np.tanh(values) if self.facts.is_squashed else np.clip(values, -1.0, 1.0)).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the file, or leave what was there."""
        arrays = {FACTS: np.array(self.facts.to_json()), MEAN: self.mean, SCALE: self.scale}
        for index, (weight, bias) in enumerate(self.layers):
            arrays |= {f"weight_{index}": weight, f"bias_{index}": bias}
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Actor:
        """Read the file; raises ValueError for one that is no actor's, and OSError where there is none."""
        with np.load(path, allow_pickle=False) as file:
            if FACTS not in file:
                raise ValueError(f"{path} is no learned expert; `opentau expert` writes one")
            count = sum(name.startswith("weight_") for name in file)
            return cls(
                facts=ActorFacts.from_json(str(file[FACTS])),
                mean=file[MEAN],
                scale=file[SCALE],
                layers=[(file[f"weight_{index}"], file[f"bias_{index}"]) for index in range(count)],
            )


class LearnedExpert:
    """Plays an actor on the environment it was trained on, from any state; it has one style, which no seed changes."""

    phase: str = "act"

    def __init__(self, env: PrivilegedEnv, *, actor: str) -> None:
        """`actor` is the file that `opentau expert` wrote. Raises ValueError where it belongs to another scene."""
        if not Path(actor).is_file():
            raise ValueError(f"there is no learned expert {actor!r}; train one: opentau expert env=… --out {actor}")
        self._actor = Actor.load(Path(actor))
        self._state = PrivilegedState(env)
        if self._state.names != self._actor.facts.state_names:
            raise ValueError(
                f"{actor} was trained on {self._actor.facts.task_id}, whose scene has other objects than this environment's; "
                "train an expert for this one"
            )
        self._num_ticks = 0

    def start(self, *, seed: int, is_clean: bool) -> None:
        """Begin to act from the environment's current state."""
        self._num_ticks = 0

    def act(self) -> np.ndarray:
        """Return the next action, float32 [7] in [-1, 1]."""
        facts = self._actor.facts
        if self._num_ticks % facts.action_repeat == 0:
            self._action = np.zeros(7, np.float32)
            self._action[list(facts.actions)] = self._actor.decide(self._actor.scaled(self._state.read()))
        self._num_ticks += 1
        return self._action.copy()

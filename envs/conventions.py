"""What all environments do alike: which state an episode starts from, and what names an environment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def asked_initial_state(options: Mapping[str, Any] | None) -> int | None:
    """Return the official state that ``reset(options=…)`` asks for, None for a drawn one; other options are refused."""
    unknown = set(options or {}) - {"initial_state"}
    if unknown:
        raise ValueError(f"reset knows the option 'initial_state', not {', '.join(map(repr, sorted(unknown)))}")
    index = (options or {}).get("initial_state")
    return None if index is None else int(index)


def official_rng(initial_state: int, *, count: int, entropy: int, family: str) -> np.random.Generator:
    """Return the generator of an official state: a spawned seed sequence, whose stream no plain seed below 2**128 has."""
    if not 0 <= initial_state < count:
        raise ValueError(f"initial_state is {initial_state}; {family} has the official states 0 to {count - 1}")
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(initial_state,)))


def env_id(**facts: object) -> str:
    """Return a readable id, '<task>-<hash>', of everything that decides what an episode looks like."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return f"{facts['task']}-{digest[:16]}"

"""Between the bridge's messages and the types of OpenTau: requests, chunks and finished episodes, checked on arrival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from opentau.errors import LinkError
from opentau.types import ROBOT_COLUMNS, ActionChunk, Episode, EpisodeResult, Observation, PolicyRequest
from robot_bridge.messages import Chunk, Obs, Upload
from robot_bridge.report import PlaybackReport

# Shapes: T control steps, H actions of a chunk, d committed actions, A action dimensions, S state dimensions, Y, X pixels.

IMAGE = "images."


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkReply:
    """A chunk as it arrives at the station, with what decides whether it may still be played."""

    seq: int
    """The request it answers."""
    episode_id: str
    chunk: ActionChunk


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedEpisode:
    """What a station delivers for a plan."""

    result: EpisodeResult
    episode: Episode | None
    """The frames; None where the plan did not ask for them or the episode ended in an error."""
    prompt: str
    env_id: str
    num_clipped_actions: int
    """Actions outside the action space, which were clipped to it."""
    num_fallbacks: int = 0
    """Chunks that stood in for what the policy could not say (`ActionChunk.fallback`)."""
    num_refused_chunks: int = 0
    """Chunks that came too late or answered something else, and were not played."""
    limits_id: str = ""
    """Hash of the limits that a robot moved within; '' for simulators."""
    report: PlaybackReport | None = None


def request_arrays(request: PolicyRequest) -> dict[str, np.ndarray]:
    """Return the arrays of an `Obs` message."""
    arrays = {"state": request.observation.state}
    arrays |= {IMAGE + camera: pixels for camera, pixels in sorted(request.observation.images.items())}
    return arrays if request.prefix is None else arrays | {"prefix": request.prefix}


def request_from(message: Obs, arrays: Mapping[str, np.ndarray]) -> PolicyRequest:
    """Build the request of an `Obs` message; raises `LinkError` for missing or misshapen arrays."""
    images = {name.removeprefix(IMAGE): _array(arrays, name, "uint8", 3) for name in arrays if name.startswith(IMAGE)}
    observation = Observation(
        images=images, state=_array(arrays, "state", "float32", 1), prompt=message.prompt, time_s=message.time_s
    )
    return PolicyRequest(
        observation=observation,
        episode_seed=message.episode_seed,
        tick=message.tick,
        prefix=_array(arrays, "prefix", "float32", 2) if "prefix" in arrays else None,
    )


def reply_from(message: Chunk, arrays: Mapping[str, np.ndarray]) -> ChunkReply:
    """Build the reply of a `Chunk` message; raises `LinkError` for a missing or misshapen array."""
    actions = _array(arrays, "actions", "float32", 2)
    chunk = ActionChunk(
        actions=actions,
        policy_version=message.policy_version,
        value=message.value,
        subtask=message.subtask,
        fallback=message.fallback,
    )
    return ChunkReply(seq=message.seq, episode_id=message.episode_id, chunk=chunk)


def played_from(message: Upload, arrays: Mapping[str, np.ndarray]) -> PlayedEpisode:
    """Build the finished episode of an `Upload` message; raises `LinkError` where its columns do not fit together."""
    return PlayedEpisode(
        result=message.result,
        episode=_episode(message, arrays) if arrays else None,
        prompt=message.prompt,
        env_id=message.env_id,
        num_clipped_actions=message.num_clipped_actions,
        num_fallbacks=message.num_fallbacks,
        num_refused_chunks=message.num_refused_chunks,
        limits_id=message.limits_id,
        report=message.report,
    )


def subtask_runs(episode: Episode | None) -> tuple[tuple[str, int], ...]:
    """Return the subtasks of an episode, each with the number of frames it lasts."""
    if episode is None:
        return ()
    return tuple((subtask, len(list(frames))) for subtask, frames in groupby(episode.subtasks))


def _episode(message: Upload, arrays: Mapping[str, np.ndarray]) -> Episode:
    result, plan = message.result, message.result.plan
    num_frames = len(_array(arrays, "state", "float32", 2))
    if num_frames != result.num_steps:
        raise LinkError(f"episode {plan.episode_id} brings {num_frames} frames; its result says {result.num_steps}")
    num_narrated = sum(length for _, length in message.subtasks)
    if num_narrated not in (0, result.num_steps):
        raise LinkError(
            f"episode {plan.episode_id} brings subtasks of {num_narrated} frames; its result says {result.num_steps}"
        )
    try:
        episode = Episode(
            images={name.removeprefix(IMAGE): _array(arrays, name, "uint8", 4) for name in arrays if name.startswith(IMAGE)},
            state=_array(arrays, "state", "float32", 2),
            action=_array(arrays, "action", "float32", 2),
            policy_action=_array(arrays, "policy_action", "float32", 2),
            executed_action=_array(arrays, "executed_action", "float32", 2),
            source=_array(arrays, "source", "int8", 1),
            reward=_array(arrays, "reward", "float32", 1),
            value=_array(arrays, "value", "float32", 1),
            sim_state=_array(arrays, "sim_state", "float64", 2),
            prompt=message.prompt,
            task_id=plan.task_id,
            outcome=result.outcome,
            seed=plan.seed,
            episode_id=plan.episode_id,
            env_id=message.env_id,
            policy_version=result.policy_version,
            subtasks=tuple(subtask for subtask, length in message.subtasks for _ in range(length)),
            robot={name: arrays[name] for name in ROBOT_COLUMNS if name in arrays},
            limits_id=message.limits_id,
        )
    except ValueError as error:
        raise LinkError(f"an upload was refused: {error}") from error
    return episode


def _array(arrays: Mapping[str, np.ndarray], name: str, dtype: str, num_dims: int) -> np.ndarray:
    array = arrays.get(name)
    if array is None:
        raise LinkError(f"a message without the array {name!r} was refused; it brings {sorted(arrays)}")
    if array.dtype != dtype or array.ndim != num_dims:
        raise LinkError(f"array {name!r} is {array.dtype} {array.shape}; it must be {dtype} with {num_dims} dimensions")
    return array

"""Between the bridge's messages and the types of OpenTau: requests, chunks and finished episodes, checked on arrival."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from opentau.errors import LinkError
from opentau.types import CLIP_MASK, ROBOT_COLUMNS, ActionChunk, Episode, EpisodeResult, Observation, PolicyRequest
from robot_bridge.playing.report import PlaybackReport
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.messages import Chunk, Obs, Payload, Upload

# Shapes: T control steps, H actions of a chunk, d committed actions, A action dimensions, S state dimensions, Y, X pixels.

IMAGE = "images."


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkTiming:
    """Where the time of one answer went, milliseconds; only differences of one clock enter each number."""

    obs_age_ms: float
    """Between what was seen and the arrival of the answer to it."""
    net_ms: float
    """On the way, there and back: all that was neither waiting nor inference."""
    queue_ms: float
    """In the server before inference began."""
    infer_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkReply:
    """A chunk as it arrives at the station, with what decides whether it may still be played."""

    seq: int
    """The request it answers."""
    episode_id: str
    chunk: ActionChunk
    timing: ChunkTiming | None = None
    """Where the time went between seeing and answering; None where nobody measured."""


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


def request_arrays(request: PolicyRequest, *, jpeg_quality: int | None = None) -> dict[str, Payload]:
    """Return the arrays of an `Obs` message; images raw, or as JPEG of that quality."""
    arrays: dict[str, Payload] = {"state": request.observation.state}
    for camera, pixels in sorted(request.observation.images.items()):
        arrays[IMAGE + camera] = pixels if jpeg_quality is None else CodedImage.of(pixels, quality=jpeg_quality)
    return arrays if request.prefix is None else arrays | {"prefix": request.prefix}


def request_from(message: Obs, arrays: Mapping[str, Payload]) -> PolicyRequest:
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


def reply_from(message: Chunk, arrays: Mapping[str, Payload], *, now_ns: int | None = None) -> ChunkReply:
    """Build the reply of a `Chunk` message; raises `LinkError` for a missing or misshapen array.

    `now_ns`: the station's monotonic clock at the arrival, for the timing of an answer that brings its own times back.
    """
    actions = _array(arrays, "actions", "float32", 2)
    chunk = ActionChunk(
        actions=actions,
        policy_version=message.policy_version,
        value=message.value,
        subtask=message.subtask,
        fallback=message.fallback,
    )
    timing = None if now_ns is None or not message.t_send_ns else timing_of(message, now_ns=now_ns)
    return ChunkReply(seq=message.seq, episode_id=message.episode_id, chunk=chunk, timing=timing)


def timing_of(message: Chunk, *, now_ns: int) -> ChunkTiming:
    """Return where the time of an answer went that arrived at `now_ns` of the clock that stamped the observation."""
    round_trip_ms = (now_ns - message.t_send_ns) / 1e6
    return ChunkTiming(
        obs_age_ms=(now_ns - (message.t_obs_ns or message.t_send_ns)) / 1e6,
        net_ms=max(0.0, round_trip_ms - message.queue_ms - message.infer_ms),
        queue_ms=message.queue_ms,
        infer_ms=message.infer_ms,
    )


def played_from(message: Upload, arrays: Mapping[str, Payload]) -> PlayedEpisode:
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


def upload_of(played: PlayedEpisode, *, session: str) -> tuple[Upload, dict[str, np.ndarray]]:
    """Return the message that delivers a finished episode, and its columns."""
    message = Upload(
        session=session,
        result=played.result,
        prompt=played.prompt,
        env_id=played.env_id,
        num_clipped_actions=played.num_clipped_actions,
        num_fallbacks=played.num_fallbacks,
        num_refused_chunks=played.num_refused_chunks,
        subtasks=subtask_runs(played.episode),
        limits_id=played.limits_id,
        report=played.report,
    )
    return message, {} if played.episode is None else played.episode.columns()


def subtask_runs(episode: Episode | None) -> tuple[tuple[str, int], ...]:
    """Return the subtasks of an episode, each with the number of frames it lasts."""
    if episode is None:
        return ()
    return tuple((subtask, len(list(frames))) for subtask, frames in groupby(episode.subtasks))


def _episode(message: Upload, arrays: Mapping[str, Payload]) -> Episode:
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
            robot={
                name: _array(arrays, name, dtype, 2 if name == CLIP_MASK else 1)
                for name, dtype in ROBOT_COLUMNS.items()
                if name in arrays
            },
            limits_id=message.limits_id,
        )
    except ValueError as error:
        raise LinkError(f"an upload was refused: {error}") from error
    return episode


def _array(arrays: Mapping[str, Payload], name: str, dtype: str, num_dims: int) -> np.ndarray:
    array = arrays.get(name)
    if array is None:
        raise LinkError(f"a message without the array {name!r} was refused; it brings {sorted(arrays)}")
    if isinstance(array, CodedImage):
        array = array.pixels()
    if array.dtype != dtype or array.ndim != num_dims:
        raise LinkError(f"array {name!r} is {array.dtype} {array.shape}; it must be {dtype} with {num_dims} dimensions")
    return array

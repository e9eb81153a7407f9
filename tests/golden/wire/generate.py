"""One example of every message of the bridge, and the frames that version 1 of the protocol makes of them.

`python -m tests.golden.wire.generate` rewrites v1.json; changing a recorded frame breaks every peer of version 1.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from msgspec import structs

from opentau.types import Actor, EpisodePlan, EpisodeResult, Interface, Outcome
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.messages import (
    AnyMessage,
    Assign,
    Bye,
    Chunk,
    EpisodeMeta,
    EventBlock,
    Follow,
    Health,
    Heartbeat,
    Hello,
    LeaseAnswer,
    LeaseRequest,
    Look,
    Obs,
    Offer,
    Order,
    OrderAnswer,
    Payload,
    Preview,
    Reject,
    Seen,
    Shard,
    ShardAck,
    Shown,
    Stamp,
    State,
    Steer,
    Steered,
    TimePing,
    TimePong,
    Upload,
    UploadAck,
    Welcome,
    encode,
)

JPEG = CodedImage(
    bytes.fromhex(
        "ffd8ffe000104a46494600010100000100010000ffdb0043000302020302020303030304030304050805050404050a070706080c0a0c0c0b0a0b0b0d0e12"
    ),
    (2, 2, 3),
)
"""The beginning of a file: the wire does not look into images, and an encoder's bytes are not this protocol's."""

RECORDING = Path(__file__).with_name("v1.json")

PLAN = EpisodePlan(
    index=17,
    episode_id="collect-1/000017",
    task_id="libero_object/3",
    seed=2**62 + 1,
    actor=Actor.POLICY,
    initial_state=4,
    policy_id="incumbent",
    is_supervised=True,
)
RESULT = EpisodeResult(
    plan=PLAN,
    outcome=Outcome.SUCCESS,
    num_steps=2,
    num_intervention_steps=1,
    policy_version="sha256:abc",
    digest="00ff",
)
INTERFACE = Interface(
    cameras={"agentview": (2, 2, 3)},
    state_names=("x", "y"),
    state_units=("m", "rad"),
    action_names=("dx",),
    action_units=("m",),
    action_space="delta_ee",
    control_hz=20.0,
)


def examples() -> dict[str, tuple[AnyMessage, dict[str, Payload]]]:
    """Return a message and its arrays for every kind."""
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    row = np.array([[0.5], [-0.25]], np.float32)
    columns = {
        "state": np.array([[0.0, 1.0], [2.0, 3.0]], np.float32),
        "action": row,
        "policy_action": np.array([[0.5], [np.nan]], np.float32),
        "executed_action": row,
        "source": np.array([1, 2], np.int8),
        "reward": np.array([0.0, 1.0], np.float32),
        "value": np.array([-0.5, np.nan], np.float32),
        "sim_state": np.array([[0.125], [0.25]], np.float64),
        "images.agentview": np.stack([pixels, pixels]),
    }
    obs = Obs(
        session="s",
        seq=3,
        episode_id=PLAN.episode_id,
        policy_id="incumbent",
        episode_seed=PLAN.seed,
        tick=8,
        time_s=0.4,
        prompt="pick up the milk",
        wants_value=True,
    )
    seen = {"state": np.array([1.0, -1.0], np.float32), "images.agentview": pixels, "prefix": row}
    chunk = Chunk(session="s", seq=3, episode_id=PLAN.episode_id, policy_version="sha256:abc", value=-0.5, infer_ms=12.5)
    upload = Upload(session="s", result=RESULT, prompt="pick up the milk", env_id="libero", num_clipped_actions=1)
    return {
        "HELLO": (Hello(session="s", station_id="station-0-1", interface=INTERFACE), {}),
        "WELCOME": (Welcome(session="s"), {}),
        "REJECT": (Reject(session="s", text="cameras differ"), {}),
        "OFFER": (Offer(session="s", policy_version="sha256:abc", action_horizon=16), {}),
        "ASSIGN": (Assign(session="s", plan=PLAN), {}),
        "OBS": (obs, seen),
        "CHUNK": (chunk, {"actions": np.concatenate([row, row])}),
        "EPISODE": (upload, columns),
        "EPISODE_ACK": (UploadAck(session="s", episode_id=PLAN.episode_id), {}),
        "HEARTBEAT": (Heartbeat(session="s", is_building=True), {}),
        "BYE": (Bye(session="s"), {}),
    } | _later_examples(obs, chunk)


def _later_examples(obs: Obs, chunk: Chunk) -> dict[str, tuple[AnyMessage, dict[str, Payload]]]:
    """Return what came after the first recording: kinds, and fields of earlier kinds."""
    times = {"t_obs_ns": 1_000, "t_send_ns": 2_000, "boot_id": "b"}
    stamp = Stamp(answer_within_ms=250.0, policy_version="sha256:abc", schema_hash="0f", **times)
    timed = structs.replace(obs, stamp=stamp)
    piece = {"session": "s", "episode_id": PLAN.episode_id, "sha256": "ab" * 32}
    row = np.array([[0.5]], np.float32)
    return {
        "OBS timed, JPEG": (timed, {"state": np.array([1.0], np.float32), "images.agentview": JPEG}),
        "CHUNK timed": (structs.replace(chunk, queue_ms=1.5, **times), {"actions": row}),
        "REJECT of a request": (Reject(session="s", seq=3, text="it commits 3 actions"), {}),
        "HEARTBEAT, idle": (Heartbeat(session="s", is_idle=True), {}),
        "HEARTBEAT, health": (Heartbeat(session="s", health=Health(num_answers=2, round_trip_ms=1.5, hold="damped")), {}),
        "HEARTBEAT of a server": (Heartbeat(session="s", boot_id="b"), {}),
        "EPISODE_META": (EpisodeMeta(num_bytes=5_000, **piece), {}),
        "SHARD": (Shard(offset=4_096, **piece), {"data": np.arange(8, dtype=np.uint8)}),
        "SHARD_ACK": (ShardAck(offset=4_104, credit=1 << 20, **piece), {}),
        "TIME_PING": (TimePing(session="s", t1_ns=1), {}),
        "TIME_PONG": (TimePong(session="s", t1_ns=1, t2_ns=2, t3_ns=3, boot_id="b"), {}),
        "STATE": (State(session="s", station_id="station-0-1", tick=9, mode="autonomous"), {"state": row[0]}),
        "PREVIEW": (Preview(session="s", station_id="station-0-1", camera="agentview", tick=9), {"image": JPEG}),
    } | _viewing_examples()


def _viewing_examples() -> dict[str, tuple[AnyMessage, dict[str, Payload]]]:
    """Return what viewers and operators say, and what they are told."""
    return {
        "LOOK": (Look(session="viewing", seq=8, station_id="station-0-1"), {}),
        "SEEN": (
            Seen(session="viewing", seq=8, episode_id=PLAN.episode_id, tick=9),
            {"state": np.array([0.5], np.float64), "images.agentview": JPEG},
        ),
        "FOLLOW": (Follow(session="viewing", seq=7, positions={"main-12.jsonl": 345}), {}),
        "EVENTS": (
            EventBlock(session="viewing", seq=7, positions={"main-12.jsonl": 348}),
            {"lines": np.frombuffer(b"{}\n", np.uint8)},
        ),
        "CMD": (Order(session="viewing", command_id="c1", verb="promote", args={"iteration": 2}, lease_id="l1"), {}),
        "CMD_ACK": (OrderAnswer(session="viewing", command_id="c1", is_accepted=False, is_repeated=True, text="done"), {}),
        "LEASE": (LeaseRequest(session="viewing", seq=8, action="renew", lease_id="l1"), {}),
        "LEASE_ACK": (LeaseAnswer(session="viewing", seq=8, lease_id="l1"), {}),
        "STEER": (Steer(session="s", verb="jog", command_id="c2", operator="anna", rates={"dx": 0.5}, ticks=5), {}),
        "STEERED": (Steered(session="s", state="began", operator="anna", episode_id=PLAN.episode_id, tick=9), {}),
        "SHOWN": (
            Shown(session="s", episode_id=PLAN.episode_id, tick=9),
            {"state": np.array([1.0], np.float32), "images.agentview": JPEG},
        ),
    }


def frames_of(kind: str) -> list[bytes]:
    """Return what today's code sends for an example."""
    message, arrays = examples()[kind]
    return [bytes(frame) for frame in encode(message, arrays)]


def recorded_frames() -> dict[str, list[bytes]]:
    """Return the frames that version 1 is held to."""
    recording = json.loads(RECORDING.read_text())
    return {kind: [bytes.fromhex(frame) for frame in frames] for kind, frames in recording.items()}


if __name__ == "__main__":
    RECORDING.write_text(json.dumps({kind: [frame.hex() for frame in frames_of(kind)] for kind in examples()}, indent=1) + "\n")

"""The bridge's messages: typed headers, raw array frames and limits; the one way from a message to bytes and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np

from opentau.errors import LinkError
from opentau.types import EpisodePlan, EpisodeResult, Fallback, Interface

# A message is frame 0 (magic, major, minor), frame 1 (MessagePack header) and one raw frame for each array that the
# header declares. Within a major version unknown keys of a header are ignored; another major version is refused.
MAGIC = b"OTB1"
MAJOR, MINOR = 1, 0

MAX_HEADER_BYTES = 1 << 16
MAX_ARRAYS = 32
MAX_DIMS = 5
MAX_SUBTASKS = 10_000
MAX_NAME = 64

DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ("uint8", "int8", "float32", "float64")}

Frame: TypeAlias = bytes | memoryview
Text = Annotated[str, msgspec.Meta(max_length=1 << 13)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]

CommandId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
"""It becomes a file's name."""
Positions = Annotated[dict[Name, Count], msgspec.Meta(max_length=1_000)]


class ArrayField(msgspec.Struct, frozen=True, kw_only=True):
    """What one raw frame holds: C-contiguous, little-endian."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
    dtype: Annotated[str, msgspec.Meta(max_length=16)]
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=MAX_DIMS)]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every message carries."""

    session: Name
    """Names the server's session; a station that still belongs to an earlier one is refused."""
    arrays: Annotated[tuple[ArrayField, ...], msgspec.Meta(max_length=MAX_ARRAYS)] = ()
    """Filled by `encode`."""


class Hello(Message, frozen=True, kw_only=True, tag="HELLO"):
    """Station to server: what I offer."""

    station_id: Name
    interface: Interface


class Welcome(Message, frozen=True, kw_only=True, tag="WELCOME"):
    """Server to station: you fit; wait for plans."""


class Offer(Message, frozen=True, kw_only=True, tag="OFFER"):
    """Policy in a process of its own, to who said hello: I answer such observations, and this is what I answer with."""

    policy_version: Text
    action_horizon: Count
    """Actions of a chunk."""


class Reject(Message, frozen=True, kw_only=True, tag="REJECT"):
    """Server to station: you do not fit, and why in words."""

    text: Text


class Assign(Message, frozen=True, kw_only=True, tag="ASSIGN"):
    """Server to station: play this."""

    plan: EpisodePlan


class Obs(Message, frozen=True, kw_only=True, tag="OBS"):
    """Station to server: what I see; arrays `state`, `images.<camera>` and, where d > 0, `prefix`."""

    seq: Count
    """Counts the requests of one station program; the answer repeats it."""
    episode_id: Name
    policy_id: Name
    episode_seed: Count
    tick: Count
    time_s: float
    prompt: Text
    wants_value: bool


class Chunk(Message, frozen=True, kw_only=True, tag="CHUNK", omit_defaults=True):
    """Server to station: the actions; array `actions`."""

    seq: Count
    episode_id: Name
    policy_version: Text
    value: float | None
    infer_ms: float
    subtask: Text = ""
    """What the policy said comes next; left out where it said nothing."""
    fallback: Fallback | None = None
    """What the actions stand in for; left out where they are the policy's own."""


class Upload(Message, frozen=True, kw_only=True, tag="EPISODE", omit_defaults=True):
    """Station to server: a finished episode; its columns as arrays where it was recorded.

    What is empty is left out, so that an episode without subtasks travels as it did before there were any.
    """

    result: EpisodeResult
    prompt: Text
    env_id: Text
    num_clipped_actions: Count
    num_fallbacks: Count = 0
    """Chunks that stood in for what the policy could not say."""
    num_refused_chunks: Count = 0
    """Chunks that came too late or answered something else, and were not played."""
    subtasks: Annotated[tuple[tuple[Text, Count], ...], msgspec.Meta(max_length=MAX_SUBTASKS)] = ()
    """What the acting agent was about, in words, each with the number of frames it lasted; empty where nobody said."""


class UploadAck(Message, frozen=True, kw_only=True, tag="EPISODE_ACK"):
    """Server to station: I have it, you may forget it."""

    episode_id: Name


class Heartbeat(Message, frozen=True, kw_only=True, tag="HEARTBEAT"):
    """Both ways: I am alive. The server answers each with one of its own."""

    is_building: bool = False
    """Whether an environment is being built, which may take minutes without another sign of life."""


class Bye(Message, frozen=True, kw_only=True, tag="BYE"):
    """Server to station: there is no more work."""


class Follow(Message, frozen=True, kw_only=True, tag="FOLLOW"):
    """Viewer to run: send the events after these positions."""

    seq: Count
    """Counts the questions of one viewer; the answer repeats it."""
    positions: Positions = {}
    """File of the event log to the bytes of it that the viewer has."""


class EventBlock(Message, frozen=True, kw_only=True, tag="EVENTS"):
    """Run to viewer: the next lines, in array `lines`; none when there are no more yet."""

    seq: Count
    positions: Positions
    """Where to go on from."""


class Order(Message, frozen=True, kw_only=True, tag="CMD"):
    """Operator to run: do this, once."""

    command_id: CommandId
    verb: Name
    args: Annotated[dict[Name, int | float | bool | Text], msgspec.Meta(max_length=16)] = {}
    lease_id: Text = ""


class OrderAnswer(Message, frozen=True, kw_only=True, tag="CMD_ACK"):
    """Run to operator: it is passed on, or why not."""

    command_id: CommandId
    is_accepted: bool
    is_repeated: bool = False
    """Whether a command of this id was accepted before; it is not done again."""
    text: Text = ""


class LeaseRequest(Message, frozen=True, kw_only=True, tag="LEASE"):
    """Operator to run: let me steer, longer, or no more."""

    seq: Count
    action: Literal["acquire", "renew", "release"]
    lease_id: Text = ""


class LeaseAnswer(Message, frozen=True, kw_only=True, tag="LEASE_ACK"):
    """Run to operator: the lease, or why there is none."""

    seq: Count
    lease_id: Text = ""
    text: Text = ""


ControlMessage: TypeAlias = Hello | Welcome | Reject | Assign | Upload | UploadAck | Heartbeat | Bye
InferenceMessage: TypeAlias = Obs | Chunk | Offer
ViewingMessage: TypeAlias = Follow | EventBlock | Order | OrderAnswer | LeaseRequest | LeaseAnswer
AnyMessage: TypeAlias = ControlMessage | InferenceMessage | ViewingMessage

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage, arrays: Mapping[str, np.ndarray] | None = None) -> list[Frame]:
    """Return the frames of a message; large arrays are views, so do not change them before they are sent."""
    fields, payload = [], []
    for name, array in (arrays or {}).items():
        if array.dtype.name not in DTYPES:
            raise LinkError(f"array {name!r} has dtype {array.dtype}; the bridge carries {sorted(DTYPES)}")
        contiguous = np.ascontiguousarray(array, dtype=DTYPES[array.dtype.name])
        fields.append(ArrayField(name=name, dtype=array.dtype.name, shape=array.shape))
        payload.append(contiguous.reshape(-1).view(np.uint8).data)
    header = _encoder.encode(msgspec.structs.replace(message, arrays=tuple(fields)) if fields else message)
    if len(header) > MAX_HEADER_BYTES:
        raise LinkError(f"the header of {type(message).__name__} has {len(header)} bytes; the limit is {MAX_HEADER_BYTES}")
    return [MAGIC + bytes((MAJOR, MINOR)), header, *payload]


def decode(frames: Sequence[Frame], *, max_bytes: int) -> tuple[AnyMessage, dict[str, np.ndarray]]:
    """Return a message and its arrays, which are read-only views of the frames; raises `LinkError` and nothing else."""
    num_bytes = sum(len(frame) for frame in frames)
    if num_bytes > max_bytes:
        raise LinkError(f"a message of {num_bytes} bytes was refused; the limit is {max_bytes}")
    if len(frames) < 2:
        raise LinkError(f"a message of {len(frames)} frames was refused; it needs a version and a header")
    _check_version(bytes(frames[0][: len(MAGIC) + 3]))
    message = _decode_header(frames[1])
    payload = frames[2:]
    if len(message.arrays) != len(payload):
        raise LinkError(f"{type(message).__name__} declares {len(message.arrays)} arrays and brings {len(payload)} frames")
    arrays = {field.name: _decode_array(field, frame) for field, frame in zip(message.arrays, payload, strict=True)}
    if len(arrays) != len(payload):
        raise LinkError(f"{type(message).__name__} declares two arrays of one name")
    return message, arrays


def _check_version(frame: bytes) -> None:
    if len(frame) != len(MAGIC) + 2 or not frame.startswith(MAGIC):
        raise LinkError("a message that is not of this protocol was refused: it does not start with OTB1 and a version")
    major, minor = frame[len(MAGIC) :]
    if major != MAJOR:
        raise LinkError(
            f"the peer speaks version {major}.{minor} of the bridge's protocol, this side {MAJOR}.{MINOR}; "
            "install the same version of OpenTau on both sides"
        )


def _decode_header(frame: Frame) -> AnyMessage:
    if len(frame) > MAX_HEADER_BYTES:
        raise LinkError(f"a header of {len(frame)} bytes was refused; the limit is {MAX_HEADER_BYTES}")
    try:
        return _decoder.decode(frame)
    except (ValueError, RecursionError) as error:
        raise LinkError(f"a header was refused: {error}") from error


def _decode_array(field: ArrayField, frame: Frame) -> np.ndarray:
    dtype = DTYPES.get(field.dtype)
    if dtype is None:
        raise LinkError(f"array {field.name!r} has dtype {field.dtype!r}; the bridge carries {sorted(DTYPES)}")
    num_bytes = math.prod(field.shape) * dtype.itemsize
    if num_bytes != len(frame):
        raise LinkError(f"array {field.name!r} of shape {field.shape} needs {num_bytes} bytes and brings {len(frame)}")
    try:
        array = np.frombuffer(frame, dtype=dtype).reshape(field.shape)
    except ValueError as error:  # no bytes, but dimensions beyond what numpy can index
        raise LinkError(f"array {field.name!r} has the shape {field.shape}, which no array can have") from error
    array.flags.writeable = False
    return array

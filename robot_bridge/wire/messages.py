"""The bridge's messages: typed headers, raw array frames and limits; the one way from a message to bytes and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np

from opentau.errors import LinkError
from opentau.types import EpisodePlan, EpisodeResult, Fallback, Interface
from robot_bridge.playing.report import PlaybackReport
from robot_bridge.wire.images import CHANNELS, CodedImage, Encoding

# A message is frame 0 (magic, major, minor), frame 1 (MessagePack header) and one frame for each array that the header
# declares. Within a major version unknown keys of a header are ignored; another major version is refused. Fields that came
# later are left out where nothing uses them, so that a message without them keeps the bytes it had. A kind can have 15
# fields in all: with more, MessagePack spells even few of them another way (hence `Stamp`).
MAGIC = b"OTB1"
MAJOR, MINOR = 1, 0
VERSION = MAGIC + bytes((MAJOR, MINOR))

ANY_SESSION = "*"
"""What a station says that plays for whoever serves there: it learns the session's name from its welcome."""

MAX_HEADER_BYTES = 1 << 16
MAX_ARRAYS = 32
MAX_DIMS = 5
MAX_SUBTASKS = 10_000
MAX_NAME = 64

DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ("uint8", "int8", "float32", "float64")}
_ORDERS: tuple[Literal["<", ">"], ...] = ("<", ">")
_NAMES = {dtype.newbyteorder(order): name for name, dtype in DTYPES.items() for order in _ORDERS}

Frame: TypeAlias = bytes | memoryview
Payload: TypeAlias = np.ndarray | CodedImage
"""What a message carries beside its header; images stay coded until somebody looks at them."""
Text = Annotated[str, msgspec.Meta(max_length=1 << 13)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

CommandId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
"""It becomes a file's name."""
Positions = Annotated[dict[Name, Count], msgspec.Meta(max_length=1_000)]


class ArrayField(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one frame holds: C-contiguous and little-endian, or a JPEG."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
    dtype: Annotated[str, msgspec.Meta(max_length=16)]
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=MAX_DIMS)]
    encoding: Encoding = Encoding.RAW


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
    statistics_id: Name | msgspec.UnsetType = msgspec.UNSET
    """Statistics that a policy must encode with to be played here; left out where any will do."""
    limits_id: Text | msgspec.UnsetType = msgspec.UNSET
    """Hash of the limits that a robot moves within; left out by simulators."""


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
    seq: Count | msgspec.UnsetType = msgspec.UNSET
    """The request that will not be answered; left out where the station itself is refused, or what it sent."""


class Assign(Message, frozen=True, kw_only=True, tag="ASSIGN"):
    """Server to station: play this."""

    plan: EpisodePlan


class Stamp(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When and where an observation was made, on the station's monotonic clock; `robot_bridge.wire.clocks` relates clocks."""

    t_obs_ns: Count
    """When the oldest part of it was measured."""
    t_send_ns: Count
    boot_id: Name
    """Names the station's process: its clock and its counting began with it."""
    answer_within_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """How long after it was sent an answer is still of use; a server does not begin one later."""
    policy_version: Text = ""
    """Who made the chunk that plays now."""
    schema_hash: Text = ""
    """`Interface.hash()` of what the arrays mean."""


class Obs(Message, frozen=True, kw_only=True, tag="OBS", omit_defaults=True):
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
    stamp: Stamp | None = None
    """When and where it was made; left out where nobody measures."""


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
    queue_ms: float = 0.0
    """How long the observation waited in the server before inference began."""
    t_obs_ns: Count = 0
    """The observation's, as it came."""
    t_send_ns: Count = 0
    """The observation's, as it came."""
    boot_id: Text = ""
    """Names the server's process."""


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
    limits_id: Text = ""
    """Hash of the limits that a robot moved within; left out for simulators."""
    report: PlaybackReport | None = None
    """How the episode was played; left out where nobody asked for it."""


class UploadAck(Message, frozen=True, kw_only=True, tag="EPISODE_ACK"):
    """Server to station: I have it, you may forget it."""

    episode_id: Name


class EpisodeMeta(Message, frozen=True, kw_only=True, tag="EPISODE_META"):
    """Station to server: I hold a finished episode on disk; how much of it do you have?

    Its bytes are the station's file (`robot_bridge.wire.spool`). Sent again after a pause, it asks where to go on.
    """

    episode_id: Name
    num_bytes: Count
    sha256: Sha256


class Shard(Message, frozen=True, kw_only=True, tag="SHARD"):
    """Station to server: a piece of the announced file; array `data`, uint8 [n]."""

    episode_id: Name
    sha256: Sha256
    offset: Count


class ShardAck(Message, frozen=True, kw_only=True, tag="SHARD_ACK", omit_defaults=True):
    """Server to station: so much of the file is here, and so much more may be sent before the next word from me."""

    episode_id: Name
    sha256: Sha256
    offset: Count
    """Bytes that have arrived, in order."""
    credit: Count
    """Bytes that may follow; 0: not now (no run expects this episode yet), keep it and ask again later."""
    refusal: Text = ""
    """Why this file will never be taken."""


class TimePing(Message, frozen=True, kw_only=True, tag="TIME_PING"):
    """Station to server: what do you make the time? All times are monotonic, ns."""

    t1_ns: Count
    """The station's, when it asked."""


class TimePong(Message, frozen=True, kw_only=True, tag="TIME_PONG"):
    """Server to station: the times of the question and of this answer."""

    t1_ns: Count
    t2_ns: Count
    """The server's, when it was asked."""
    t3_ns: Count
    """The server's, when it answered."""
    boot_id: Name
    """Another one means another clock."""


class State(Message, frozen=True, kw_only=True, tag="STATE", omit_defaults=True):
    """Station to viewers, lossy: how it goes; array `state` where there is one."""

    station_id: Name
    episode_id: Text = ""
    tick: Count = 0
    mode: Text = ""
    """Who acts, in a word of the station's state machine."""
    num_underruns: Count = 0
    num_clamped: Count = 0
    num_refused_chunks: Count = 0
    watchdog: Count = 0
    """Rung of the watchdog's ladder; 0 is well."""
    rtt_ms: float = 0.0
    obs_age_ms: float = 0.0
    text: Text = ""


class Preview(Message, frozen=True, kw_only=True, tag="PREVIEW"):
    """Station to viewers, lossy, while somebody looks: a small JPEG; array `image`."""

    station_id: Name
    camera: Name
    tick: Count


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a station does, as it measures itself over its `num_answers` newest answers, if any came yet; milliseconds."""

    num_answers: Count = 0
    round_trip_ms: float = 0.0
    round_trip_p95_ms: float = 0.0
    """On the way, there and back: median and 95th percentile."""
    answer_ms: float = 0.0
    obs_age_ms: float = 0.0
    """Waiting and inference at the server, and between what was seen and the arrival of the answer to it: medians."""
    hold: Text = ""
    """How a robot holds that has no fresh action: a word of `Hold` in robot_bridge.workcell.safety; '' while it has one."""


class Heartbeat(Message, frozen=True, kw_only=True, tag="HEARTBEAT"):
    """Both ways: I am alive. The server answers each with one of its own."""

    is_building: bool = False
    """Whether an environment is being built, which may take minutes without another sign of life."""
    is_idle: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether the station waits for a plan; left out while it does not. A plan that never arrived is sent again then."""
    boot_id: Name | msgspec.UnsetType = msgspec.UNSET
    """Names the server's process; left out by stations. Another one has not met the station yet."""
    health: Health | msgspec.UnsetType = msgspec.UNSET
    """How the station does; left out before it has anything to tell."""


class Steer(Message, frozen=True, kw_only=True, tag="STEER", omit_defaults=True):
    """Server to station: what an operator asks of it; `opentau.control` tells what each verb means."""

    verb: Name
    command_id: Text = ""
    """Empty where the server asks by a rule of its own."""
    operator: Text = ""
    rates: Annotated[dict[Name, Annotated[float, msgspec.Meta(ge=-1, le=1)]], msgspec.Meta(max_length=16)] = {}
    """Of a jog: direction to part of the largest action."""
    ticks: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 1
    """Control steps of a jog."""
    text: Text = ""


class Steered(Message, frozen=True, kw_only=True, tag="STEERED", omit_defaults=True):
    """Station to server: what came of it, or that somebody has it in hand now, or no longer."""

    state: Literal["done", "refused", "began", "ended"]
    command_id: Text = ""
    operator: Text = ""
    episode_id: Text = ""
    tick: Count = 0
    text: Text = ""


class Shown(Message, frozen=True, kw_only=True, tag="SHOWN", omit_defaults=True):
    """Station to server: what whoever has it in hand has to see; arrays `state` and `images.<camera>`, in small."""

    episode_id: Name
    tick: Count = 0


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


class Look(Message, frozen=True, kw_only=True, tag="LOOK"):
    """Viewer to run: what does this station show whoever has it in hand?"""

    seq: Count
    station_id: Name


class Seen(Message, frozen=True, kw_only=True, tag="SEEN", omit_defaults=True):
    """Run to viewer: that, as the station showed it last; arrays as in `Shown`. Without an episode it shows nothing."""

    seq: Count
    episode_id: Text = ""
    tick: Count = 0


UploadMessage: TypeAlias = Upload | UploadAck | EpisodeMeta | Shard | ShardAck
SteerMessage: TypeAlias = Steer | Steered | Shown
ControlMessage: TypeAlias = (
    Hello | Welcome | Reject | Assign | UploadMessage | TimePing | TimePong | Heartbeat | Bye | SteerMessage
)
InferenceMessage: TypeAlias = Obs | Chunk | Offer
TelemetryMessage: TypeAlias = State | Preview
ViewingMessage: TypeAlias = Follow | EventBlock | Order | OrderAnswer | LeaseRequest | LeaseAnswer | Look | Seen
AnyMessage: TypeAlias = ControlMessage | InferenceMessage | TelemetryMessage | ViewingMessage

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage, arrays: Mapping[str, Payload] | None = None) -> list[Frame]:
    """Return the frames of a message; large arrays are views, so do not change them before they are sent."""
    fields: list[ArrayField] = []
    frames: list[Frame] = [VERSION, b""]
    for name, array in (arrays or {}).items():
        if isinstance(array, CodedImage):
            fields.append(ArrayField(name=name, dtype="uint8", shape=array.shape, encoding=Encoding.JPEG))
            frames.append(array.data)
            continue
        dtype = _NAMES.get(array.dtype)
        if dtype is None:
            raise LinkError(f"array {name!r} has dtype {array.dtype}; the bridge carries {sorted(DTYPES)}")
        contiguous = np.ascontiguousarray(array, dtype=DTYPES[dtype])
        fields.append(ArrayField(name=name, dtype=dtype, shape=array.shape))
        frames.append(contiguous.data.cast("B") if contiguous.size else b"")
    frames[1] = header = _encoder.encode(msgspec.structs.replace(message, arrays=tuple(fields)) if fields else message)
    if len(header) > MAX_HEADER_BYTES:
        raise LinkError(f"the header of {type(message).__name__} has {len(header)} bytes; the limit is {MAX_HEADER_BYTES}")
    return frames


def decode(frames: Sequence[Frame], *, max_bytes: int) -> tuple[AnyMessage, dict[str, Payload]]:
    """Return a message and its arrays, which are read-only views of the frames; raises `LinkError` and nothing else.

    Coded images stay coded; all that a message declares, decoded or not, stays below `max_bytes`.
    """
    num_bytes = sum(map(len, frames))
    if num_bytes > max_bytes:
        raise LinkError(f"a message of {num_bytes} bytes was refused; the limit is {max_bytes}")
    if len(frames) < 2:
        raise LinkError(f"a message of {len(frames)} frames was refused; it needs a version and a header")
    if frames[0] != VERSION:
        _check_version(bytes(frames[0][: len(VERSION) + 1]))
    message = decode_header(frames[1])
    payload = frames[2:]
    if len(message.arrays) != len(payload):
        raise LinkError(f"{type(message).__name__} declares {len(message.arrays)} arrays and brings {len(payload)} frames")
    _require_within(message.arrays, max_bytes)
    arrays: dict[str, Payload] = {
        field.name: _decode_array(field, frame) for field, frame in zip(message.arrays, payload, strict=True)
    }
    if len(arrays) != len(payload):
        raise LinkError(f"{type(message).__name__} declares two arrays of one name")
    return message, arrays


def _check_version(frame: bytes) -> None:
    if len(frame) != len(VERSION) or not frame.startswith(MAGIC):
        raise LinkError("a message that is not of this protocol was refused: it does not start with OTB1 and a version")
    major, minor = frame[len(MAGIC) :]
    if major != MAJOR:
        raise LinkError(
            f"the peer speaks version {major}.{minor} of the bridge's protocol, this side {MAJOR}.{MINOR}; "
            "install the same version of OpenTau on both sides"
        )


def decode_header(frame: Frame) -> AnyMessage:
    """Return the message of frame 1 alone; raises `LinkError` for anything that is none."""
    if len(frame) > MAX_HEADER_BYTES:
        raise LinkError(f"a header of {len(frame)} bytes was refused; the limit is {MAX_HEADER_BYTES}")
    try:
        return _decoder.decode(frame)
    except (ValueError, RecursionError) as error:
        raise LinkError(f"a header was refused: {error}") from error


def _require_within(fields: Sequence[ArrayField], max_bytes: int) -> None:
    """Refuse coded images that would be larger than the largest message once they are decoded."""
    num_bytes = 0
    for field in fields:
        if field.encoding is not Encoding.RAW:
            num_bytes += math.prod(field.shape)
    if num_bytes > max_bytes:
        raise LinkError(f"images of {num_bytes} bytes, once decoded, were refused; the limit is {max_bytes}")


def _decode_array(field: ArrayField, frame: Frame) -> Payload:
    if field.encoding is Encoding.JPEG:
        if field.dtype != "uint8" or len(field.shape) != 3 or field.shape[-1] != CHANNELS:
            raise LinkError(f"array {field.name!r} is a JPEG of {field.dtype} {field.shape}; images are uint8 (Y, X, 3)")
        return CodedImage(frame, field.shape)
    dtype = DTYPES.get(field.dtype)
    if dtype is None:
        raise LinkError(f"array {field.name!r} has dtype {field.dtype!r}; the bridge carries {sorted(DTYPES)}")
    num_bytes = math.prod(field.shape) * dtype.itemsize
    if num_bytes != len(frame):
        raise LinkError(f"array {field.name!r} of shape {field.shape} needs {num_bytes} bytes and brings {len(frame)}")
    try:
        return np.ndarray(field.shape, dtype, frame if isinstance(frame, bytes) else frame.toreadonly())
    except ValueError as error:  # no bytes, but dimensions beyond what numpy can index
        raise LinkError(f"array {field.name!r} has the shape {field.shape}, which no array can have") from error

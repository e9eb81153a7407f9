"""Damaged messages without end: golden recordings and larger ones, broken as hostile or sick peers break them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.messages import MAGIC, encode
from tests.golden.wire.generate import examples, recorded_frames

Frames = list[bytes]

HOSTILE_COUNTS = (0, 1, 2, 31, 33, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -1)
HOSTILE_NAMES = (
    "",
    "object",
    "O",
    "V8",
    "uint8",
    "int8",
    "float16",
    "float64",
    "complex128",
    "x" * 65,
    "images.",
    "state",
    "a\0b",
)
LENGTH_HEADS = (b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9", b"\xdc", b"\xde", b"\xda", b"\xc5", b"\xc8")
"""MessagePack's heads of arrays, maps, strings, binaries and extensions that state their length."""


def seeds() -> list[Frames]:
    """Return whole messages: what version 1 is held to, and an observation and an episode of real size."""
    rng = np.random.default_rng(0)
    (obs, _), (upload, columns) = examples()["OBS"], examples()["EPISODE"]
    seen = {
        "state": np.zeros(7, np.float32),
        "images.wrist": rng.integers(0, 255, (32, 32, 3), np.uint8),
        "images.agentview": rng.integers(0, 255, (32, 48, 3), np.uint8),
    }
    coded = seen | {name: CodedImage.of(seen[name]) for name in seen if name.startswith("images.")}
    runs = msgspec.structs.replace(upload, subtasks=(("reach", 1), ("grasp", 1)))
    return [
        *recorded_frames().values(),
        *(list(map(bytes, encode(*pair))) for pair in ((obs, seen), (obs, coded), (runs, columns))),
    ]


def mutated(num_messages: int, *, seed: int) -> Iterator[Frames]:
    """Yield damaged messages, the same ones for the same seed; most carry one damage, some several."""
    rng = random.Random(seed)
    whole = seeds()
    for _ in range(num_messages):
        frames = list(rng.choice(whole))
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            frames = rng.choice(MUTATIONS)(frames, rng)
        yield frames


def _flip_bits(frames: Frames, rng: random.Random) -> Frames:
    def flip(frame: bytes) -> bytes:
        damaged = bytearray(frame)
        for _ in range(rng.randint(1, 8)):
            if damaged:
                damaged[rng.randrange(min(len(damaged), 600))] ^= 1 << rng.randrange(8)
        return bytes(damaged)

    return _change_one(frames, rng, flip)


def _cut(frames: Frames, rng: random.Random) -> Frames:
    return _change_one(frames, rng, lambda frame: frame[: rng.randint(0, len(frame))])


def _lengthen(frames: Frames, rng: random.Random) -> Frames:
    return _change_one(frames, rng, lambda frame: frame + rng.randbytes(rng.choice((1, 7, 300))))


def _repeat_a_part(frames: Frames, rng: random.Random) -> Frames:
    def repeat(frame: bytes) -> bytes:
        start = rng.randint(0, len(frame))
        return frame[:start] + frame[start : start + 16] * rng.randint(2, 9) + frame[start:]

    return _change_one(frames, rng, repeat)


def _swap_frames(frames: Frames, rng: random.Random) -> Frames:
    swapped = list(frames)
    rng.shuffle(swapped)
    return swapped


def _drop_or_double_a_frame(frames: Frames, rng: random.Random) -> Frames:
    if not frames:
        return frames
    at = rng.randrange(len(frames))
    return frames[:at] + [frames[at]] * rng.choice((0, 2, 40)) + frames[at + 1 :]


def _put_in_another_header(frames: Frames, rng: random.Random) -> Frames:
    return [frames[0], rng.choice(list(recorded_frames().values()))[1], *frames[2:]] if frames else frames


def _state_a_huge_length(frames: Frames, rng: random.Random) -> Frames:
    """Announce more elements or bytes than the header brings, somewhere in it."""

    def state(header: bytes) -> bytes:
        head = rng.choice(LENGTH_HEADS)
        length = struct.pack(">I" if head in b"\xdd\xdf\xdb\xc6\xc9" else ">H", rng.choice((0xFFFF, 0x7FFF)))
        length = b"\xff" * len(length) if rng.random() < 0.5 else length
        at = rng.randint(0, len(header))
        return header[:at] + head + length + header[at:]

    return _change_header(frames, state)


def _nest_deeply(frames: Frames, rng: random.Random) -> Frames:
    def nest(header: bytes) -> bytes:
        opening = rng.choice((b"\x91", b"\x81\xa1x", b"\x81\xa6arrays", b"\xdd\x00\x00\x00\x01"))
        at = rng.choice((0, 1, rng.randint(0, len(header))))
        return header[:at] + opening * rng.choice((3, 100, 2_000, 9_000)) + header[at:]

    return _change_header(frames, nest)


def _misdeclare_an_array(frames: Frames, rng: random.Random) -> Frames:
    """Declare another type, name or shape than the payload has."""

    def misdeclare(fields: dict) -> None:
        declared = fields.get("arrays")
        if not isinstance(declared, list) or not declared or not isinstance(declared[0], dict):
            fields["arrays"] = [{"name": "x", "dtype": "uint8", "shape": [rng.choice(HOSTILE_COUNTS)]}]
            return
        field = rng.choice(declared)
        if not isinstance(field, dict):
            return
        key = rng.choice(("name", "dtype", "shape", "shape", "encoding"))
        shape = field.get("shape")
        if key != "shape":
            field[key] = rng.choice(HOSTILE_NAMES)
        elif isinstance(shape, list) and shape and rng.random() < 0.5:
            shape[rng.randrange(len(shape))] = rng.choice(HOSTILE_COUNTS)
        else:
            field["shape"] = [rng.choice(HOSTILE_COUNTS) for _ in range(rng.randint(0, 7))]

    return _change_fields(frames, misdeclare)


def _put_a_wrong_value(frames: Frames, rng: random.Random) -> Frames:
    values = (
        *HOSTILE_COUNTS,
        *HOSTILE_NAMES,
        None,
        True,
        1.5,
        float("nan"),
        b"\0" * 40,
        [],
        {},
        [[[]]],
        {"plan": {}},
        "y" * 9_000,
    )

    def put(fields: dict) -> None:
        inner, key = fields, rng.choice(list(fields) or ["kind"])
        while isinstance(inner.get(key), dict) and inner[key] and rng.random() < 0.8:
            inner, key = inner[key], rng.choice(list(inner[key]))
        inner[key] = rng.choice(values)
        if rng.random() < 0.2:
            del inner[key]

    return _change_fields(frames, put)


def _send_noise(frames: Frames, rng: random.Random) -> Frames:
    noise = [rng.randbytes(rng.choice((0, 1, 6, 50, 2_000))) for _ in range(rng.randint(0, 5))]
    return [MAGIC + b"\x01\x00", *noise] if rng.random() < 0.7 else noise


MUTATIONS: tuple[Callable[[Frames, random.Random], Frames], ...] = (
    _flip_bits,
    _flip_bits,
    _cut,
    _lengthen,
    _repeat_a_part,
    _swap_frames,
    _drop_or_double_a_frame,
    _put_in_another_header,
    _state_a_huge_length,
    _nest_deeply,
    _misdeclare_an_array,
    _misdeclare_an_array,
    _put_a_wrong_value,
    _put_a_wrong_value,
    _send_noise,
)


def _change_one(frames: Frames, rng: random.Random, change: Callable[[bytes], bytes]) -> Frames:
    """Change one frame; the header, where most can go wrong, as often as all others together."""
    if not frames:
        return frames
    at = 1 if len(frames) > 1 and rng.random() < 0.5 else rng.randrange(len(frames))
    return [*frames[:at], change(frames[at]), *frames[at + 1 :]]


def _change_header(frames: Frames, change: Callable[[bytes], bytes]) -> Frames:
    return [frames[0], change(frames[1]), *frames[2:]] if len(frames) > 1 else frames


def _change_fields(frames: Frames, change: Callable[[dict], None]) -> Frames:
    """Change a header that still is a map; others stay as they are."""
    if len(frames) < 2:
        return frames
    try:
        fields = msgspec.msgpack.decode(frames[1])
    except (ValueError, RecursionError):
        return frames
    if not isinstance(fields, dict):
        return frames
    change(fields)
    try:
        header = msgspec.msgpack.encode(fields)
    except (OverflowError, RecursionError, TypeError):
        return frames
    return [frames[0], header, *frames[2:]]

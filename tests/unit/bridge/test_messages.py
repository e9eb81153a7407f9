"""What goes over the wire: byte-stable, checked before anything is allocated, and never a way to crash the receiver."""

from __future__ import annotations

import dataclasses
import io
import tracemalloc
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from opentau.errors import LinkError
from opentau.types import Fallback
from robot_bridge.wire.images import CodedImage
from robot_bridge.wire.messages import (
    MAGIC,
    MAJOR,
    MAX_HEADER_BYTES,
    Chunk,
    Heartbeat,
    Message,
    Obs,
    Upload,
    Welcome,
    decode,
    encode,
)
from robot_bridge.wire.payloads import ChunkTiming, played_from, reply_from, request_from
from tests.golden.wire.generate import examples, frames_of, recorded_frames

LIMIT = 1 << 20
KINDS = sorted(examples())
VERSION = MAGIC + bytes((MAJOR, 0))


def header(frames: Sequence[bytes]) -> dict:
    return msgspec.msgpack.decode(frames[1])


def with_header(frames: Sequence[bytes], **changes: object) -> list[bytes]:
    return [frames[0], msgspec.msgpack.encode(header(frames) | changes), *frames[2:]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_is_encoded_to_the_recorded_bytes(kind):
    assert frames_of(kind) == recorded_frames()[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_bytes_decode_to_the_message_and_its_arrays(kind):
    message, arrays = examples()[kind]
    decoded, decoded_arrays = decode(recorded_frames()[kind], max_bytes=LIMIT)
    assert msgspec.structs.replace(decoded, arrays=()) == message
    assert list(decoded_arrays) == list(arrays)
    for name, array in arrays.items():
        if isinstance(array, CodedImage):
            assert decoded_arrays[name] == array
            continue
        np.testing.assert_array_equal(decoded_arrays[name], array, strict=True)
        assert not decoded_arrays[name].flags.writeable


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    """Pixels that a JPEG keeps well: a slope in every colour."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 5, rows + columns], axis=-1).astype(np.uint8)


def obs_with(image: np.ndarray | CodedImage, **declared: object) -> list[bytes]:
    message, arrays = examples()["OBS"]
    frames = [bytes(frame) for frame in encode(message, arrays | {"images.agentview": image})]
    fields = header(frames)["arrays"]
    fields[1] |= declared
    return with_header(frames, arrays=fields)


def test_jpegs_arrive_as_pictures_that_look_the_same_in_a_fraction_of_the_bytes():
    image = np.kron(picture(), np.ones((4, 4, 1), np.uint8))
    frames = obs_with(CodedImage.of(image))
    seen = request_from(*decode(frames, max_bytes=LIMIT)).observation.images["agentview"]
    assert seen.shape == image.shape
    assert np.abs(seen.astype(int) - image).mean() < 2.0
    assert sum(map(len, frames)) < image.nbytes / 4


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ({"shape": [24, 33, 3]}, r"JPEG of \(24, 32, 3\) RGB was refused before it was decoded"),
        ({"shape": [24, 32, 1]}, "images are uint8"),
        ({"dtype": "float32"}, "images are uint8"),
        ({"shape": [1 << 12, 1 << 12, 3]}, "once decoded, were refused"),
        ({"encoding": "webp"}, "webp"),
    ],
)
def test_jpegs_that_are_not_what_was_declared_are_refused(declared, text):
    with pytest.raises(LinkError, match=text):
        request_from(*decode(obs_with(CodedImage.of(picture()), **declared), max_bytes=LIMIT))


def test_a_small_file_that_claims_to_be_a_huge_image_is_never_decoded():
    bomb = CodedImage.of(np.zeros((2_000, 3_000, 3), np.uint8))
    assert len(bomb.data) < 200_000
    frames = obs_with(CodedImage(bomb.data, (24, 32, 3)))
    tracemalloc.start()
    with pytest.raises(LinkError, match="before it was decoded"):
        request_from(*decode(frames, max_bytes=LIMIT))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < LIMIT


@pytest.mark.parametrize("damage", ["grey", "cut", "noise", "png"])
def test_what_is_no_whole_colour_jpeg_is_refused(damage):
    data = bytes(CodedImage.of(picture()).data)
    file = io.BytesIO()
    if damage == "grey":
        Image.fromarray(picture()[..., 0]).save(file, "JPEG")
    elif damage == "png":
        Image.fromarray(picture()).save(file, "PNG")
    spoiled = {"cut": data[: len(data) // 2], "noise": b"\xff\xd8" + b"\x00" * 50}.get(damage, file.getvalue())
    with pytest.raises(LinkError, match="JPEG"):
        request_from(*decode(obs_with(CodedImage(spoiled, (24, 32, 3))), max_bytes=LIMIT))


def test_an_answer_says_where_its_time_went_by_differences_of_one_clock():
    chunk, arrays = examples()["CHUNK"]
    timed = msgspec.structs.replace(chunk, infer_ms=40.0, queue_ms=5.0, t_obs_ns=10_000_000, t_send_ns=30_000_000, boot_id="b")
    timing = reply_from(*decode(encode(timed, arrays), max_bytes=LIMIT), now_ns=80_000_000).timing
    assert timing == ChunkTiming(obs_age_ms=70.0, net_ms=5.0, queue_ms=5.0, infer_ms=40.0)
    assert reply_from(chunk, arrays, now_ns=80_000_000).timing is None


def upload_with(subtasks: tuple[tuple[str, int], ...]) -> list[bytes]:
    message, arrays = examples()["EPISODE"]
    return encode(msgspec.structs.replace(message, subtasks=subtasks), arrays)


def test_what_a_policy_says_travels_with_its_chunk():
    message, arrays = examples()["CHUNK"]
    frames = encode(msgspec.structs.replace(message, subtask="reach for the milk"), arrays)
    assert reply_from(*decode(frames, max_bytes=LIMIT)).chunk.subtask == "reach for the milk"


def test_what_stands_in_for_a_chunk_travels_with_it_and_its_count_with_the_episode():
    (chunk, actions), (upload, columns) = examples()["CHUNK"], examples()["EPISODE"]
    assert reply_from(*decode(encode(chunk, actions), max_bytes=LIMIT)).chunk.fallback is None
    held = encode(msgspec.structs.replace(chunk, fallback=Fallback.HELD), actions)
    assert reply_from(*decode(held, max_bytes=LIMIT)).chunk.fallback is Fallback.HELD
    counted = encode(msgspec.structs.replace(upload, num_fallbacks=3), columns)
    assert played_from(*decode(counted, max_bytes=LIMIT)).num_fallbacks == 3


def test_subtasks_travel_as_runs_and_arrive_frame_by_frame():
    message, arrays = decode(upload_with((("reach for the milk", 1), ("", 1))), max_bytes=LIMIT)
    assert played_from(message, arrays).episode.subtasks == ("reach for the milk", "")


@pytest.mark.parametrize("length", [1, 3, (1 << 63) - 2])
def test_subtasks_of_another_number_of_frames_are_refused_before_they_are_unrolled(length):
    message, arrays = decode(upload_with((("reach", length),)), max_bytes=LIMIT)
    with pytest.raises(LinkError, match=rf"brings subtasks of {length} frames; its result says 2"):
        played_from(message, arrays)


def test_an_upload_cannot_make_the_receiver_unroll_more_frames_than_it_brings():
    message, arrays = examples()["EPISODE"]
    many = 1 << 40
    result = dataclasses.replace(message.result, num_steps=many)
    frames = encode(msgspec.structs.replace(message, result=result, subtasks=(("reach", many),)), arrays)
    decoded, decoded_arrays = decode(frames, max_bytes=LIMIT)
    with pytest.raises(LinkError, match=rf"brings 2 frames; its result says {many}"):
        played_from(decoded, decoded_arrays)


def test_every_kind_of_message_has_an_example():
    assert {type(message) for message, _ in examples().values()} == set(Message.__subclasses__())


def test_unknown_keys_of_a_newer_minor_version_are_ignored():
    frames = with_header(frames_of("HEARTBEAT"), load=0.5)
    newer_minor = [MAGIC + bytes((MAJOR, 9)), *frames[1:]]
    assert decode(newer_minor, max_bytes=LIMIT)[0] == Heartbeat(session="s", is_building=True)


def test_another_major_version_is_refused_with_both_versions_named():
    with pytest.raises(LinkError, match=r"version 2\.0 .* this side 1\.0"):
        decode([MAGIC + bytes((2, 0)), frames_of("WELCOME")[1]], max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": "SHUTDOWN"}, "SHUTDOWN"),
        ({"seq": -1}, "seq"),
        ({"seq": "3"}, "seq"),
        ({"tick": 2**63}, "tick"),
        ({"prompt": "x" * 9000}, "prompt"),
        ({"session": None}, "session"),
    ],
)
def test_headers_with_wrong_fields_are_refused(changes, text):
    with pytest.raises(LinkError, match=text):
        decode(with_header(frames_of("OBS"), **changes), max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ({"dtype": "object"}, "dtype 'object'"),
        ({"shape": [3]}, "needs 12 bytes and brings 8"),
        ({"shape": [2**40, 2**40]}, "brings 8"),
        ({"shape": [1] * 9}, "shape"),
        ({"shape": [-2]}, "shape"),
        ({"shape": [0, 2**62, 2**62]}, "brings 8"),
    ],
)
def test_arrays_that_do_not_match_their_declaration_are_refused(field, text):
    frames = frames_of("OBS")
    declared = header(frames)["arrays"]
    with pytest.raises(LinkError, match=text):
        decode(with_header(frames, arrays=[declared[0] | field, *declared[1:]]), max_bytes=LIMIT)


def test_an_empty_array_with_impossible_dimensions_is_refused():
    message = with_header(frames_of("WELCOME"), arrays=[{"name": "x", "dtype": "uint8", "shape": [0, 2**62, 2**62]}])
    with pytest.raises(LinkError, match="which no array can have"):
        decode([*message, b""], max_bytes=LIMIT)


def test_empty_columns_survive_the_wire():
    sim_state = np.empty((5, 0), np.float64)
    frames = [bytes(frame) for frame in encode(Welcome(session="s"), {"sim_state": sim_state})]
    assert decode(frames, max_bytes=LIMIT)[1]["sim_state"].shape == (5, 0)


def test_missing_surplus_and_doubled_arrays_are_refused():
    frames = frames_of("OBS")
    declared = header(frames)["arrays"]
    for wrong in (frames[:-1], [*frames, b"x"], with_header(frames, arrays=[declared[0], declared[0], *declared[2:]])):
        with pytest.raises(LinkError):
            decode(wrong, max_bytes=LIMIT)


def test_messages_and_headers_above_their_limits_are_refused():
    with pytest.raises(LinkError, match="the limit is 100"):
        decode(frames_of("EPISODE"), max_bytes=100)
    with pytest.raises(LinkError, match="header"):
        decode([VERSION, b"\x81" * (MAX_HEADER_BYTES + 1)], max_bytes=LIMIT)


def test_a_header_nested_without_end_is_refused():
    with pytest.raises(LinkError):
        decode([VERSION, b"\x81\xa1x" + b"\x91" * 60_000], max_bytes=LIMIT)


def test_arrays_of_other_types_cannot_be_sent():
    with pytest.raises(LinkError, match="int64"):
        encode(Welcome(session="s"), {"x": np.arange(3)})


def test_non_contiguous_arrays_arrive_as_they_look():
    image = np.arange(24, dtype=np.uint8).reshape(4, 6)[:, ::2]
    frames = [bytes(frame) for frame in encode(Welcome(session="s"), {"x": image})]
    np.testing.assert_array_equal(decode(frames, max_bytes=LIMIT)[1]["x"], image)


def _decode_or_refuse(frames: Sequence[bytes]) -> None:
    """Decode all the way to the types of OpenTau; anything but success and `LinkError` goes through."""
    tracemalloc.start()
    try:
        message, arrays = decode(frames, max_bytes=LIMIT)
        if isinstance(message, Obs):
            request_from(message, arrays)
        elif isinstance(message, Chunk):
            reply_from(message, arrays)
        elif isinstance(message, Upload):
            played_from(message, arrays)
    except LinkError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * LIMIT


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=6))
def test_decoding_random_frames_raises_nothing_but_link_errors(frames):
    _decode_or_refuse(frames)
    _decode_or_refuse([VERSION, *frames])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_decoding_damaged_messages_raises_nothing_but_link_errors(kind, data):
    frames = frames_of(kind)
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(frames) - 1))
        frame = bytearray(frames[index])
        start = data.draw(st.integers(0, len(frame)))
        end = data.draw(st.integers(start, min(len(frame), start + 8)))
        frame[start:end] = data.draw(st.binary(max_size=8))
        frames[index] = bytes(frame)
    _decode_or_refuse(frames)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_headers_with_any_value_in_any_field_raise_nothing_but_link_errors(kind, data):
    frames = frames_of(kind)
    name = data.draw(st.sampled_from(sorted(header(frames))))
    _decode_or_refuse(with_header(frames, **{name: data.draw(plain)}))

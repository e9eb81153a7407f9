"""The spool: nothing finished is lost by a restart, a damaged file or a full disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from opentau.errors import LinkError, StorageError
from robot_bridge.wire.messages import Frame, Upload, decode, encode
from robot_bridge.wire.payloads import played_from
from robot_bridge.wire.spool import Spool, Spooled, packed, unpacked
from tests.golden.wire.generate import PLAN, RESULT, examples

LIMIT = 1 << 20


def frames_of(episode_id: str) -> list[Frame]:
    message, columns = examples()["EPISODE"]
    result = dataclasses.replace(RESULT, plan=dataclasses.replace(PLAN, episode_id=episode_id))
    return encode(structs.replace(message, result=result), columns)


def content(spooled: Spooled) -> bytes:
    return b"".join(spooled.read(start, 100) for start in range(0, spooled.num_bytes, 100))


def ids(spool: Spool) -> list[str]:
    return [spooled.episode_id for spooled in spool.waiting()]


def test_what_was_spooled_is_there_after_a_restart_in_its_order_and_complete(tmp_path):
    spool = Spool(tmp_path)
    for number in range(12):
        spool.add(f"e/{number}", frames_of(f"e/{number}"))
    spool.remove(spool.waiting()[3])
    again = Spool(tmp_path)
    assert ids(again) == [f"e/{number}" for number in range(12) if number != 3]
    first = again.waiting()[0]
    data = content(first)
    assert hashlib.sha256(data).hexdigest() == first.sha256
    played = played_from(*decode(unpacked(memoryview(data)), max_bytes=LIMIT))
    np.testing.assert_array_equal(played.episode.state, examples()["EPISODE"][1]["state"])
    again.add("e/12", frames_of("e/12"))
    assert ids(Spool(tmp_path))[-1] == "e/12"


def test_half_written_files_are_removed_and_damaged_ones_set_aside(tmp_path):
    spool = Spool(tmp_path)
    spool.add("e/0", frames_of("e/0"))
    spool.add("e/1", frames_of("e/1"))
    whole, damaged = (spooled.path for spooled in spool.waiting())
    (tmp_path / "000002-00.episode.partial").write_bytes(whole.read_bytes()[:50])
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    again = Spool(tmp_path)
    assert ids(again) == ["e/0"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".episode", ".refused"}


def test_a_full_spool_says_so_and_keeps_the_episode_in_memory_until_there_is_room(tmp_path):
    spool = Spool(tmp_path, max_bytes=1_500)
    spool.add("e/0", frames_of("e/0"))
    with pytest.raises(StorageError, match=r"has no room for \d+ more: the limit is 1500 \(spool_bytes\)"):
        spool.add("e/1", frames_of("e/1"))
    assert ids(spool) == ["e/0", "e/1"]
    assert spool.has_unsaved
    held = spool.waiting()[1]
    assert hashlib.sha256(content(held)).hexdigest() == held.sha256
    with pytest.raises(StorageError):
        spool.save_rest()
    spool.remove(spool.waiting()[0])
    spool.save_rest()
    assert not spool.has_unsaved
    assert ids(Spool(tmp_path)) == ["e/1"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_disk_that_is_really_full_says_so(tmp_path):
    spool, frames = Spool(tmp_path), frames_of("e/0")
    sha256 = hashlib.sha256(b"".join(bytes(part) for part in packed(frames))).hexdigest()
    (tmp_path / f"000000-{sha256}.episode.partial").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="No space left on device"):
        spool.add("e/0", frames)
    assert ids(spool) == ["e/0"]
    assert list(tmp_path.iterdir()) == []


def test_a_refused_episode_is_kept_under_another_name(tmp_path):
    spool = Spool(tmp_path)
    spool.add("e/0", frames_of("e/0"))
    aside = spool.set_aside(spool.waiting()[0])
    assert aside is not None
    assert aside.suffix == ".refused"
    assert ids(Spool(tmp_path)) == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_its_message_is(data):
    whole = bytearray(b"".join(bytes(part) for part in packed(frames_of("e/0"))))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(whole)))
        whole[start : start + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    with contextlib.suppress(LinkError):
        message, arrays = decode(unpacked(memoryview(bytes(whole))), max_bytes=LIMIT)
        if isinstance(message, Upload):
            played_from(message, arrays)

"""The frame cache keeps its budget, survives damage and other processes, and never gives other pixels than were decoded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from opentau.data.cache import FrameCache
from opentau.errors import DataError

SHAPE = (5, 8, 8, 3)
FILE_BYTES = 5 * 8 * 8 * 3 + 64


def frames_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, SHAPE, dtype=np.uint8)


def open_all(cache: FrameCache, numbers: range) -> None:
    for number in numbers:
        np.testing.assert_array_equal(cache.frames(f"d/{number}", lambda n=number: frames_of(n)), frames_of(number))


def test_an_array_is_built_once_and_read_by_the_next_process(tmp_path):
    open_all(FrameCache(tmp_path, budget_bytes=1 << 20), range(3))
    again = FrameCache(tmp_path, budget_bytes=1 << 20)
    open_all(again, range(3))
    assert again.num_built == 0
    with pytest.raises(ValueError, match="read-only"):
        again.frames("d/0", lambda: frames_of(0))[0] = 1


def test_over_the_budget_what_was_used_longest_ago_goes_first(tmp_path):
    cache = FrameCache(tmp_path, budget_bytes=10 * FILE_BYTES)
    for number in range(10):
        open_all(cache, range(number, number + 1))
        os.utime(tmp_path / f"d/{number}.frames", (number, number))
    os.utime(tmp_path / "d/0.frames", (100, 100))
    open_all(cache, range(10, 11))
    assert cache.size_bytes() <= 10 * FILE_BYTES
    kept = {int(path.stem) for path in tmp_path.glob("d/*.frames")}
    assert {0, 10} <= kept
    assert 1 not in kept
    open_all(FrameCache(tmp_path, budget_bytes=10 * FILE_BYTES), range(11))


def test_the_budget_holds_over_many_arrays_and_every_one_is_right(tmp_path):
    cache = FrameCache(tmp_path, budget_bytes=7 * FILE_BYTES)
    for number in np.random.default_rng(0).integers(0, 30, 200):
        open_all(cache, range(number, number + 1))
        assert cache.size_bytes() <= 7 * FILE_BYTES


def test_a_process_lets_go_of_what_it_evicts_so_that_the_space_is_free(tmp_path):
    cache = FrameCache(tmp_path, budget_bytes=4 * FILE_BYTES)
    open_all(cache, range(9))
    open_all(cache, range(1))
    assert cache.num_built == 10
    assert sum(frames.nbytes for frames in cache._mapped.values()) <= 4 * FILE_BYTES


def damage_header(block: bytes) -> bytes:
    return b"X" + block[1:]


def damage_pixel(block: bytes) -> bytes:
    return block[:500] + bytes([block[500] ^ 1]) + block[501:]


def damage_shape(block: bytes) -> bytes:
    return block[:8] + b"\xff\xff\xff\x7f" + block[12:]


@pytest.mark.parametrize("damage", [damage_header, damage_pixel, damage_shape, lambda block: block[:-1], lambda _: b""])
def test_a_damaged_file_is_decoded_again(damage, tmp_path):
    open_all(FrameCache(tmp_path, budget_bytes=1 << 20), range(2))
    path = tmp_path / "d/1.frames"
    path.write_bytes(damage(path.read_bytes()))
    cache = FrameCache(tmp_path, budget_bytes=1 << 20)
    open_all(cache, range(2))
    assert cache.num_built == 1


def test_a_wrong_count_is_corrected_by_the_next_eviction(tmp_path):
    cache = FrameCache(tmp_path, budget_bytes=5 * FILE_BYTES)
    open_all(cache, range(3))
    for text in ("nonsense", "99999999"):
        (tmp_path / "bytes").write_text(text)
        open_all(FrameCache(tmp_path, budget_bytes=5 * FILE_BYTES), range(8))
        assert cache.size_bytes() <= 5 * FILE_BYTES
        assert int((tmp_path / "bytes").read_text()) >= cache.size_bytes()


def test_what_a_dead_process_left_unfinished_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    cache = FrameCache(tmp_path, budget_bytes=3 * FILE_BYTES)
    open_all(cache, range(1))
    left, fresh = (tmp_path / f"d/{name}.frames.1.partial" for name in ("left", "fresh"))
    for path in (left, fresh):
        path.write_bytes(bytes(FILE_BYTES))
    os.utime(left, (1, 1))
    (tmp_path / "bytes").unlink()
    open_all(cache, range(1, 3))
    assert not left.exists()
    assert fresh.exists()


def test_an_episode_beyond_the_budget_says_which_option_to_raise(tmp_path):
    with pytest.raises(DataError, match=rf"takes {FILE_BYTES} bytes, the frame cache may hold 100; raise mixture\.cache_gb"):
        FrameCache(tmp_path, budget_bytes=100).frames("a", lambda: frames_of(0))


def test_several_processes_share_a_budget_and_their_work(tmp_path):
    program = (
        "import sys, pathlib, numpy as np\n"
        "from opentau.data.cache import FrameCache\n"
        f"cache = FrameCache(pathlib.Path({str(tmp_path)!r}), budget_bytes={12 * FILE_BYTES})\n"
        "for number in np.random.default_rng(int(sys.argv[1])).integers(0, 20, 300):\n"
        f"    make = lambda: np.random.default_rng(number).integers(0, 256, {SHAPE}, dtype=np.uint8)\n"
        "    cache._mapped.clear()\n"
        "    assert np.array_equal(cache.frames(f'd/{number}', make), make())\n"
        # A file that another process renames while the folder is listed may be seen under both names.
        f"    assert cache.size_bytes() <= {14 * FILE_BYTES}, cache.size_bytes()\n"
    )
    repository = Path(__file__).parents[3]
    processes = [subprocess.Popen([sys.executable, "-c", program, str(seed)], cwd=repository) for seed in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert not list(tmp_path.rglob("*.partial"))
    assert FrameCache(tmp_path, budget_bytes=12 * FILE_BYTES).size_bytes() <= 12 * FILE_BYTES

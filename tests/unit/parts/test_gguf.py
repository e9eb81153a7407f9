"""Reading GGUF: facts, plain and quantised tensors, and files that are none."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from opentau.errors import CheckpointError
from opentau.policies.parts.gguf import Gguf
from tests.unit.parts.gguf_files import F32, Q4_1, Q8_0, plain, write_gguf


def half(value: float) -> tuple[bytes, float]:
    stored = struct.pack("<e", value)
    return stored, struct.unpack("<e", stored)[0]


def one_q4_1(rng: np.random.Generator) -> tuple[bytes, list[float]]:
    """Return a block's bytes and its numbers, computed one by one: number i sits low, number i + 16 high in byte i."""
    (scale, s), (lowest, m) = half(rng.uniform(0.01, 0.1)), half(rng.uniform(-1, 0))
    stored = bytes(rng.integers(0, 256, 16, dtype=np.uint8))
    return scale + lowest + stored, [s * (byte % 16) + m for byte in stored] + [s * (byte // 16) + m for byte in stored]


def one_q8_0(rng: np.random.Generator) -> tuple[bytes, list[float]]:
    scale, s = half(rng.uniform(0.01, 0.1))
    numbers = rng.integers(-128, 128, 32).tolist()
    return scale + struct.pack("<32b", *numbers), [s * number for number in numbers]


@pytest.mark.parametrize(("kind", "one"), [(Q4_1, one_q4_1), (Q8_0, one_q8_0)])
def test_quantised_blocks_are_what_they_are_one_by_one(tmp_path, kind, one):
    rng = np.random.default_rng(0)
    blocks = [one(rng) for _ in range(6)]
    stored, numbers = b"".join(block for block, _ in blocks), np.concatenate([values for _, values in blocks])
    other = plain(np.arange(5, dtype=np.float32))
    file = Gguf(write_gguf(tmp_path / "a.gguf", {}, {"before": other, "w": (kind, (3, 64), stored)}))
    assert file.tensor("w").dtype == np.float32
    np.testing.assert_allclose(file.tensor("w"), numbers.reshape(3, 64), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(file.tensor("before"), np.arange(5))


def test_facts_come_back_as_they_were_written(tmp_path):
    facts = {"name": "milk é", "count": 7, "share": 0.25, "list": ["a", "ß"], "numbers": [1, 2, 3]}
    assert Gguf(write_gguf(tmp_path / "a.gguf", facts, {})).facts == facts


def test_an_own_alignment_moves_the_tensors(tmp_path):
    numbers = np.arange(4, dtype=np.float32)
    path = write_gguf(tmp_path / "a.gguf", {"general.alignment": 256}, {"w": plain(numbers)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-32].ljust(256, b"\0") + whole[-32:])
    np.testing.assert_array_equal(Gguf(path).tensor("w"), numbers)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda whole: b"GGML" + whole[4:], "begins with b'GGML'"),
        (lambda whole: whole[:4] + struct.pack("<I", 1) + whole[8:], "version is 1"),
        (lambda whole: whole[:30], "error: unpack requires"),
    ],
)
def test_a_header_that_is_none_is_an_error(tmp_path, damage, named):
    path = write_gguf(tmp_path / "a.gguf", {"name": "milk"}, {"w": plain(np.zeros(8, np.float32))})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=named):
        Gguf(path)


def test_a_tensor_that_is_absent_cut_off_or_of_an_unread_type_is_an_error(tmp_path):
    tensors = {"k": (12, (256,), bytes(144)), "odd": (Q8_0, (33,), bytes(34)), "last": (F32, (64,), bytes(256))}
    path = write_gguf(tmp_path / "a.gguf", {}, tensors)
    path.write_bytes(path.read_bytes()[:-8])
    file = Gguf(path)
    for name, named in {"no": "no tensor no", "k": "type 12", "odd": "odd does not fit", "last": "last does not fit"}.items():
        with pytest.raises(CheckpointError, match=named):
            file.tensor(name)

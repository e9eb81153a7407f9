"""Published action tokenizers: what LeRobot's processor says of a folder, ours says too; what is damaged is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from opentau.errors import CheckpointError
from opentau.policies.fast_tokenizer import FastTokenizer
from opentau.policies.fast_vocabulary import FastVocabulary
from tests.unit.policies.parts import ACTION_DIM, HORIZON, chunks

# Written by benchmarks/lerobot_side/write_fast_golden.py; golden.json holds chunks, and LeRobot's tokens and chunks of them.
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "fast"
THEIRS = json.loads((GOLDEN / "golden.json").read_text())
CHUNKS, DECODED = np.array(THEIRS["chunks"]), np.array(THEIRS["decoded"])
SHAPE = CHUNKS.shape[1:]
LIBRARY = tokenizers.Tokenizer.from_file(str(GOLDEN / "tokenizer.json"))
VOCABULARY = FastVocabulary(json.loads((GOLDEN / "tokenizer.json").read_text()))
PUBLISHED = FastTokenizer.from_folder(GOLDEN)
# Chunk 0 lies above the fitted range and one of chunk 4's coefficients was never seen: LeRobot's processor drops characters.
# Chunk 1 lies below: both take the lowest coefficient.
DROPPED = (0, 4)
KEPT = [row for row in range(len(CHUNKS)) if row not in DROPPED]
# White space, quotes with and without what makes them contractions, digits, letters, bytes in pairs.
AWKWARD = [ord(character) for character in "\t\n  ''sdmtrevl019AZaz!-\x85\xa0"]


@pytest.fixture
def folder(tmp_path):
    """A copy of the golden folder."""
    return shutil.copytree(GOLDEN, tmp_path / "fast")


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_tokens_are_those_of_lerobots_processor():
    ids = PUBLISHED.encode(CHUNKS)
    assert [ids[row] for row in KEPT] == [THEIRS["ids"][row] for row in KEPT]


def test_chunks_are_those_of_lerobots_processor():
    decoded = PUBLISHED.decode_batch(THEIRS["ids"])
    assert np.abs(np.stack([decoded[row] for row in KEPT]) - DECODED[KEPT]).max() < 1e-6


def test_what_lerobots_processor_drops_becomes_the_nearest_that_can_be_spelled():
    assert [row for row, is_spelled in enumerate(PUBLISHED.can_spell(CHUNKS)) if not is_spelled] == [0, 1, 4]
    assert [PUBLISHED.decode(THEIRS["ids"][row]) for row in DROPPED] == [None, None]
    assert not DECODED[0].any()
    closest = PUBLISHED.decode_batch([PUBLISHED.encode(CHUNKS)[row] for row in DROPPED])
    assert np.abs(closest[1] - CHUNKS[4]).max() < 0.5
    assert closest[0].mean() == pytest.approx(PUBLISHED.coefficient_range[1] / PUBLISHED.scale / np.sqrt(SHAPE[0]), abs=0.5)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_words_end_where_the_library_ends_them(data):
    vocabulary = VOCABULARY
    known = [point for point in AWKWARD if point in vocabulary.characters]
    points = st.sampled_from(known) | st.sampled_from(vocabulary.characters.tolist())
    rows = data.draw(st.lists(st.lists(points, min_size=30, max_size=30), min_size=1, max_size=4))
    texts = ["".join(map(chr, row)) for row in rows]
    ids = vocabulary.encode(np.array(rows))
    assert ids == [LIBRARY.encode(text).ids for text in texts]
    assert [vocabulary.decode(row) for row in ids] == texts


def test_many_are_decoded_as_one_by_one():
    ids = [*PUBLISHED.encode(CHUNKS), [], [0], THEIRS["ids"][2][:-1], [*THEIRS["ids"][2][:-1], PUBLISHED.vocab_size]]
    for chunk, row in zip(PUBLISHED.decode_batch(ids), ids, strict=True):
        alone = PUBLISHED.decode(row)
        assert (chunk is None) == (alone is None)
        assert chunk is None or np.array_equal(chunk, alone)
    assert PUBLISHED.decode_batch([]) == []


def test_an_unfinished_character_decodes_to_none():
    # U+00C2 stands for the first byte of characters from U+0080 on.
    first_byte = VOCABULARY.plain["model"]["vocab"]["\u00c2"]
    tokenizer = FastTokenizer.from_folder(GOLDEN)
    zeros = tokenizer.encode(np.zeros((1, *SHAPE)))[0]
    assert tokenizer.decode(zeros) is not None
    assert tokenizer.decode([*zeros[:-1], first_byte]) is None


def test_added_tokens_count_and_decode_to_none(folder):
    change(folder / "tokenizer.json", added_tokens=[{"id": 390, "content": "<pad>", "special": True}])
    tokenizer = FastTokenizer.from_folder(folder)
    assert tokenizer.vocab_size == 391
    assert tokenizer.encode(CHUNKS) == PUBLISHED.encode(CHUNKS)
    assert tokenizer.decode([*THEIRS["ids"][2], 390]) is None


def test_folders_of_older_and_newer_libraries_are_read_alike(folder):
    plain = json.loads((folder / "tokenizer.json").read_text())
    plain["model"]["merges"] = [" ".join(pair) for pair in plain["model"]["merges"]]
    del plain["pre_tokenizer"]["use_regex"], plain["model"]["ignore_merges"]
    (folder / "bpe_tokenizer").mkdir()
    (folder / "bpe_tokenizer" / "tokenizer.json").write_text(json.dumps(plain))
    (folder / "tokenizer.json").unlink()
    assert FastTokenizer.from_folder(folder).encode(CHUNKS) == PUBLISHED.encode(CHUNKS)


def test_a_universal_folder_takes_the_shape_it_is_given(folder):
    change(folder / "processor_config.json", time_horizon=None, action_dim=None)
    tokenizer = FastTokenizer.from_folder(folder, action_horizon=SHAPE[0], action_dim=SHAPE[1])
    assert tokenizer.encode(CHUNKS) == PUBLISHED.encode(CHUNKS)
    with pytest.raises(CheckpointError, match="is for any action_dim; say which"):
        FastTokenizer.from_folder(folder, action_horizon=SHAPE[0])


def test_a_folder_fitted_on_another_shape_is_refused():
    with pytest.raises(CheckpointError, match="fitted on action_horizon 16, not 50"):
        FastTokenizer.from_folder(GOLDEN, action_horizon=50)


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_saved_folder_gives_the_same_tokens(tmp_path, is_ours):
    tokenizer = FastTokenizer.fit(chunks(300), vocab_size=256)[0] if is_ours else PUBLISHED
    data = 3 * chunks(50, seed=1) if is_ours else CHUNKS
    tokenizer.save_folder(tmp_path / "saved")
    loaded = FastTokenizer.from_folder(tmp_path / "saved")
    assert loaded.encode(data) == tokenizer.encode(data)
    assert loaded.to_json() == FastTokenizer.from_json(loaded.to_json()).to_json()


def test_the_library_reads_a_saved_folder_of_ours(tmp_path):
    tokenizer, _ = FastTokenizer.fit(chunks(300), vocab_size=256)
    tokenizer.save_folder(tmp_path)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    min_token = json.loads((tmp_path / "processor_config.json").read_text())["min_token"]
    ids = tokenizer.encode(chunks(5))[0]
    coefficients = np.array([ord(character) for character in library.decode(ids)]) + min_token
    assert len(coefficients) == HORIZON * ACTION_DIM
    assert np.abs(coefficients).max() <= tokenizer.coefficient_range[1]
    assert library.encode(library.decode(ids)).ids == ids


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "cut short", "no object", "no text"])
def test_a_damaged_file_is_named_with_what_to_do(folder, name, damage):
    path = folder / name
    content = {"cut short": path.read_bytes()[:100], "no object": b"[]", "no text": b"\xff\xfe"}
    path.unlink() if damage == "missing" else path.write_bytes(content[damage])
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read: .*Fetch the folder again"):
        FastTokenizer.from_folder(folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"scale": 0}, "scale is 0"),
        ({"scale": "10"}, "scale is '10'"),
        ({"min_token": 1.5}, r"min_token is 1\.5"),
        ({"time_horizon": 0}, "action_horizon is 0"),
        ({"action_dim": "7"}, "action_dim is '7'"),
        ({"clip": -1.5}, r"clip is -1\.5"),
    ],
)
def test_settings_that_make_no_sense_are_named(folder, changes, named):
    change(folder / "processor_config.json", **changes)
    with pytest.raises(CheckpointError, match=f"processor_config.json cannot be read: .*{named}"):
        FastTokenizer.from_folder(folder)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "splits text by"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "splits text by"),
        ({"added_tokens": [{"id": 10**6}]}, "integers below"),
        ({"model": {"type": "WordPiece"}}, "WordPiece"),
        ({"model": {"type": "BPE", "dropout": 0.1}}, "dropout"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": []}}, "0 ids"),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}, "one id to several"),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}}, "need the tokens"),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b c"]}}, "unpack"),
        ({"model": {"type": "BPE", "vocab": {"<unk>": 0}, "merges": []}}, "no single characters"),
    ],
)
def test_vocabularies_that_are_not_followed_exactly_are_refused(folder, changes, named):
    change(folder / "tokenizer.json", **changes)
    with pytest.raises(CheckpointError, match=f"tokenizer.json cannot be read: .*{named}"):
        FastTokenizer.from_folder(folder)

"""The shipped text tokenizer: complete, short on instructions, and exactly what its script makes."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentau.errors import CheckpointError, OptionError
from opentau.policies import build_text_tokenizer
from opentau.policies.config import nano
from opentau.policies.text_tokenizer import SPECIAL_TOKENS, TextTokenizer

TOKENIZER = TextTokenizer.shipped()
needs_libero = pytest.mark.skipif(importlib.util.find_spec("libero") is None, reason="LIBERO is not installed")


@needs_libero
def test_the_shipped_file_is_what_its_script_makes():
    assert build_text_tokenizer.build().to_str(pretty=True) == TOKENIZER.to_json()


@needs_libero
def test_every_libero_instruction_fits_into_nanos_prompt():
    config = nano(cameras=("agentview",), state_dim=8, action_dim=7)
    sentences = build_text_tokenizer.libero_sentences()
    assert len(sentences) == 130
    assert max(len(TOKENIZER.encode(sentence)) for sentence in sentences) < config.max_prompt_tokens
    assert TOKENIZER.vocab_size == config.text_vocab_size


def test_common_words_are_one_token():
    assert len(TOKENIZER.encode("pick up the alphabet soup and place it in the basket")) == 11


@pytest.mark.parametrize("text", ["Advantage: positive", "Advantage: negative"])
def test_the_indicator_is_three_tokens(text):
    assert len(TOKENIZER.encode(text)) == 3


def test_case_underscores_and_spaces_do_not_matter():
    assert TOKENIZER.encode("Open  the_Drawer\n") == TOKENIZER.encode("open the drawer")


def test_special_tokens_have_the_first_ids_and_cannot_be_written():
    assert (TOKENIZER.pad_id, TOKENIZER.bos_id, TOKENIZER.eos_id, TOKENIZER.action_id) == (0, 1, 2, 3)
    ids = TOKENIZER.encode("open <reserved_3> the drawer")
    assert TOKENIZER.decode(ids).startswith("open")
    assert SPECIAL_TOKENS[0] == "<pad>"


@given(st.text(alphabet=st.characters(codec="ascii", categories=("Ll", "Nd", "Po")), max_size=40))
def test_normalised_text_comes_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text.replace("_", " ").strip()


@given(st.text(max_size=30))
def test_no_text_is_out_of_vocabulary(text):
    normalised = TOKENIZER._tokenizer.normalizer.normalize_str(text)
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == normalised.strip()


@pytest.mark.parametrize("marker", SPECIAL_TOKENS[:5])
def test_a_marker_in_a_text_is_read_as_its_letters(marker):
    ids = TOKENIZER.encode(f"say {marker} aloud")
    assert min(ids) >= len(SPECIAL_TOKENS)
    assert TOKENIZER.decode(ids) == f"say {marker} aloud".replace("_", " ")


def test_locations_are_tokens_of_their_own_in_equal_bins():
    coarse = TextTokenizer.shipped(num_locations=64)
    assert coarse.vocab_size == TOKENIZER.vocab_size + 64
    box = "<loc0000><loc0015><loc0016><loc1023> red mug"
    ids = coarse.encode(box)
    assert [token - TOKENIZER.vocab_size for token in ids[:4]] == [0, 0, 1, 63]
    assert ids[4:] == TOKENIZER.encode("red mug")
    assert coarse.decode(ids) == "<loc0008><loc0008><loc0024><loc1016> red mug"
    exact = TextTokenizer.shipped(num_locations=1024)
    assert exact.decode(exact.encode(box)) == box
    assert TextTokenizer.from_json(coarse.to_json(), num_locations=64).encode(box) == ids


def test_locations_without_tokens_for_them_name_the_option():
    with pytest.raises(OptionError, match=r"holds locations, the policy has no tokens for them; set policy\.num_locations"):
        TOKENIZER.encode("<loc0000> red mug")


def test_damaged_text_is_a_checkpoint_error():
    with pytest.raises(CheckpointError, match="cannot be read"):
        TextTokenizer.from_json(TOKENIZER.to_json()[:200])

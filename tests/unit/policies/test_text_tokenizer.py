"""The shipped text tokenizer: complete, short on instructions, and exactly what its script makes."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentau.errors import CheckpointError
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


def test_damaged_text_is_a_checkpoint_error():
    with pytest.raises(CheckpointError, match="cannot be read"):
        TextTokenizer.from_json(TOKENIZER.to_json()[:200])

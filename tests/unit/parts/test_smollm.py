"""SmolLM2's layers and words: transformers' numbers, written by benchmarks/lerobot_side/write_llama_golden.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from opentau.errors import CheckpointError
from opentau.models.config import TransformerConfig
from opentau.models.masks import additive
from opentau.models.transformer import Transformer
from opentau.policies.parts.gguf import Gguf
from opentau.policies.parts.smollm import language_sizes, language_tokenizer, language_weights
from opentau.policies.parts.store import PARTS_FILE, parts_dir
from opentau.policies.published_tokenizer import PublishedTokenizer
from opentau.policies.weights import load_weights
from tests.unit.parts.gguf_files import MARKERS, llama, random_llama, words, write_gguf

GOLDEN = Path(__file__).parents[2] / "golden"
PARTS = parts_dir()
WITH_PARTS = pytest.mark.skipif(not (PARTS / PARTS_FILE).is_file(), reason=f"no parts in {PARTS}: opentau parts")


def logits(sizes: dict, weights: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """Return what the backbone predicts of every token, [B, T, V], each seeing those before it."""
    with torch.device("meta"):
        model = Transformer(TransformerConfig(**sizes, activation="silu")).eval()
    layers = {name.removeprefix("backbone."): weight for name, weight in weights.items() if name.startswith("backbone.")}
    model.load_state_dict(layers, assign=True)
    batch, length = ids.shape
    causal = torch.ones(length, length, dtype=torch.bool).tril().expand(batch, -1, -1)
    embedded = F.embedding(ids, weights["text_embedding.weight"])
    with torch.no_grad():
        read = model(embedded, rotations=model.rotations(torch.arange(length).expand(batch, -1)), mask_B1TC=additive(causal))
    return F.linear(read, weights["text_embedding.weight"])


def tensors(weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(weight)) for name, weight in weights.items()}


def test_a_llama_out_of_a_gguf_file_computes_what_transformers_computes(tmp_path):
    with np.load(GOLDEN / "llama.npz", allow_pickle=False) as arrays:
        golden = {name: arrays[name] for name in arrays.files}
    weights = {name: array for name, array in golden.items() if name.startswith("model.")}
    file = Gguf(llama(tmp_path / "a.gguf", weights, depth=2, num_heads=4, num_kv_heads=2))
    sizes, found = language_sizes(file), tensors(language_weights(file))
    ours = logits(sizes, found, torch.from_numpy(golden["in.ids"]))
    assert (ours - torch.from_numpy(golden["out.logits"])).abs().max() < 1e-4
    wrong = logits(sizes | {"rope_theta": 1e4}, found, torch.from_numpy(golden["in.ids"]))
    assert (wrong - torch.from_numpy(golden["out.logits"])).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "named"), [({"general.architecture": "gemma"}, "'gemma'"), ({"tokenizer.ggml.pre": "qwen2"}, "qwen2")]
)
def test_another_model_is_refused(tmp_path, changes, named):
    file = Gguf(random_llama(tmp_path / "a.gguf", **changes))
    with pytest.raises(CheckpointError, match=named):
        (language_sizes if "general.architecture" in changes else language_tokenizer)(file)


@pytest.fixture
def tokenizer(tmp_path) -> PublishedTokenizer:
    return PublishedTokenizer.from_json(language_tokenizer(Gguf(write_gguf(tmp_path / "a.gguf", words(), {}))))


def test_words_are_merged_and_digits_stay_apart(tokenizer):
    names = words()["tokenizer.ggml.tokens"]
    assert [names[index] for index in tokenizer.encode("the milk 42")] == ["t", "he", "Ġmilk", "Ġ", "4", "2"]


@pytest.mark.parametrize("said", ["Pick up the  milk!", "é ß 漢字", "a 1234\nb", "<|im_end|> is spelled"])
def test_texts_come_back(tokenizer, said):
    ids = tokenizer.encode(said)
    assert tokenizer.decode(ids) == said
    assert not {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id} & set(ids)


def test_the_markers_are_the_models(tokenizer):
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2)
    assert tokenizer.vocab_size == len(words()["tokenizer.ggml.tokens"])
    assert PublishedTokenizer.from_json(tokenizer.to_json()).encode("the milk") == tokenizer.encode("the milk")


def test_words_without_known_markers_are_refused(tmp_path):
    facts = words()
    facts["tokenizer.ggml.tokens"] = [f"<{token}>" if token in MARKERS else token for token in facts["tokenizer.ggml.tokens"]]
    with pytest.raises(CheckpointError, match="lacks the tokens <pad> <bos> <eos>, or"):
        PublishedTokenizer.from_json(language_tokenizer(Gguf(write_gguf(tmp_path / "a.gguf", facts, {}))))


@WITH_PARTS
def test_the_fetched_language_model_says_what_it_says_in_transformers():
    sizes = json.loads((PARTS / PARTS_FILE).read_text())["language"]["sizes"]
    weights = {name: weight.float() for name, weight in load_weights(PARTS / "model.safetensors").items()}
    tokenizer = PublishedTokenizer.from_json((PARTS / "tokenizer.json").read_text(encoding="utf-8"))
    with np.load(GOLDEN / "smollm2.npz", allow_pickle=False) as golden:
        for number in range(3):
            ids = golden[f"ids.{number}"]
            assert tokenizer.encode(str(golden[f"text.{number}"])) == ids.tolist()
            ours = logits(sizes, weights, torch.from_numpy(ids)[None])[0]
            known = golden[f"logits.{number}"]
            assert np.abs(ours[:, : known.shape[1]].numpy() - known).max() < 1e-4
            assert ours.argmax(dim=1).tolist() == golden[f"largest.{number}"].tolist()
        assert tokenizer.decode([int(golden["largest.0"][-1])]) == "Paris"

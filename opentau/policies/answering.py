"""What a policy says about what it sees, by greedy decoding: answers to questions, and action tokens."""

# Shapes: B observations, T tokens of a prefix, V ids that may be said, W width, H actions of a chunk,
# A action dimensions.

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from opentau.policies.inputs import PrefixInputs
from opentau.policies.prefix import Prefix, Said
from opentau.policies.processor import Processor
from opentau.policies.vla import VLA


@torch.no_grad()
def most_likely(
    model: VLA, prefix: Prefix, *, first_id: int, allowed_V: Tensor, end_id: int, max_tokens: int
) -> list[list[int]]:
    """Return the most likely ids after `first_id` for each row, one at a time, without the end.

    Only `allowed_V` are said, int64, the end among them. It stops when all rows have ended, or at `max_tokens`. Every token is
    read once; what it offers to later ones is kept.
    """
    next_B1 = torch.full((len(prefix.has_token_BT), 1), first_id, device=allowed_V.device)
    has_ended_B1 = torch.zeros_like(next_B1, dtype=torch.bool)
    said: list[Tensor] = [next_B1]
    seen: Prefix | Said = prefix
    while len(said) <= max_tokens and not has_ended_B1.all():
        stream_B1W, seen = model.say(seen, next_B1)
        best_B1 = model.logits(stream_B1W)[..., allowed_V].argmax(dim=-1)
        next_B1 = allowed_V[best_B1].masked_fill(has_ended_B1, end_id)
        has_ended_B1 = has_ended_B1 | (next_B1 == end_id)
        said.append(next_B1)
    rows = torch.cat(said, dim=1)[:, 1:].tolist()
    return [list(itertools.takewhile(lambda token: token != end_id, row)) for row in rows]


@torch.no_grad()
def answer(model: VLA, *, processor: Processor, inputs: PrefixInputs) -> list[str]:
    """Return the most likely text to each of some questions; it ends at the end of speech or at the limit."""
    text, config = processor.text_tokenizer, processor.config
    said = most_likely(
        model,
        model.prefix(inputs),
        first_id=text.answer_id,
        allowed_V=torch.arange(config.text_vocab_size, device=inputs.state_BS.device),
        end_id=text.eos_id,
        max_tokens=config.max_answer_tokens - 1,
    )
    return [text.decode(ids) for ids in said]


def spoken_chunks(model: VLA, prefix: Prefix, *, processor: Processor) -> list[np.ndarray | None]:
    """Return the chunk that each row says in action tokens, encoded, float32 [H, A]; None where they spell none."""
    text = processor.text_tokenizer
    said = most_likely(
        model,
        prefix,
        first_id=text.action_id,
        allowed_V=torch.tensor([text.eos_id, *processor.fast_ids], device=prefix.has_token_BT.device),
        end_id=text.eos_id,
        max_tokens=processor.config.max_fast_tokens - 1,
    )
    return processor.decode_fast(said)

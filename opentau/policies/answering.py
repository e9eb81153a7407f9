"""What a policy says to a question about what it sees: greedy decoding of text."""

# Shapes: B questions, F tokens said so far, V vocabulary.

from __future__ import annotations

import torch

from opentau.policies.inputs import PrefixInputs
from opentau.policies.processor import Processor
from opentau.policies.vla import VLA


@torch.inference_mode()
def answer(model: VLA, *, processor: Processor, inputs: PrefixInputs) -> list[str]:
    """Return the most likely text, token by token, to each of some questions; it ends at the end of speech or at the limit."""
    text, config = processor.text_tokenizer, processor.config
    prefix = model.prefix(inputs)
    token_BF = torch.full((len(inputs), 1), text.answer_id, device=inputs.state_BS.device)
    has_ended_B = torch.zeros(len(inputs), dtype=torch.bool, device=token_BF.device)
    while token_BF.shape[1] < config.max_answer_tokens and not has_ended_B.all():
        stream_BFW = model.continuation(prefix, token_BF)
        logits_BV = model.logits(stream_BFW[:, -1])[:, : config.text_vocab_size]
        next_B = logits_BV.argmax(dim=-1).masked_fill(has_ended_B, text.eos_id)
        has_ended_B |= next_B == text.eos_id
        token_BF = torch.cat((token_BF, next_B[:, None]), dim=1)
    said = token_BF[:, 1:].tolist()
    return [text.decode(ids[: ids.index(text.eos_id)] if text.eos_id in ids else ids) for ids in said]

"""What a policy says: token by token, and the same as if everything were read anew each time."""

from __future__ import annotations

import pytest
import torch

from opentau.policies.answering import answer, most_likely
from tests.unit.policies.parts import FAMILY, batch, model, nano_like, prefix_inputs, processor

everyone = pytest.mark.parametrize("member", FAMILY.values(), ids=FAMILY)
EOS = 2


@everyone
def test_tokens_read_one_by_one_give_the_stream_of_reading_them_at_once(member):
    config = member()
    vla = model(config).eval()
    prefix = vla.prefix(prefix_inputs(config, batch(3)))
    token_BF = torch.randint(5, 500, (3, 6), generator=torch.Generator().manual_seed(0))
    seen, streams = prefix, []
    for column in token_BF.split([1, 2, 3], dim=1):
        stream, seen = vla.say(seen, column)
        streams.append(stream)
    assert torch.allclose(torch.cat(streams, dim=1), vla.continuation(prefix, token_BF), atol=1e-5)


@everyone
def test_the_most_likely_words_are_those_of_reading_everything_anew(member):
    config = member()
    vla = model(config).eval()
    prefix = vla.prefix(prefix_inputs(config, batch(4)))
    token_BF = torch.full((4, 1), 4)
    with torch.no_grad():
        for _ in range(9):
            logits_BV = vla.logits(vla.continuation(prefix, token_BF)[:, -1])[:, 5:400]
            token_BF = torch.cat((token_BF, 5 + logits_BV.argmax(dim=-1, keepdim=True)), dim=1)
    allowed_V = torch.arange(5, 400)
    assert _said(vla, prefix, allowed_V=allowed_V) == token_BF[:, 1:].tolist()


def test_only_what_is_allowed_is_said_and_nothing_after_the_end():
    config = nano_like()
    vla = model(config).eval()
    prefix = vla.prefix(prefix_inputs(config, batch(4)))
    free = _said(vla, prefix, allowed_V=torch.arange(5, 400))
    allowed = sorted({EOS, *free[0][:2]})
    said = _said(vla, prefix, allowed_V=torch.tensor(allowed))
    assert all(set(row) <= set(allowed) - {EOS} and len(row) <= 9 for row in said)
    # With the second word of a row as the end, that row has one word.
    ended = _said(vla, prefix, allowed_V=torch.arange(5, 400), end_id=free[0][1])
    assert ended[0] == free[0][: free[0].index(free[0][1])]


def test_a_row_says_the_same_in_any_company():
    config = nano_like()
    vla = model(config).eval()
    prefix = vla.prefix(prefix_inputs(config, batch(4)))
    said = _said(vla, prefix, allowed_V=torch.arange(400))
    turned = _said(vla, prefix.rows(torch.tensor([2, 3, 0, 1])), allowed_V=torch.arange(400))
    assert turned == [said[2], said[3], said[0], said[1]]


def test_nothing_is_said_once_all_rows_have_ended():
    config = nano_like()
    vla = model(config).eval()
    prefix = vla.prefix(prefix_inputs(config, batch(2)))
    calls = []
    say = vla.say
    vla.say = lambda seen, token: calls.append(token) or say(seen, token)
    assert _said(vla, prefix, allowed_V=torch.tensor([EOS])) == [[], []]
    assert len(calls) == 1
    assert _said(vla, prefix, allowed_V=torch.tensor([EOS]), max_tokens=0) == [[], []]


def test_an_answer_is_text_without_the_end():
    config = nano_like(max_answer_tokens=6)
    vla = model(config).eval()
    answers = answer(vla, processor=processor(config), inputs=prefix_inputs(config, batch(2)))
    assert len(answers) == 2
    assert all(isinstance(text, str) and "<eos>" not in text for text in answers)


def _said(vla, prefix, *, allowed_V, end_id=EOS, max_tokens=9):
    return most_likely(vla, prefix, first_id=4, allowed_V=allowed_V, end_id=end_id, max_tokens=max_tokens)

"""Functions that are replayed on fixed tensors give what they give when they are called."""

from __future__ import annotations

import pytest
import torch

from opentau.models.attention import KeysValues
from opentau.models.recording import MAX_RECORDINGS, Recorder, tensors_of, with_tensors


def halves(pair: KeysValues, more: torch.Tensor | None) -> torch.Tensor:
    read = pair.keys_BGTD @ pair.values_BGTD.mT
    return read if more is None else read + more


def test_each_call_is_answered_with_its_own_numbers_and_answers_stay():
    recorder, generator = Recorder(), torch.Generator().manual_seed(0)
    answers, wanted = [], []
    for _ in range(3):
        pair = KeysValues(*torch.randn(2, 1, 1, 3, 4, generator=generator))
        more = torch.randn(3, generator=generator)
        for given in (more, None):
            answers.append(recorder(halves, pair, given, key=given is None))
            wanted.append(halves(pair, given))
    assert all(torch.equal(answer, want) for answer, want in zip(answers, wanted, strict=True))
    assert len(recorder._recordings) == 2


def test_what_is_recorded_reads_fixed_tensors_and_not_those_of_the_first_call():
    recorder, seen = Recorder(), []

    def place(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.data_ptr())
        return x * 2

    for number in range(3):
        given = torch.full((4,), float(number))
        assert torch.equal(recorder(place, given), given * 2)
        assert given.data_ptr() not in seen
    assert len(set(seen)) == 1


def test_only_so_many_shapes_are_kept():
    recorder = Recorder()
    for length in range(1, MAX_RECORDINGS + 4):
        assert torch.equal(recorder(torch.neg, torch.ones(length)), -torch.ones(length))
    assert len(recorder._recordings) == MAX_RECORDINGS


def test_a_nest_is_taken_apart_and_put_together_again():
    nest = (KeysValues(torch.ones(1), torch.zeros(2)), [None, torch.ones(3)])
    again = with_tensors(nest, iter([tensor + 1 for tensor in tensors_of(nest)]))
    assert isinstance(again[0], KeysValues)
    assert [tensor.tolist() for tensor in tensors_of(again)] == [[2.0], [1.0, 1.0], [2.0, 2.0, 2.0]]
    with pytest.raises(TypeError, match="a str cannot be an argument"):
        list(tensors_of((torch.ones(1), "text")))

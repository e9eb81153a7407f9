"""How chunks are drawn: several candidates on one pass of the prefix, and nothing that waits for the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opentau.errors import OptionError
from opentau.policies.choosing import agreement, best
from opentau.policies.config import IndicatorPlace
from opentau.policies.drawing import FlowDrawing
from opentau.policies.options import InferenceOptions, identifying
from opentau.policies.policy import VLAPolicy
from opentau.types import Indicator
from tests.unit.policies.parts import ACTION_DIM, FAMILY, HORIZON, model, nano_like, processor, request


def _drawing(config, *, vla=None, **options):
    return FlowDrawing(model=(vla or model(config)).eval(), processor=processor(config), options=InferenceOptions(**options))


@torch.no_grad()
def _draw(drawing, requests, *, device="cpu"):
    inputs = drawing.processor.request_inputs(requests, indicator=Indicator.POSITIVE).to(torch.device(device))
    prefix = drawing.model.prefix(inputs)
    return drawing(requests, prefix=prefix, unguided=None if drawing.options.guidance == 1.0 else prefix.without_indicator())


def test_the_candidate_that_the_others_agree_with_most_is_chosen_the_first_of_equals():
    candidates = torch.tensor([[0.0, 9.0, 1.0, 1.5], [5.0, -5.0, -5.5, -6.0]])[..., None, None]
    scores = agreement([], None, candidates)
    assert scores[0].tolist() == pytest.approx([-11.5 / 3, -24.5 / 3, -9.5 / 3, -9.5 / 3])
    assert best(candidates, scores).flatten().tolist() == [1.0, -5.0]


def test_the_chosen_chunk_is_one_of_the_candidates_and_the_first_has_the_noise_of_one_alone():
    config = nano_like()
    vla, requests = model(config), [request(seed=0), request(seed=1, tick=4)]
    drawing = _drawing(config, vla=vla, num_candidates=5)
    seen = []

    def score(requests, prefix, candidates_BNHA):
        seen.append(candidates_BNHA)
        return torch.arange(5).flip(0).expand(2, -1)

    first = _draw(FlowDrawing(model=vla, processor=drawing.processor, options=drawing.options, score=score), requests)
    assert torch.equal(first, seen[0][:, 0])
    assert torch.allclose(first, _draw(_drawing(config, vla=vla), requests), atol=1e-5)
    chosen = _draw(drawing, requests)
    assert all((chosen[row] == seen[0][row]).all(dim=(-2, -1)).any() for row in range(2))
    assert len(torch.unique(seen[0].flatten(2), dim=1)[0]) == 5


@pytest.mark.parametrize("options", [{}, {"guidance": 1.5}, {"committed": "guided"}], ids=["plain", "guidance", "committed"])
def test_candidates_are_the_same_in_any_company(options):
    config = nano_like()
    policy = VLAPolicy(
        model(config),
        processor=processor(config),
        policy_version="v1",
        options=InferenceOptions(num_candidates=3, **options),
        batch_size=2,
    )
    committed = np.full((2, ACTION_DIM), 0.1, np.float32) if options.get("committed") else None
    requests = [request(seed=0, committed=committed), request(seed=1)]
    alone = [policy.infer([asked])[0].actions for asked in requests]
    for asked, chunk in zip(reversed(requests), policy.infer(requests[::-1]), strict=True):
        assert np.array_equal(chunk.actions, alone[asked.episode_seed])
    if committed is not None:
        assert np.array_equal(alone[0][:2], committed)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {}),
        ({}, {"guidance": 1.5, "num_candidates": 3}),
        ({"max_committed": 3}, {}),
        ({}, {"committed": "guided"}),
        ({"indicator_place": IndicatorPlace.PROMPT}, {}),
    ],
    ids=["plain", "candidates", "trained", "guided", "prompt"],
)
def test_drawing_never_waits_for_the_device(changes, options):
    # Tensors on 'meta' have no numbers, so that reading one back is an error, and so is mixing them with a tensor elsewhere.
    config = nano_like(**changes)
    drawing = _drawing(config, vla=model(config).to("meta"), **options)
    can_commit = config.max_committed or drawing.options.committed == "guided"
    committed = np.zeros((2, ACTION_DIM), np.float32) if can_commit else None
    drawn = _draw(drawing, [request(seed=0, committed=committed), request(seed=1)], device="meta")
    assert drawn.shape == (2, HORIZON, ACTION_DIM)
    assert drawn.is_meta


@pytest.mark.parametrize("member", FAMILY.values(), ids=FAMILY)
def test_no_member_of_the_family_waits_for_the_device(member):
    config = member()
    assert _draw(_drawing(config, vla=model(config).to("meta")), [request(seed=0)], device="meta").is_meta


def test_two_candidates_and_candidates_of_words_are_refused():
    with pytest.raises(OptionError, match="num_candidates is 2; use 1, or at least 3"):
        InferenceOptions(num_candidates=2)
    with pytest.raises(OptionError, match="one most likely chunk"):
        InferenceOptions(num_candidates=3, action_source="fast")


RECORDED = [
    ("nano", {}, {}),
    ("nano", {}, {"guidance": 1.5, "num_candidates": 3}),
    ("nano", {"max_committed": 3}, {}),
    ("nano", {}, {"committed": "guided"}),
    ("pi0", {}, {}),
    ("pi05", {}, {"guidance": 1.5}),
]


@pytest.mark.parametrize(("member", "changes", "options"), RECORDED)
def test_recorded_steps_give_the_same_chunks_to_the_bit(member, changes, options):
    config = nano_like(**changes) if changes else FAMILY[member]()
    vla, words = model(config), processor(config)
    can_commit = config.max_committed or options.get("committed") == "guided"
    committed = np.full((2, ACTION_DIM), 0.1, np.float32) if can_commit else None
    requests = [request(seed=0), request(seed=1), request(seed=2, committed=committed)]

    def answers(**more):
        asked = InferenceOptions(**options, **more)
        policy = VLAPolicy(vla, processor=words, policy_version="v1", options=asked)
        return [chunk.actions for chunk in policy.infer(requests)]

    for launched, replayed in zip(answers(), answers(is_recorded=True), strict=True):
        assert np.array_equal(launched, replayed)


@pytest.mark.parametrize("member", FAMILY.values(), ids=FAMILY)
def test_in_bfloat16_matrices_are_stored_so_and_chunks_are_nearly_the_same(member):
    config = member()
    words, requests = processor(config), [request(seed=0), request(seed=1)]
    plain = VLAPolicy(model(config), processor=words, policy_version="v1")
    half = VLAPolicy(model(config), processor=words, policy_version="v1", options=InferenceOptions(precision="bfloat16"))
    assert half.model.backbone.layers[0].mlp.gate_proj.weight.dtype == torch.bfloat16
    assert half.model.backbone.norm.weight.dtype == torch.float32
    wanted, found = (np.stack([chunk.actions for chunk in each.infer(requests)]) for each in (plain, half))
    assert 0 < np.abs(wanted - found).max() < 0.1 * np.ptp(wanted)
    assert half.features(requests).dtype == np.float32
    # Rounded once, when they are stored, or again for every product: the same numbers.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = np.stack([chunk.actions for chunk in plain.infer(requests)])
    assert np.abs(again - found).max() < 0.1 * np.ptp(wanted)


def test_how_passes_are_computed_is_named_only_where_it_is_not_as_ever():
    assert identifying({"precision": "float32", "is_recorded": False, "guidance": 1.0}) == {"guidance": 1.0}
    assert identifying({"precision": "bfloat16", "is_recorded": True}) == {"precision": "bfloat16", "is_recorded": True}
    with pytest.raises(OptionError, match=r"inference.precision is 'bfloat61'"):
        InferenceOptions(precision="bfloat61")

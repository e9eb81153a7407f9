"""How chunks are drawn: nothing in it waits for the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from opentau.policies.config import IndicatorPlace
from opentau.policies.drawing import FlowDrawing
from opentau.policies.options import InferenceOptions
from opentau.types import Indicator
from tests.unit.policies.parts import ACTION_DIM, FAMILY, HORIZON, model, nano_like, processor, request


def _drawing(config, *, vla=None, **options):
    return FlowDrawing(model=(vla or model(config)).eval(), processor=processor(config), options=InferenceOptions(**options))


@torch.no_grad()
def _draw(drawing, requests, *, device="cpu"):
    inputs = drawing.processor.request_inputs(requests, indicator=Indicator.POSITIVE).to(torch.device(device))
    prefix = drawing.model.prefix(inputs)
    return drawing(requests, prefix=prefix, unguided=None if drawing.options.guidance == 1.0 else prefix.without_indicator())


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {}),
        ({}, {"guidance": 1.5}),
        ({"max_committed": 3}, {}),
        ({}, {"committed": "guided"}),
        ({"indicator_place": IndicatorPlace.PROMPT}, {}),
    ],
    ids=["plain", "guidance", "trained", "guided", "prompt"],
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

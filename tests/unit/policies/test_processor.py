"""From plain data to tensors: cameras, prompts, states, indicators and action tokens."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from opentau.data.images import ImageFit, resize_with_pad
from opentau.errors import CheckpointError, DataError, OptionError
from opentau.policies.config import IndicatorPlace
from opentau.policies.embodiment import Embodiment
from opentau.policies.fast_tokenizer import FastTokenizer
from opentau.policies.processor import Processor
from opentau.policies.prompts import told
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.training.mixing import policy_sizes
from opentau.types import Indicator
from tests.unit.policies.parts import (
    CAMERAS,
    HORIZON,
    SIZE,
    batch,
    codec,
    interface,
    nano_like,
    pi05_like,
    prefix_inputs,
    processor,
    request,
)


def test_training_and_serving_see_the_same_tensors():
    config = nano_like()
    made = processor(config)
    requests = [request(seed=seed) for seed in range(3)]
    images = {camera: np.stack([asked.observation.images[camera] for asked in requests]) for camera in CAMERAS}
    served = made.request_inputs(requests, indicator=Indicator.POSITIVE)
    trained = made.prefix_inputs(
        images=images,
        prompts=[asked.observation.prompt for asked in requests],
        state_BS=made.codec.encode_state(np.stack([asked.observation.state for asked in requests])),
        indicator_B=np.ones(3, np.int8),
    )
    longest = trained.prompt_BP.shape[1]
    assert not served.has_prompt_BP[:, longest:].any()
    served = dataclasses.replace(
        served, prompt_BP=served.prompt_BP[:, :longest], has_prompt_BP=served.has_prompt_BP[:, :longest]
    )
    for field in dataclasses.fields(served):
        assert torch.equal(getattr(served, field.name), getattr(trained, field.name)), field.name


def test_cameras_keep_the_order_of_the_configuration_and_missing_ones_are_marked():
    made = processor(nano_like())
    inputs = made.request_inputs([request(seed=0), request(seed=1, cameras=("wrist",))], indicator=Indicator.ABSENT)
    assert inputs.has_camera_BC.tolist() == [[True, True], [False, True]]
    assert np.array_equal(inputs.images_BCYX3[0, 1].numpy(), request(seed=0).observation.images["wrist"])
    assert not inputs.images_BCYX3[1, 0].any()


def test_the_prompt_opens_with_its_marker_and_is_padded_to_a_fixed_length_for_serving():
    config = nano_like()
    asked = request(seed=0)
    inputs = processor(config).request_inputs([asked], indicator=Indicator.ABSENT)
    tokenizer = TextTokenizer.shipped()
    ids = [tokenizer.bos_id, *tokenizer.encode(asked.observation.prompt)]
    assert inputs.prompt_BP[0, : len(ids)].tolist() == ids
    assert inputs.has_prompt_BP[0].tolist() == [True] * len(ids) + [False] * (config.max_prompt_tokens - len(ids))


def test_a_state_in_text_is_binned_over_plus_minus_one():
    config = pi05_like()
    sample = dataclasses.replace(batch(2), state=np.array([[-1.0, 0.0, 1.0], [-9.0, 0.5, 9.0]], np.float32))
    inputs = prefix_inputs(config, sample)
    texts = [TextTokenizer.shipped().decode(row.tolist()) for row in inputs.prompt_BP]
    assert "state: 0 128 255;" in texts[0]
    assert "state: 0 192 255;" in texts[1]


def test_a_template_parts_texts_by_their_end_and_a_prompt_cannot():
    config = dataclasses.replace(
        pi05_like(), prompt_template="Task: {prompt}<eos>State: {state}<eos>Actions:", max_prompt_tokens=60
    )
    made, asked = processor(config), request(seed=0)
    inputs = made.request_inputs([asked] * 2, indicator=Indicator.ABSENT, prompts=["open it", "open <eos> it"])
    eos = made.text_tokenizer.eos_id
    ids = [row[has].tolist() for row, has in zip(inputs.prompt_BP, inputs.has_prompt_BP, strict=True)]
    assert [row.count(eos) for row in ids] == [2, 2]
    first, second = (at for at, token in enumerate(ids[0]) if token == eos)
    assert ids[0][:first] == [made.text_tokenizer.bos_id, *made.text_tokenizer.encode("Task: open it")]
    assert made.text_tokenizer.decode(ids[0][first + 1 : second]).startswith("state: ")
    assert ids[0][second + 1 :] == made.text_tokenizer.encode("Actions:")
    with pytest.raises(OptionError, match=r"the prompt 'Task: .*<eos>State: .*' has \d+ tokens, the policy reads 20; shorten"):
        processor(dataclasses.replace(config, max_prompt_tokens=20)).request_inputs([asked], indicator=Indicator.ABSENT)


def test_images_are_fitted_as_the_policy_says_in_training_and_in_serving():
    wide = dataclasses.replace(interface(), cameras={camera: (SIZE // 2, SIZE, 3) for camera in CAMERAS})
    pixels = np.random.default_rng(0).integers(1, 256, (SIZE // 2, SIZE, 3), dtype=np.uint8)
    seen = request(seed=0)
    seen = dataclasses.replace(seen, observation=dataclasses.replace(seen.observation, images=dict.fromkeys(CAMERAS, pixels)))
    shown = {}
    for fit in ImageFit:
        config = nano_like(image_fit=fit)
        served = Processor(
            config,
            embodiments=[Embodiment.sole(wide, codec())],
            text_tokenizer=TextTokenizer.shipped(),
            fast_tokenizer=None,
        )
        shown[fit] = served.request_inputs([seen], indicator=Indicator.ABSENT).images_BCYX3[0, 0].numpy()
        assert policy_sizes(config).image_fit is fit
        assert np.array_equal(shown[fit], resize_with_pad(pixels[None], size=SIZE, fit=fit)[0])
    assert not shown[ImageFit.TENSORAUTO][: SIZE // 2].any()
    assert shown[ImageFit.TENSORAUTO][SIZE // 2 :].all()


def test_indicators_are_spelled_by_their_text():
    made, config = processor(nano_like()), nano_like()
    inputs = made.with_indicator(prefix_inputs(config, batch(3)), torch.tensor([0, 1, -1]))
    decode = made.text_tokenizer.decode
    assert decode(inputs.indicator_BI[0].tolist()) == "advantage: negative"
    assert decode(inputs.indicator_BI[1].tolist()) == "advantage: positive"
    assert inputs.indicator_B.tolist() == [0, 1, -1]


def test_an_indicator_in_the_prompt_is_part_of_the_task_and_a_plain_task_can_say_it():
    config = dataclasses.replace(pi05_like(), indicator_place=IndicatorPlace.PROMPT, max_prompt_tokens=60)
    made, asked = processor(config), request(seed=0)
    inputs = made.with_indicator(made.request_inputs([asked] * 3, indicator=Indicator.ABSENT), torch.tensor([-1, 0, 1]))
    texts = [made.text_tokenizer.decode(row.tolist()) for row in inputs.prompt_BP]
    assert texts[0].startswith("task: pick up the milk and place it in the basket, state: ")
    assert texts[1].startswith("task: pick up the milk and place it in the basket, advantage: negative, state: ")
    assert texts[2].startswith("task: pick up the milk and place it in the basket, advantage: positive, state: ")
    assert inputs.indicator_BI.shape == (3, 0)
    untold = processor(dataclasses.replace(config, has_indicator_text=False, indicator_place=IndicatorPlace.BLOCK))
    plain = untold.request_inputs([asked], indicator=Indicator.ABSENT, prompts=[told(asked.observation.prompt, Indicator(1))])
    assert torch.equal(plain.prompt_BP[0], inputs.prompt_BP[2])
    assert torch.equal(plain.has_prompt_BP[0], inputs.has_prompt_BP[2])


def test_with_the_indicator_in_the_prompt_training_and_serving_read_the_same_and_questions_have_none():
    config = nano_like(indicator_place=IndicatorPlace.PROMPT)
    made, sample = processor(config), batch(3)
    arguments = {
        "images": sample.images,
        "prompts": sample.prompt,
        "state_BS": sample.state,
        "indicator_B": np.ones(3, np.int8),
    }
    trained = made.prefix_inputs(**arguments)
    served = made.request_inputs([request(seed=seed) for seed in range(3)], indicator=Indicator.POSITIVE)
    longest = trained.prompt_BP.shape[1]
    assert longest < config.max_prompt_tokens
    assert torch.equal(trained.prompt_BP, served.prompt_BP[:, :longest])
    withheld = made.with_indicator(trained, torch.full((3,), -1))
    assert not torch.equal(withheld.prompt_BP, trained.prompt_BP)
    assert torch.equal(made.with_indicator(withheld, trained.indicator_B).prompt_BP, trained.prompt_BP)
    asked = made.prefix_inputs(**arguments, is_question_B=np.ones(3, bool))
    assert torch.equal(asked.prompt_BP, made.with_indicator(asked, torch.full((3,), -1)).prompt_BP)


def test_a_policy_without_indicator_text_reads_none():
    assert prefix_inputs(nano_like(has_indicator_text=False), batch(3)).indicator_BI.shape == (3, 0)


def test_action_tokens_open_with_the_marker_end_with_the_end_and_skip_padded_chunks():
    config = nano_like()
    made, sample = processor(config), batch(6, num_padded=2)
    fast = made.fast_inputs(sample.action, is_pad_BH=sample.action_is_pad)
    assert fast is not None
    assert fast.row_M.tolist() == [0, 1, 2, 3]
    for row, ids in zip(range(4), made.fast_tokenizer.encode(sample.action[:4]), strict=True):
        said = [config.text_vocab_size + index for index in ids]
        length = len(said) + 1
        assert fast.token_MF[row, :length].tolist() == [made.text_tokenizer.action_id, *said]
        assert fast.target_MF[row, :length].tolist() == [*said, made.text_tokenizer.eos_id]
        assert fast.is_target_MF[row].sum() == length
    assert made.fast_inputs(sample.action, is_pad_BH=np.ones((6, HORIZON), bool)) is None


def test_chunks_with_too_many_tokens_take_no_part():
    config = nano_like(max_fast_tokens=1)
    sample = batch(4, num_padded=0)
    assert processor(config).fast_inputs(sample.action, is_pad_BH=sample.action_is_pad) is None


def test_only_the_numbers_that_a_robot_has_are_written_into_the_prompt():
    config, sample = pi05_like(), batch(2)
    inputs = processor(config).prefix_inputs(
        images=sample.images,
        prompts=["go", "go"],
        state_BS=np.zeros((2, 3), np.float32),
        indicator_B=sample.indicator,
        state_dim_B=np.array([3, 2]),
    )
    texts = [TextTokenizer.shipped().decode(row.tolist()) for row in inputs.prompt_BP]
    assert [text.count("128") for text in texts] == [3, 2]


def test_a_prompt_that_is_too_long_is_refused_and_not_cut():
    made = processor(nano_like(max_prompt_tokens=6))
    with pytest.raises(OptionError, match="has 11 tokens, the policy reads 6"):
        made.request_inputs([request(seed=0)], indicator=Indicator.ABSENT)


def test_an_image_of_another_size_is_refused():
    sample = batch(2)
    wrong = dataclasses.replace(sample, images=sample.images | {"wrist": np.zeros((2, 64, 64, 3), np.uint8)})
    with pytest.raises(DataError, match=r"wrist have shape \(2, 64, 64, 3\)"):
        prefix_inputs(nano_like(), wrong)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": nano_like(cameras=("agentview", "elbow"))}, "elbow"),
        ({"config": nano_like(state_dim=2)}, "state_dim is 2"),
        ({"config": nano_like(text_vocab_size=50)}, "text_vocab_size is 50"),
        ({"config": nano_like(fast_vocab_size=20)}, "fast_vocab_size"),
        ({"config": nano_like(action_horizon=4)}, "action tokenizer was fitted"),
        ({"embodiments": [Embodiment.sole(interface(), dataclasses.replace(codec(), kind="zscore"))]}, "quantile"),
    ],
)
def test_parts_that_do_not_fit_together_are_named(changes, named):
    made = processor(nano_like())
    parts = {
        "config": made.config,
        "embodiments": [Embodiment.sole(interface(), codec())],
        "text_tokenizer": made.text_tokenizer,
        "fast_tokenizer": made.fast_tokenizer,
    } | changes
    with pytest.raises(OptionError, match=named):
        Processor(parts.pop("config"), **parts)


@pytest.mark.parametrize("has_fast", [True, False])
def test_a_processor_comes_back_from_its_files(tmp_path, has_fast):
    made = processor(nano_like())
    if not has_fast:
        made = Processor(made.config, embodiments=made.embodiments, text_tokenizer=made.text_tokenizer, fast_tokenizer=None)
    made.save(tmp_path)
    loaded = Processor.load(tmp_path)
    assert loaded.config == made.config
    assert loaded.interface == made.interface
    assert loaded.codec == made.codec
    assert loaded.text_tokenizer.to_json() == made.text_tokenizer.to_json()
    assert isinstance(loaded.fast_tokenizer, FastTokenizer) == has_fast


@pytest.mark.parametrize("name", ["config.json", "embodiments.json", "tokenizer.json", "fast_tokenizer.json"])
def test_a_truncated_file_is_a_checkpoint_error(tmp_path, name):
    processor(nano_like()).save(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError):
        Processor.load(tmp_path)

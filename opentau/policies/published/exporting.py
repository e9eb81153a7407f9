"""Writes a π0 or π0.5 of ours as a LeRobot 0.6.1 checkpoint, which LeRobot loads as its own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from opentau.checkpoint import partial_path, read_manifest, write_json
from opentau.data.images import ImageFit
from opentau.errors import OptionError
from opentau.policies.config import StateInput, TextHead
from opentau.policies.family import PI0_TEMPLATE, PI05_TEMPLATE
from opentau.policies.noise import ACTOR_FILE
from opentau.policies.processor import Processor
from opentau.policies.published import names
from opentau.policies.published.lerobot_files import lerobot_config, lerobot_processors, lerobot_statistics
from opentau.policies.published.reading import CONFIG_FILE
from opentau.policies.published.taking_in import UNUSED_FILE
from opentau.policies.weights import INDICATOR, WEIGHTS_FILE, load_model, load_weights, save_weights
from opentau.types import Indicator


def export_lerobot(checkpoint: Path, directory: Path, *, without_indicator: bool = False) -> list[str]:
    """Write the sealed checkpoint `checkpoint` into a new `directory` and return what LeRobot has no place for.

    Everything that changes an action there raises `OptionError`: another prompt, other bins, a trained indicator embedding
    unless `without_indicator`, and parts that the family does not have raise `CheckpointError`.
    """
    if directory.exists():
        raise OptionError(f"{directory} exists; name a new folder")
    read_manifest(checkpoint, verify=True)
    if (checkpoint / ACTOR_FILE).is_file():
        raise OptionError(
            f"{checkpoint} is steered by its noise ({ACTOR_FILE}), for which LeRobot's layout has no place; export the policy "
            "that it was made from (improve=dsrl leaves the weights as they are)"
        )
    model, processor = load_model(checkpoint)
    _require_expressible(processor)
    weights, left_out = _weights(model.state_dict(), processor, without_indicator=without_indicator)
    unused = checkpoint / UNUSED_FILE
    if unused.exists():
        weights |= load_weights(unused)
    else:
        weights[names.UNUSED] = torch.zeros(processor.config.text_vocab_size, processor.config.expert.width)
    partial = partial_path(directory)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_weights(partial / WEIGHTS_FILE, {f"{names.LEROBOT_PREFIX}{name}": tensor for name, tensor in weights.items()})
    write_json(partial / CONFIG_FILE, lerobot_config(processor))
    for name, described in lerobot_processors(processor).items():
        write_json(partial / name, described)
        for step in described["steps"]:
            if "state_file" in step:
                save_weights(partial / step["state_file"], lerobot_statistics(processor))
    partial.rename(directory)
    return left_out


def _require_expressible(processor: Processor) -> None:
    """Raise `OptionError` for what LeRobot would do otherwise than we do."""
    config, is_pi05 = processor.config, processor.config.state_input is StateInput.TEXT
    wanted: dict[str, tuple[object, object]] = {
        "prompt_template": (config.prompt_template, PI05_TEMPLATE if is_pi05 else PI0_TEMPLATE),
        "has_padding_noise": (config.has_padding_noise, True),
        "has_camera_embedding": (config.has_camera_embedding, False),
        "the prompts' hint": (processor.embodiment.hint, ""),
        "predicts_subtask": (processor.predicts_subtask, False),
    }
    if is_pi05:
        wanted["lowest_state_bin"] = (config.lowest_state_bin, -1)
    if config.image_fit is ImageFit.TENSORAUTO:
        wanted["image_fit"] = (config.image_fit.value, ImageFit.LEROBOT.value)
    for name, (ours, theirs) in wanted.items():
        if ours != theirs:
            raise OptionError(f"{name} is {ours!r}; LeRobot knows {theirs!r} alone, and would give other actions")
    if not is_pi05 and config.state_input is not StateInput.EXPERT:
        raise OptionError(f"state_input is {config.state_input.value!r}; π0 and π0.5 read the state as 'expert' or 'text'")


def _weights(
    ours: Mapping[str, Tensor], processor: Processor, *, without_indicator: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the weights by canonical names, and what is not among them."""
    config, left_out = processor.config, []
    if processor.served_indicator is not Indicator.ABSENT:
        left_out.append("the indicator that it is asked with (LeRobot asks without one)")
    if processor.served_text:
        left_out.append(f"what it is told (write ', {processor.served_text}' behind every task)")
    weights = dict(ours)
    indicator = weights.pop(INDICATOR, None)
    if indicator is not None and indicator.any():
        if not without_indicator:
            raise OptionError(
                "the policy is told its advantage by a vector in the action expert, which LeRobot's does not have; export it "
                "as it acts without (--without-indicator), or train with policy.args.has_indicator_embedding=false"
            )
        left_out.append("the indicator's embedding")
    made: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        theirs = names.published_name(name, is_adaptive=config.expert.is_adaptive)
        if theirs in (names.EMBEDDING, names.HEAD) and len(tensor) > config.text_vocab_size:
            tensor = tensor[: config.text_vocab_size]
            left_out.append(f"action tokens in {name}")
        made[theirs] = tensor.contiguous()
    if config.text_head is TextHead.BIASED:
        made.pop(names.HEAD.replace(".weight", ".bias"))
        left_out.append("the bias of text_head")
    if config.text_head is TextHead.TIED:
        made[names.HEAD] = made[names.EMBEDDING].clone()
    return made, left_out

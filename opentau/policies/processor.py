"""Turns plain data into the model's tensors, for training and serving alike, and owns everything that decides how."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opentau.checkpoint import write_json
from opentau.data.codec import Codec
from opentau.errors import CheckpointError, DataError, OptionError
from opentau.policies.config import PolicyConfig, StateInput
from opentau.policies.fast_tokenizer import FastTokenizer
from opentau.policies.inputs import FastInputs, PrefixInputs
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.types import Indicator, Interface, PolicyRequest

# Shapes: B batch, C cameras, Y and X image rows and columns, S state dimensions, H actions of a chunk, A action dimensions.

CONFIG_FILE = "config.json"
CODEC_FILE = "codec.json"
TEXT_FILE = "tokenizer.json"
FAST_FILE = "fast_tokenizer.json"
INDICATOR_TEXT = {Indicator.NEGATIVE: "Advantage: negative", Indicator.POSITIVE: "Advantage: positive"}


class Processor:
    """Everything between plain data and the model: codec, tokenizers, camera order, prompt template."""

    def __init__(
        self,
        config: PolicyConfig,
        *,
        interface: Interface,
        codec: Codec,
        text_tokenizer: TextTokenizer,
        fast_tokenizer: FastTokenizer | None,
        served_indicator: Indicator = Indicator.POSITIVE,
    ) -> None:
        """`served_indicator` is what the policy is asked with unless its user says otherwise."""
        self.config = config
        self.interface = interface
        self.codec = codec
        self.text_tokenizer = text_tokenizer
        self.fast_tokenizer = fast_tokenizer
        self.served_indicator = served_indicator
        self._check_fit()
        self._prompt_ids: dict[str, list[int]] = {}
        texts = [text_tokenizer.encode(INDICATOR_TEXT[Indicator(value)]) for value in (0, 1)]
        length = max(map(len, texts)) if config.has_indicator_text else 0
        self._indicator_2I = torch.tensor(
            [(text + [text_tokenizer.pad_id] * length)[:length] for text in texts], dtype=torch.int64
        )

    def _check_fit(self) -> None:
        config, interface, fast = self.config, self.interface, self.fast_tokenizer
        sizes = {
            "state_dim": (config.state_dim, interface.state_dim),
            "action_dim": (config.action_dim, interface.action_dim),
            "codec's state dimensions": (self.codec.state.dim, interface.state_dim),
            "codec's action dimensions": (self.codec.action.dim, interface.action_dim),
            "text_vocab_size": (config.text_vocab_size, self.text_tokenizer.vocab_size),
        }
        for name, (ours, wanted) in sizes.items():
            if ours != wanted:
                raise OptionError(f"the policy's {name} is {ours}, its data and tokenizers have {wanted}; make them equal")
        for camera in config.cameras:
            size = (config.vision.image_size, config.vision.image_size, 3)
            if interface.cameras.get(camera) != size:
                raise OptionError(
                    f"camera {camera!r} gives images of shape {interface.cameras.get(camera)}, the policy needs {size}; "
                    f"the interface has the cameras {dict(interface.cameras)}: change policy.cameras or the image size"
                )
        if fast and (fast.action_horizon, fast.action_dim) != (config.action_horizon, config.action_dim):
            raise OptionError(
                f"the action tokenizer was fitted on chunks {(fast.action_horizon, fast.action_dim)}, the policy predicts "
                f"{(config.action_horizon, config.action_dim)}; fit one on this data"
            )
        if fast and fast.vocab_size > config.fast_vocab_size:
            raise OptionError(
                f"the action tokenizer has {fast.vocab_size} ids; raise fast_vocab_size, {config.fast_vocab_size}"
            )
        if fast and self.codec.kind != "quantile":
            raise OptionError(f"action tokens need actions in [-1, 1]; use codec=quantile instead of {self.codec.kind}")

    def prefix_inputs(
        self, *, images: Mapping[str, np.ndarray], prompts: Sequence[str], state_BS: np.ndarray, indicator_B: np.ndarray
    ) -> PrefixInputs:
        """Return the tensors of a batch.

        `images` maps cameras to uint8 [B, Y, X, 3], and missing ones are masked out; the state is encoded, float32 [B, S];
        indicators are `Indicator` values [B]. Prompts are padded to the longest of the batch.
        """
        size = self.config.vision.image_size
        shape = (len(prompts), size, size, 3)
        for camera in self.config.cameras:
            if camera in images and images[camera].shape != shape:
                raise DataError(f"images of {camera} have shape {images[camera].shape}, the policy needs {shape}")
        stacked = [images[camera] if camera in images else np.zeros(shape, np.uint8) for camera in self.config.cameras]
        has_camera = torch.tensor([camera in images for camera in self.config.cameras]).expand(len(prompts), -1)
        inputs = self._inputs(torch.from_numpy(np.stack(stacked, axis=1)), has_camera, prompts, state_BS, indicator_B)
        longest = int(inputs.has_prompt_BP.sum(dim=1).max())
        return dataclasses.replace(
            inputs, prompt_BP=inputs.prompt_BP[:, :longest], has_prompt_BP=inputs.has_prompt_BP[:, :longest]
        )

    def request_inputs(self, requests: Sequence[PolicyRequest], *, indicator: Indicator) -> PrefixInputs:
        """Return the tensors of requests, in shapes that do not depend on them; cameras may differ from request to request."""
        size = self.config.vision.image_size
        images_BCYX3 = np.zeros((len(requests), len(self.config.cameras), size, size, 3), np.uint8)
        has_camera_BC = torch.zeros(images_BCYX3.shape[:2], dtype=torch.bool)
        for row, request in enumerate(requests):
            for column, camera in enumerate(self.config.cameras):
                pixels = request.observation.images.get(camera)
                if pixels is None:
                    continue
                if pixels.shape != (size, size, 3) or pixels.dtype != np.uint8:
                    raise DataError(
                        f"image of {camera} is {pixels.dtype} {pixels.shape}, the policy needs uint8 {(size, size, 3)}; "
                        "use the environment options the policy was trained with"
                    )
                images_BCYX3[row, column] = pixels
                has_camera_BC[row, column] = True
        state_BS = self.codec.encode_state(np.stack([request.observation.state for request in requests]))
        prompts = [request.observation.prompt for request in requests]
        indicator_B = np.full(len(requests), indicator)
        return self._inputs(torch.from_numpy(images_BCYX3), has_camera_BC, prompts, state_BS, indicator_B)

    def with_indicator(self, inputs: PrefixInputs, indicator_B: Tensor) -> PrefixInputs:
        """Return the same observations under other indicators, int64 [B]."""
        return dataclasses.replace(
            inputs, indicator_B=indicator_B, indicator_BI=self._indicator_2I.to(indicator_B.device)[indicator_B.clamp_min(0)]
        )

    def fast_inputs(self, action_BHA: np.ndarray, *, is_pad_BH: np.ndarray) -> FastInputs | None:
        """Return the action tokens of the encoded chunks that have no padding and fit; None where no chunk does."""
        if self.fast_tokenizer is None:
            raise OptionError("the policy has no action tokenizer; fit one, or set the weight of the discrete loss to 0")
        whole = np.flatnonzero(~is_pad_BH.any(axis=1))
        ids = self.fast_tokenizer.encode(action_BHA[whole]) if len(whole) else []
        fitting = [(row, chunk) for row, chunk in zip(whole, ids, strict=True) if len(chunk) < self.config.max_fast_tokens]
        if not fitting:
            return None
        text, first = self.text_tokenizer, self.config.text_vocab_size
        length = 1 + max(len(chunk) for _, chunk in fitting)
        token_MF = torch.full((len(fitting), length), text.pad_id)
        target_MF = torch.full((len(fitting), length), text.pad_id)
        is_target_MF = torch.zeros((len(fitting), length), dtype=torch.bool)
        for index, (_, chunk) in enumerate(fitting):
            said = torch.tensor(chunk) + first
            token_MF[index, 0], token_MF[index, 1 : len(chunk) + 1] = text.action_id, said
            target_MF[index, : len(chunk)], target_MF[index, len(chunk)] = said, text.eos_id
            is_target_MF[index, : len(chunk) + 1] = True
        rows = torch.tensor([int(row) for row, _ in fitting])
        return FastInputs(row_M=rows, token_MF=token_MF, target_MF=target_MF, is_target_MF=is_target_MF)

    def save(self, directory: Path) -> None:
        """Write configuration, interface, codec and tokenizers into a directory."""
        described = {
            "policy": self.config.to_dict(),
            "interface": self.interface.to_dict(),
            "served_indicator": self.served_indicator.name.lower(),
        }
        write_json(directory / CONFIG_FILE, described)
        write_json(directory / CODEC_FILE, self.codec.to_dict())
        (directory / TEXT_FILE).write_text(self.text_tokenizer.to_json(), encoding="utf-8")
        if self.fast_tokenizer:
            (directory / FAST_FILE).write_text(self.fast_tokenizer.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Processor:
        """Read what `save` wrote; missing or damaged files raise `CheckpointError`."""
        try:
            described = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
            return cls(
                PolicyConfig.from_dict(described["policy"]),
                interface=Interface.from_dict(described["interface"]),
                codec=Codec.from_dict(json.loads((directory / CODEC_FILE).read_text(encoding="utf-8"))),
                text_tokenizer=TextTokenizer.from_json((directory / TEXT_FILE).read_text(encoding="utf-8")),
                fast_tokenizer=_read_fast(directory / FAST_FILE),
                served_indicator=Indicator[described["served_indicator"].upper()],
            )
        except (OSError, ValueError, KeyError, TypeError, OptionError, DataError) as error:
            raise CheckpointError(
                f"{directory} is not a readable policy checkpoint: {type(error).__name__}: {error}. "
                "Fetch it again, or use another checkpoint of the run."
            ) from error

    def _inputs(
        self, images_BCYX3: Tensor, has_camera_BC: Tensor, prompts: Sequence[str], state_BS: np.ndarray, indicator_B: np.ndarray
    ) -> PrefixInputs:
        prompt_BP, has_prompt_BP = self._prompts(prompts, state_BS)
        inputs = PrefixInputs(
            images_BCYX3=images_BCYX3,
            has_camera_BC=has_camera_BC,
            prompt_BP=prompt_BP,
            has_prompt_BP=has_prompt_BP,
            state_BS=torch.from_numpy(np.ascontiguousarray(state_BS, dtype=np.float32)),
            indicator_B=torch.empty(0),
            indicator_BI=torch.empty(0),
        )
        return self.with_indicator(inputs, torch.from_numpy(np.asarray(indicator_B).astype(np.int64)))

    def _prompts(self, prompts: Sequence[str], state_BS: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return padded token ids [B, P] and which of them are none."""
        length = self.config.max_prompt_tokens
        prompt_BP = torch.full((len(prompts), length), self.text_tokenizer.pad_id)
        has_prompt_BP = torch.zeros((len(prompts), length), dtype=torch.bool)
        for row, (prompt, state_S) in enumerate(zip(prompts, state_BS, strict=True)):
            ids = self._encode_prompt(prompt, state_S)
            prompt_BP[row, : len(ids)] = torch.tensor(ids)
            has_prompt_BP[row, : len(ids)] = True
        return prompt_BP, has_prompt_BP

    def _encode_prompt(self, prompt: str, state_S: np.ndarray) -> list[int]:
        text = self.config.prompt_template.replace("{prompt}", prompt)
        if self.config.state_input is StateInput.TEXT:
            text = text.replace("{state}", " ".join(map(str, self._bins(state_S))))
        if text in self._prompt_ids:
            return self._prompt_ids[text]
        ids = [self.text_tokenizer.bos_id, *self.text_tokenizer.encode(text)]
        if len(ids) > self.config.max_prompt_tokens:
            raise OptionError(
                f"the prompt {text!r} has {len(ids)} tokens, the policy reads {self.config.max_prompt_tokens}; "
                "shorten it, or train a policy with a larger policy.max_prompt_tokens"
            )
        if self.config.state_input is not StateInput.TEXT:
            self._prompt_ids[text] = ids
        return ids

    def _bins(self, state_S: np.ndarray) -> np.ndarray:
        """Return the bin of each encoded number, [-1, 1] cut into `num_state_bins` equal parts, the outer ones open."""
        bins = np.floor((state_S + 1.0) / 2.0 * self.config.num_state_bins)
        return np.clip(bins, 0, self.config.num_state_bins - 1).astype(np.int64)


def _read_fast(path: Path) -> FastTokenizer | None:
    return FastTokenizer.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None

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
from opentau.data.fitting import padded
from opentau.data.images import resize_with_pad
from opentau.errors import CheckpointError, DataError, OptionError
from opentau.policies.config import NUM_RESERVED_IDS, FastIds, PolicyConfig
from opentau.policies.embodiment import Embodiment, named_embodiment
from opentau.policies.fast_tokenizer import FastTokenizer
from opentau.policies.inputs import PrefixInputs, SpokenInputs, spoken_inputs
from opentau.policies.prompts import PromptWriter
from opentau.policies.published_tokenizer import PublishedTokenizer, read_tokenizer
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.types import Indicator, Interface, PolicyRequest

# Shapes: B batch, C cameras, Y and X image rows and columns, S and A the policy's state and action dimensions, s and a an
# embodiment's, H actions of a chunk.

CONFIG_FILE = "config.json"
EMBODIMENTS_FILE = "embodiments.json"
TEXT_FILE = "tokenizer.json"
FAST_FILE = "fast_tokenizer.json"


class Processor:
    """Everything between plain data and the model: embodiments, tokenizers, camera order, prompt template.

    One embodiment is served: requests are read, and actions decoded, in its units. `serving` gives a processor for another.
    """

    def __init__(
        self,
        config: PolicyConfig,
        *,
        embodiments: Sequence[Embodiment],
        text_tokenizer: TextTokenizer | PublishedTokenizer,
        fast_tokenizer: FastTokenizer | None,
        served_indicator: Indicator = Indicator.POSITIVE,
        embodiment: str | None = None,
        predicts_subtask: bool = False,
        served_text: str = "",
    ) -> None:
        """`embodiment` names the served one, by default the first; `served_indicator` is what the policy is asked with.

        A policy that `predicts_subtask` says in words what comes next, and then acts on it (π0.5). `served_text` is told it
        behind every prompt, as it was of the episodes that it should act like.
        """
        self.config = config
        self.embodiments = tuple(embodiments)
        self.embodiment = named_embodiment(self.embodiments, embodiment)
        self.text_tokenizer = text_tokenizer
        self.fast_tokenizer = fast_tokenizer
        self.served_indicator = served_indicator
        self.predicts_subtask = predicts_subtask
        self.served_text = served_text
        self._check_fit()
        self._writer = PromptWriter(config, text_tokenizer)
        self._indicator_2I = self._writer.indicator_ids()

    @property
    def interface(self) -> Interface:
        return self.embodiment.interface

    @property
    def codec(self) -> Codec:
        return self.embodiment.codec

    def serving(self, embodiment: str) -> Processor:
        """Return the same processor for requests of another embodiment; an unknown one raises `OptionError`."""
        return Processor(
            self.config,
            embodiments=self.embodiments,
            text_tokenizer=self.text_tokenizer,
            fast_tokenizer=self.fast_tokenizer,
            served_indicator=self.served_indicator,
            embodiment=embodiment,
            predicts_subtask=self.predicts_subtask,
            served_text=self.served_text,
        )

    def _check_fit(self) -> None:
        config, fast = self.config, self.fast_tokenizer
        sizes = {
            "state_dim": (config.state_dim, max(each.interface.state_dim for each in self.embodiments)),
            "action_dim": (config.action_dim, max(each.interface.action_dim for each in self.embodiments)),
            "text_vocab_size": (config.text_vocab_size, self.text_tokenizer.vocab_size),
        }
        for name, (ours, wanted) in sizes.items():
            if ours < wanted:
                raise OptionError(f"the policy's {name} is {ours}, its data and tokenizers have {wanted}; raise it to that")
        offered = {camera for each in self.embodiments for camera in each.cameras}
        for camera in config.cameras:
            if camera not in offered:
                raise OptionError(
                    f"no embodiment has the policy's camera {camera!r}; they have {', '.join(sorted(offered)) or 'none'}: "
                    "change policy.cameras, or name the cameras of the data after the policy's"
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
        for each in self.embodiments if fast else ():
            if each.codec.kind == "zscore":
                raise OptionError(f"action tokens need actions in [-1, 1]; use codec=quantile instead of {each.codec.kind}")

    def prefix_inputs(
        self,
        *,
        images: Mapping[str, np.ndarray],
        prompts: Sequence[str],
        state_BS: np.ndarray,
        indicator_B: np.ndarray,
        has_camera: Mapping[str, np.ndarray] | None = None,
        is_question_B: np.ndarray | None = None,
        state_dim_B: np.ndarray | None = None,
    ) -> PrefixInputs:
        """Return the tensors of a batch.

        `images` maps the policy's cameras to uint8 [B, Y, X, 3]; missing ones are masked out, and so are the samples where
        `has_camera` bool [B] is false. The state is encoded, float32 [B, S]; indicators are `Indicator` values [B]. Questions,
        bool [B], are read without the prompt template and have no state. Where the state is text, the first `state_dim_B` [B]
        numbers of each are written, all by default. Prompts are padded to the longest of the batch.
        """
        size = self.config.vision.image_size
        shape = (len(prompts), size, size, 3)
        for camera in self.config.cameras:
            if camera in images and images[camera].shape != shape:
                raise DataError(f"images of {camera} have shape {images[camera].shape}, the policy needs {shape}")
        stacked = [images[camera] if camera in images else np.zeros(shape, np.uint8) for camera in self.config.cameras]
        has_camera_BC = np.stack(
            [
                (has_camera or {}).get(camera, np.full(len(prompts), camera in images)) & (camera in images)
                for camera in self.config.cameras
            ],
            axis=1,
        )
        inputs = self._inputs(
            torch.from_numpy(np.stack(stacked, axis=1)),
            torch.from_numpy(has_camera_BC),
            prompts,
            state_BS,
            indicator_B,
            is_question_B=np.zeros(len(prompts), bool) if is_question_B is None else is_question_B,
            state_dim_B=np.full(len(prompts), state_BS.shape[1]) if state_dim_B is None else state_dim_B,
        )
        return inputs.cut()

    def request_inputs(
        self,
        requests: Sequence[PolicyRequest],
        *,
        indicator: Indicator,
        prompts: Sequence[str] | None = None,
        is_question: bool = False,
    ) -> PrefixInputs:
        """Return the tensors of requests, in shapes that do not depend on them; cameras may differ from request to request.

        `prompts` stand in for those of the requests; questions are read without template and state.
        """
        size = self.config.vision.image_size
        images_BCYX3 = np.zeros((len(requests), len(self.config.cameras), size, size, 3), np.uint8)
        has_camera_BC = torch.zeros(images_BCYX3.shape[:2], dtype=torch.bool)
        for row, request in enumerate(requests):
            for column, camera in enumerate(self.config.cameras):
                pixels = request.observation.images.get(self.embodiment.cameras.get(camera, ""))
                if pixels is None:
                    continue
                wanted = tuple(self.interface.cameras[self.embodiment.cameras[camera]])
                if pixels.shape != wanted or pixels.dtype != np.uint8:
                    raise DataError(
                        f"image of {camera} is {pixels.dtype} {pixels.shape}, the policy needs uint8 {wanted}; "
                        "use the environment options the policy was trained with"
                    )
                images_BCYX3[row, column] = resize_with_pad(pixels[None], size=size, fit=self.config.image_fit)[0]
                has_camera_BC[row, column] = True
        state_BS = self.encode_state(np.stack([request.observation.state for request in requests]))
        said = [request.observation.prompt for request in requests] if prompts is None else prompts
        prompted = said if is_question else [self.embodiment.prompted(prompt) for prompt in said]
        return self._inputs(
            torch.from_numpy(images_BCYX3),
            has_camera_BC,
            prompted,
            state_BS,
            np.full(len(requests), indicator),
            is_question_B=np.full(len(requests), is_question),
            state_dim_B=np.full(len(requests), self.interface.state_dim),
        )

    def prompt_tokens(self, prompts: Sequence[str], *, state_BS: np.ndarray) -> np.ndarray:
        """Return the words of prompts under no indicator, int64 [B, P], -1 for padding, from encoded states [B, S]."""
        prompt_BVP, has_prompt_BVP = self._writer.prompts(
            prompts, states=list(state_BS), is_question_B=np.zeros(len(prompts), bool)
        )
        return prompt_BVP[:, 0].masked_fill(~has_prompt_BVP[:, 0], -1).numpy()

    def encode_state(self, state: np.ndarray) -> np.ndarray:
        """Return the policy's states, float32 [..., S], of the served embodiment's, [..., s] in its units."""
        return padded(self.codec.encode_state(state), self.config.state_dim)

    def encode_action(self, action: np.ndarray) -> np.ndarray:
        """Return the policy's actions, float32 [..., A], of the served embodiment's, [..., a] in its units."""
        return padded(self.codec.encode_action(action), self.config.action_dim)

    def decode_action(self, encoded: np.ndarray) -> np.ndarray:
        """Return actions of the served embodiment, float32 [..., a] in its units, of the policy's, [..., A]."""
        return self.codec.decode_action(encoded[..., : self.interface.action_dim])

    def with_indicator(self, inputs: PrefixInputs, indicator_B: Tensor) -> PrefixInputs:
        """Return the same observations under other indicators, int64 [B]."""
        told = dataclasses.replace(
            inputs, indicator_B=indicator_B, indicator_BI=self._indicator_2I.to(indicator_B.device)[indicator_B.clamp_min(0)]
        )
        if not inputs.worded_BVP.shape[1]:
            return told
        row_B, wording_B = torch.arange(len(indicator_B), device=indicator_B.device), indicator_B + 1
        prompt_BP, has_prompt_BP = (tensor[row_B, wording_B] for tensor in (inputs.worded_BVP, inputs.has_worded_BVP))
        return dataclasses.replace(told, prompt_BP=prompt_BP, has_prompt_BP=has_prompt_BP)

    def fast_inputs(self, action_BHA: np.ndarray, *, is_pad_BH: np.ndarray) -> SpokenInputs | None:
        """Return the action tokens of the encoded chunks that have no padding and fit; None where no chunk does."""
        tokenizer = self._require_fast()
        whole = np.flatnonzero(~is_pad_BH.any(axis=1))
        ids = tokenizer.encode(action_BHA[whole]) if len(whole) else []
        fitting = [(row, chunk) for row, chunk in zip(whole, ids, strict=True) if len(chunk) < self.config.max_fast_tokens]
        if not fitting:
            return None
        fast_ids = self.fast_ids
        said = [(int(row), [fast_ids[token] for token in chunk]) for row, chunk in fitting]
        return spoken_inputs(said, first_id=self.text_tokenizer.action_id, text=self.text_tokenizer)

    def decode_fast(self, said: Sequence[Sequence[int]]) -> list[np.ndarray | None]:
        """Return the encoded chunk, float32 [H, A], that each row of the model's ids spells; None where it spells none."""
        return self._require_fast().decode_batch([[self.fast_ids.index(model_id) for model_id in ids] for ids in said])

    @property
    def fast_ids(self) -> range:
        """Ids under which the model knows the action tokens, in their order."""
        count = self._require_fast().vocab_size
        if self.config.fast_ids is FastIds.VOCABULARY:
            first = self.config.text_vocab_size - 1 - NUM_RESERVED_IDS
            return range(first, first - count, -1)
        return range(self.config.text_vocab_size, self.config.text_vocab_size + count)

    def _require_fast(self) -> FastTokenizer:
        if self.fast_tokenizer is None:
            raise OptionError("the policy has no action tokenizer; fit one, or set the weight of the discrete loss to 0")
        return self.fast_tokenizer

    def text_inputs(self, answers: Sequence[str]) -> SpokenInputs | None:
        """Return the answers of the samples that have one ('' has none) as tokens to be said; None where no sample does."""
        text = self.text_tokenizer
        said = [(row, text.encode(answer)) for row, answer in enumerate(answers) if answer]
        longest = max((len(ids) for _, ids in said), default=0)
        if longest >= self.config.max_answer_tokens:
            row, ids = max(said, key=lambda pair: len(pair[1]))
            raise OptionError(
                f"the answer {answers[row]!r} has {len(ids)} tokens, the limit is {self.config.max_answer_tokens - 1}; "
                "shorten it, or leave the question out"
            )
        return spoken_inputs(said, first_id=text.answer_id, text=text) if said else None

    def save(self, directory: Path) -> None:
        """Write configuration, embodiments and tokenizers into a directory."""
        described = {
            "policy": self.config.to_dict(),
            "served_indicator": self.served_indicator.name.lower(),
            "embodiment": self.embodiment.name,
            "predicts_subtask": self.predicts_subtask,
            **({"served_text": self.served_text} if self.served_text else {}),
        }
        write_json(directory / CONFIG_FILE, described)
        write_json(directory / EMBODIMENTS_FILE, {"embodiments": [each.to_dict() for each in self.embodiments]})
        (directory / TEXT_FILE).write_text(self.text_tokenizer.to_json(), encoding="utf-8")
        if self.fast_tokenizer:
            (directory / FAST_FILE).write_text(self.fast_tokenizer.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Processor:
        """Read what `save` wrote; missing or damaged files raise `CheckpointError`."""
        try:
            described = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8"))
            embodiments = json.loads((directory / EMBODIMENTS_FILE).read_text(encoding="utf-8"))["embodiments"]
            config = PolicyConfig.from_dict(described["policy"])
            text = (directory / TEXT_FILE).read_text(encoding="utf-8")
            return cls(
                config,
                embodiments=[Embodiment.from_dict(plain) for plain in embodiments],
                text_tokenizer=read_tokenizer(text, config=config),
                fast_tokenizer=_read_fast(directory / FAST_FILE),
                served_indicator=Indicator[described["served_indicator"].upper()],
                embodiment=described["embodiment"],
                predicts_subtask=described["predicts_subtask"],
                served_text=described.get("served_text", ""),
            )
        except (OSError, ValueError, KeyError, TypeError, OptionError, DataError) as error:
            raise CheckpointError(
                f"{directory} is not a readable policy checkpoint: {type(error).__name__}: {error}. "
                "Fetch it again, or use another checkpoint of the run."
            ) from error

    def _inputs(
        self,
        images_BCYX3: Tensor,
        has_camera_BC: Tensor,
        prompts: Sequence[str],
        state_BS: np.ndarray,
        indicator_B: np.ndarray,
        *,
        is_question_B: np.ndarray,
        state_dim_B: np.ndarray,
    ) -> PrefixInputs:
        own_states = [state_S[:dim] for state_S, dim in zip(state_BS, state_dim_B, strict=True)]
        worded_BVP, has_worded_BVP = self._writer.prompts(prompts, states=own_states, is_question_B=is_question_B)
        prompt_BP, has_prompt_BP = worded_BVP[:, 0], has_worded_BVP[:, 0]
        if worded_BVP.shape[1] == 1:
            worded_BVP, has_worded_BVP = (tensor[:, :0, :0] for tensor in (worded_BVP, has_worded_BVP))
        inputs = PrefixInputs(
            images_BCYX3=images_BCYX3,
            has_camera_BC=has_camera_BC,
            prompt_BP=prompt_BP,
            has_prompt_BP=has_prompt_BP,
            worded_BVP=worded_BVP,
            has_worded_BVP=has_worded_BVP,
            state_BS=torch.from_numpy(np.ascontiguousarray(state_BS, dtype=np.float32)),
            has_state_B=torch.from_numpy(~is_question_B),
            indicator_B=torch.empty(0),
            indicator_BI=torch.empty(0),
        )
        return self.with_indicator(inputs, torch.from_numpy(np.asarray(indicator_B).astype(np.int64)))

    def fits(self, prompt: str) -> bool:
        """Return whether a prompt whose state is no text is short enough."""
        return self._writer.fits(prompt)


def _read_fast(path: Path) -> FastTokenizer | None:
    return FastTokenizer.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None

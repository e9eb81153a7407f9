"""What a policy is made of: one frozen configuration, plain data in files and free of torch."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from opentau.config import later, options_from, plain_from
from opentau.data.images import ImageFit
from opentau.errors import OptionError, near_matches
from opentau.models.config import ConvTowerConfig, EfficientNetLiteConfig, TransformerConfig, VisionConfig, ViTTowerConfig

TOWERS: dict[str, type[VisionConfig]] = {
    config.kind: config for config in (ConvTowerConfig, ViTTowerConfig, EfficientNetLiteConfig)
}
COUNTS = (
    "state_dim",
    "action_dim",
    "action_horizon",
    "text_vocab_size",
    "fast_vocab_size",
    "max_prompt_tokens",
    "max_fast_tokens",
    "max_answer_tokens",
    "num_state_bins",
)


class Words(enum.StrEnum):
    """Which text tokenizer a policy reads with."""

    SHIPPED = "shipped"
    """The small one that is part of the project."""
    PUBLISHED = "published"
    """That of the pre-trained model, PaliGemma's for the π family; it comes with the weights."""


class FastIds(enum.StrEnum):
    """Where action tokens live."""

    APPENDED = "appended"
    """Behind the text's ids, in the same embedding."""
    VOCABULARY = "vocabulary"
    """In place of the text's last ids but the reserved ones, counted down (openpi)."""


class TextHead(enum.StrEnum):
    """What predicts the next word."""

    TIED = "tied"
    """The word embedding itself, as in Gemma."""
    OWN = "own"
    """A matrix of its own."""
    BIASED = "biased"
    """A matrix and a bias of its own."""


class StateInput(enum.StrEnum):
    """Where the state enters the model."""

    TOKEN = "token"
    """One projected token of the prefix, after the prompt."""
    TEXT = "text"
    """Binned numbers in the prompt's text (π0.5); the prompt template says where."""
    EXPERT = "expert"
    """One projected token before the actions (π0)."""
    NONE = "none"

    @property
    def has_weights(self) -> bool:
        """Whether weights of the model are as wide as the state."""
        return self in (StateInput.TOKEN, StateInput.EXPERT)


class IndicatorPlace(enum.StrEnum):
    """Where the indicator's text stands."""

    BLOCK = "block"
    """Behind everything else, which does not see it: features do not depend on it, guidance needs one pass of the prefix."""
    PROMPT = "prompt"
    """In the task itself, so that everything attends to it (RLinf, Evo-RL); guidance needs a second pass."""


CHOICES: dict[str, type[enum.StrEnum]] = {
    "state_input": StateInput,
    "words": Words,
    "fast_ids": FastIds,
    "text_head": TextHead,
    "indicator_place": IndicatorPlace,
    "image_fit": ImageFit,
}
SHARED_SIZES = ("depth", "num_kv_heads", "head_dim", "rope_theta", "rope_scale", "local_rope_theta", "num_local_layers")
"""What the expert has in common with the backbone, so that it can attend to it layer by layer."""
NUM_RESERVED_IDS = 128
"""Of the end of the text's vocabulary, which action tokens in it leave alone (PaliGemma's segmentation tokens)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """One policy of the family; π0, π0.5 and `nano` are values of this."""

    cameras: tuple[str, ...]
    """Camera names in the order of their tokens; one that an observation lacks is masked out."""
    vision: VisionConfig
    """The tower that every camera passes through."""
    backbone: TransformerConfig
    """Reads images, text and state."""
    expert: TransformerConfig
    """Reads the backbone's keys and values; its depth, key/value heads, head size and rotary positions are the backbone's."""
    state_dim: int
    """S."""
    action_dim: int
    """A."""
    action_horizon: int
    """H, predicted actions of a chunk."""
    text_vocab_size: int
    """Ids of the text tokenizer."""
    fast_vocab_size: int
    """Ids of the action tokenizer, at most."""
    max_prompt_tokens: int
    """Prompts are padded to this; a longer one is an error."""
    max_fast_tokens: int
    """Chunks that need more tokens take no part in the discrete loss."""
    num_locations: int = 0
    """Of the text ids, how many stand for image coordinates; 0 for policies that are not asked for boxes."""
    max_answer_tokens: int = 32
    """Answers are said in fewer tokens than this; a longer one is an error."""
    prompt_template: str = "{prompt}"
    """Text of the prompt with {prompt} and, exactly if the state is text, {state}; <eos> is the end of a text."""
    state_input: StateInput = StateInput.TOKEN
    """Where the state enters."""
    num_state_bins: int = 256
    """Bins over [-1, 1] for a state in text."""
    has_camera_embedding: bool = True
    """Whether a learned vector per camera is added to its tokens."""
    has_indicator_text: bool = True
    """Whether the indicator is written as text."""
    indicator_place: IndicatorPlace = later(IndicatorPlace.BLOCK)
    """Where that text stands."""
    has_indicator_embedding: bool = True
    """Whether the indicator is added to the expert's actions, from zero at initialisation."""
    max_committed: int = 0
    """Largest number of committed actions drawn in training and accepted at inference; 0 trains none."""
    words: Words = Words.SHIPPED
    """Which text tokenizer goes with it."""
    fast_ids: FastIds = FastIds.APPENDED
    """Where action tokens live."""
    text_head: TextHead = TextHead.TIED
    """What predicts the next word or action token."""
    has_padding_noise: bool = False
    """Whether action dimensions that a robot lacks are noisy like all others (openpi), rather than zero."""
    codec: str = "quantile"
    """How the states and actions of data that it is trained on are scaled: 'quantile' or 'zscore'."""
    lowest_state_bin: int = 0
    """What is written for a state below the bins: 0, the first of them, or -1 (openpi)."""
    has_scaled_words: bool = later(True)
    """Whether embedded words are multiplied by the root of the backbone's width, as in Gemma."""
    image_fit: ImageFit = later(ImageFit.CENTRED)
    """How images of other sizes and shapes are brought to the tower's."""

    def __post_init__(self) -> None:
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise OptionError(f"cameras are {self.cameras}; name at least one camera, each once")
        for name in SHARED_SIZES:
            ours, theirs = getattr(self.backbone, name), getattr(self.expert, name)
            if ours != theirs:
                raise OptionError(
                    f"expert.{name} is {theirs} and backbone.{name} {ours}; the expert attends to the backbone layer by layer, "
                    "so they must be equal"
                )
        if self.backbone.is_adaptive:
            raise OptionError("backbone.is_adaptive is true, but only the expert has a flow time to adapt to; set it false")
        if not 0 <= self.max_committed < self.action_horizon:
            raise OptionError(
                f"max_committed is {self.max_committed}; it must lie in [0, action_horizon - 1 = {self.action_horizon - 1}]"
            )
        if self.fast_ids is FastIds.VOCABULARY and self.fast_vocab_size + NUM_RESERVED_IDS > self.text_vocab_size:
            raise OptionError(
                f"fast_vocab_size is {self.fast_vocab_size} with fast_ids 'vocabulary'; it must leave {NUM_RESERVED_IDS} "
                f"of the text's {self.text_vocab_size} ids"
            )
        if self.indicator_place is IndicatorPlace.PROMPT and not self.has_indicator_text:
            raise OptionError("indicator_place is 'prompt', but has_indicator_text is false; set it true, or use 'block'")
        if self.codec not in ("quantile", "zscore"):
            raise OptionError(f"codec is {self.codec!r}; choose 'quantile' or 'zscore'")
        if self.lowest_state_bin not in (0, -1):
            raise OptionError(f"lowest_state_bin is {self.lowest_state_bin}; choose 0 or -1")
        self._check_template()

    def _check_template(self) -> None:
        is_text = self.state_input is StateInput.TEXT
        if "{prompt}" not in self.prompt_template or ("{state}" in self.prompt_template) != is_text:
            raise OptionError(
                f"prompt_template is {self.prompt_template!r} with state_input {self.state_input.value!r}; "
                "it must hold {prompt}, and {state} if and only if state_input is 'text'"
            )

    @property
    def vocab_size(self) -> int:
        """Rows of the word embedding: text, then actions where they are appended."""
        return self.text_vocab_size + (self.fast_vocab_size if self.fast_ids is FastIds.APPENDED else 0)

    @property
    def feature_dim(self) -> int:
        """Numbers of one observation's pooled prefix: one mean per camera, one of the prompt, one of the state token."""
        return self.backbone.width * (len(self.cameras) + 1 + (self.state_input is StateInput.TOKEN))

    def to_dict(self) -> dict[str, Any]:
        plain = plain_from(self)
        return {**plain, "vision": {"kind": self.vision.kind, **plain["vision"]}}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> PolicyConfig:
        """Build from `to_dict` or from a yaml group; unknown keys, values and types raise `OptionError`."""
        values = dict(plain)
        if isinstance(values.get("vision"), Mapping):
            values["vision"] = vision_from(values["vision"], where="policy.vision")
        for name, choice in CHOICES.items():
            if isinstance(value := values.get(name), str):
                values[name] = chosen(choice, value, name=name)
        return options_from(cls, values, where="policy")


Choice = TypeVar("Choice", bound=enum.StrEnum)


def chosen(choices: type[Choice], value: str, *, name: str) -> Choice:
    """Return the choice of an option that is given by its name; an unknown one raises `OptionError`."""
    known = [member.value for member in choices]
    if value not in known:
        raise OptionError(f"unknown {name} {value!r}.{near_matches(value, known)}")
    return choices(value)


def nano(
    *,
    cameras: tuple[str, ...],
    state_dim: int,
    action_dim: int,
    image_size: int = 64,
    action_horizon: int = 16,
    width: int = 128,
    depth: int = 4,
    dropout: float = 0.0,
    max_committed: int = 0,
    has_indicator_text: bool = True,
    has_indicator_embedding: bool = True,
    indicator_place: str = IndicatorPlace.BLOCK,
    num_locations: int = 0,
    max_prompt_tokens: int = 24,
) -> PolicyConfig:
    """Return the small policy that trains from scratch on a CPU in minutes: about three million parameters."""
    stack = TransformerConfig(
        width=width,
        depth=depth,
        num_heads=width // 32,
        num_kv_heads=width // 32,
        head_dim=32,
        mlp_dim=4 * width,
        gelu="none",
        dropout=dropout,
    )
    return PolicyConfig(
        cameras=tuple(cameras),
        vision=ConvTowerConfig(image_size=image_size, channels=(32, 64, 128)),
        backbone=stack,
        expert=dataclasses.replace(stack, is_adaptive=True, gate_offset=1.0),
        state_dim=state_dim,
        action_dim=action_dim,
        action_horizon=action_horizon,
        text_vocab_size=1024 + num_locations,
        fast_vocab_size=1024,
        num_locations=num_locations,
        max_prompt_tokens=max_prompt_tokens,
        max_fast_tokens=64,
        max_committed=max_committed,
        has_indicator_text=has_indicator_text,
        has_indicator_embedding=has_indicator_embedding,
        indicator_place=chosen(IndicatorPlace, indicator_place, name="indicator_place"),
    )


def vision_from(plain: Mapping[str, Any], *, where: str) -> VisionConfig:
    """Build a tower's sizes from plain data with its kind; unknown ones raise `OptionError`."""
    kind = plain.get("kind")
    if kind not in TOWERS:
        raise OptionError(f"unknown {where}.kind {kind!r}.{near_matches(str(kind), TOWERS)}")
    sizes = {key: value for key, value in plain.items() if key != "kind"}
    return options_from(TOWERS[kind], sizes, where=where)

"""LeRobot's own π0.5 at other sizes than the published ones, which are all that its options know.

Only the sizes are replaced, in the configurations that LeRobot hands to its own modules; every line that computes is LeRobot's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.pi05.modeling_pi05 import GemmaConfig, PI05Policy


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of language model, action expert and vision tower."""

    width: int
    depth: int
    mlp_dim: int
    expert_width: int
    expert_mlp_dim: int
    num_heads: int
    head_dim: int
    vision_width: int
    vision_depth: int
    vision_mlp_dim: int
    vision_heads: int
    vocabulary: int
    num_kv_heads: int = 1


def sized_policy(config: PI05Config, sizes: Sizes) -> PI05Policy:
    """Return a policy with fresh weights; its heads must be 8, which LeRobot's attention takes for granted."""
    with _replaced(sizes):
        return PI05Policy(config)


@contextmanager
def _replaced(sizes: Sizes) -> Iterator[None]:
    """Give LeRobot's builders the sizes while a policy is made."""
    names = ("get_gemma_config", "PaliGemmaForConditionalGenerationWithPiGemma", "PiGemmaForCausalLM")
    kept = {name: getattr(modeling_pi05, name) for name in names}
    heads = {"num_heads": sizes.num_heads, "num_kv_heads": sizes.num_kv_heads, "head_dim": sizes.head_dim}
    known = {
        "gemma_2b": GemmaConfig(width=sizes.width, depth=sizes.depth, mlp_dim=sizes.mlp_dim, **heads),
        "gemma_300m": GemmaConfig(width=sizes.expert_width, depth=sizes.depth, mlp_dim=sizes.expert_mlp_dim, **heads),
    }
    modeling_pi05.get_gemma_config = known.__getitem__
    modeling_pi05.PaliGemmaForConditionalGenerationWithPiGemma = _with(kept[names[1]], lambda config: _see(config, sizes))
    modeling_pi05.PiGemmaForCausalLM = _with(kept[names[2]], lambda config: setattr(config, "vocab_size", sizes.vocabulary))
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(modeling_pi05, name, value)


def _with(build: Callable[..., Any], change: Callable[[Any], None]) -> Callable[..., Any]:
    def built(config: Any) -> Any:
        change(config)
        return build(config=config)

    return built


def _see(config: Any, sizes: Sizes) -> None:
    vision = config.vision_config
    vision.hidden_size, vision.num_hidden_layers = sizes.vision_width, sizes.vision_depth
    vision.intermediate_size, vision.num_attention_heads = sizes.vision_mlp_dim, sizes.vision_heads
    vision.projection_dim = sizes.width
    config.projection_dim = config.hidden_size = sizes.width
    config.text_config.vocab_size = sizes.vocabulary
    # A token that stands for an image may lie outside of the vocabulary; LeRobot embeds images itself.
    config.image_token_index = sizes.vocabulary

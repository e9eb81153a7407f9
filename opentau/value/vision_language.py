"""A critic's own vision-language model: it sees pixels and the policy's words, and is trained with the head (π*0.6)."""

# Shapes: B batch, C cameras, Y and X image rows and columns, P prompt tokens, S state dimensions, F tokens that follow,
# W width, V vocabulary.

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opentau.config import options_from
from opentau.errors import OptionError
from opentau.models.config import TransformerConfig
from opentau.models.initialisation import initialise
from opentau.models.transformer import Transformer
from opentau.models.vision import vision_tower
from opentau.policies.config import vision_from
from opentau.policies.inputs import PrefixInputs
from opentau.policies.prefix import Prefix, embed_text, follow, read_observation
from opentau.policies.weights import WEIGHTS_FILE, load_weights, require_same_weights
from opentau.value.features import FeatureBlock, InputSizes

ARGS = "value.critic.features.args"
READ_OUT = "value_token."
"""What a policy has nothing for."""


class VisionLanguageFeatures(nn.Module):
    """A vision tower and a backbone that read what the policy reads, and a last token that asks for the value.

    The token sees all others and is seen by none; the stream above it is what the head reads. The paper says of its 670M model
    only that it has the policy's design; where the value is read is our choice.
    """

    inputs = ("pixels", "has_camera", "tokens", "state")
    """pixels: uint8 [B, C, Y, X, 3]; has_camera: bool [B, C]; tokens: the prompt's, int64 [B, P], -1 for padding; state:
    float32 [B, S]."""
    frames_at_once = 64

    def __init__(
        self,
        sizes: InputSizes,
        *,
        vision: Mapping[str, Any],
        backbone: Mapping[str, Any],
        vocab_size: int,
        has_state_token: bool = False,
        has_camera_embedding: bool = False,
        has_scaled_words: bool = True,
    ) -> None:
        """Build from sizes as in a policy's configuration; weights are drawn from torch's global generator.

        `has_state_token` is for policies whose prompt does not spell the state.
        """
        super().__init__()
        stack = options_from(TransformerConfig, backbone, where=f"{ARGS}.backbone")
        tower = vision_from(vision, where=f"{ARGS}.vision")
        if stack.is_adaptive:
            raise OptionError(f"{ARGS}.backbone.is_adaptive is true, but a critic has no flow time; set it false")
        if tower.image_size != sizes.image_size:
            raise OptionError(
                f"{ARGS}.vision.image_size is {tower.image_size}, the policy's images have {sizes.image_size}; set it to that"
            )
        if vocab_size < sizes.num_words:
            raise OptionError(f"{ARGS}.vocab_size is {vocab_size}, the policy knows {sizes.num_words} words; raise it to that")
        self.has_scaled_words = has_scaled_words
        self.width = stack.width
        self.vision = vision_tower(tower, width=stack.width)
        self.camera_embedding = nn.Embedding(sizes.num_cameras, stack.width) if has_camera_embedding else None
        self.text_embedding = nn.Embedding(vocab_size, stack.width)
        self.state_in = nn.Linear(sizes.state_dim, stack.width) if has_state_token else None
        self.backbone = Transformer(stack)
        self.value_token = nn.Embedding(1, stack.width)
        if not self.value_token.weight.is_meta:
            initialise(self, seed=int(torch.randint(2**62, ())))

    def calibrate(self, inputs: Mapping[str, Tensor]) -> None:
        """Take nothing: norms inside the model scale what it sees."""

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return float32 [B, W]."""
        prefix = self.prefix(observation_of(inputs))
        asked_B = torch.zeros(len(inputs["tokens"]), 1, dtype=torch.int64, device=inputs["tokens"].device)
        embedded_B1W = self.value_token(asked_B).float() * self.width**0.5
        return follow(self, prefix, embedded_B1W)[0][:, 0].float()

    def prefix(self, inputs: PrefixInputs) -> Prefix:
        """Read a batch of observations or of questions."""
        return read_observation(self, inputs)

    def continuation(self, prefix: Prefix, token_BF: Tensor) -> Tensor:
        """Return the stream over words that follow a question, [B, F, W]."""
        return follow(self, prefix, embed_text(self, token_BF))[0]

    def logits(self, stream_W: Tensor) -> Tensor:
        """Return the next word's logits, [..., V], by the embedding itself, as in Gemma."""
        return F.linear(stream_W, self.text_embedding.weight)


def observation_of(inputs: Mapping[str, Tensor]) -> PrefixInputs:
    """Return a critic's inputs as a model reads them, without an indicator: a value does not depend on it."""
    token_BP = inputs["tokens"]
    num_samples, device = len(token_BP), token_BP.device
    return PrefixInputs(
        images_BCYX3=inputs["pixels"],
        has_camera_BC=inputs["has_camera"],
        prompt_BP=token_BP.clamp_min(0),
        has_prompt_BP=token_BP >= 0,
        worded_BVP=token_BP.new_zeros((num_samples, 0, 0)),
        has_worded_BVP=torch.zeros((num_samples, 0, 0), dtype=torch.bool, device=device),
        state_BS=inputs["state"],
        has_state_B=torch.ones(num_samples, dtype=torch.bool, device=device),
        indicator_B=torch.full((num_samples,), -1, device=device),
        indicator_BI=token_BP.new_zeros((num_samples, 0)),
    ).cut()


def take_weights(block: FeatureBlock, checkpoint: Path) -> None:
    """Start a block from a policy's tower, words and backbone; weights that do not fit are listed in a table.

    What the policy has beyond them (its expert) is left out; the value token stays as it is.
    """
    if not isinstance(block, VisionLanguageFeatures):
        raise OptionError(
            f"value.pretrained starts a vision-language critic, this one has {type(block).__name__}; choose value=vlm, "
            "or leave value.pretrained out"
        )
    wanted = {name: tensor for name, tensor in block.state_dict().items() if not name.startswith(READ_OUT)}
    weights = {name: tensor for name, tensor in load_weights(checkpoint / WEIGHTS_FILE).items() if name in wanted}
    require_same_weights(weights, wanted=wanted, source=str(checkpoint))
    block.load_state_dict(weights, strict=False)

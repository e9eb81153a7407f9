"""The model: a vision tower and a transformer backbone that read an observation, an action expert that reads them."""

# Shapes: B batch, C cameras, T prefix tokens, F continuation tokens, W width, V vocabulary, H actions of a chunk, A action
# dimensions, X flow times of a chunk (1 or H).

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opentau.models.expert import ActionExpert, ExpertContext
from opentau.models.initialisation import initialise
from opentau.models.transformer import Transformer
from opentau.models.vision import vision_tower
from opentau.policies.config import PolicyConfig, StateInput, TextHead
from opentau.policies.inputs import PrefixInputs
from opentau.policies.prefix import Prefix, Said, embed_text, follow, read_observation


class VLA(nn.Module):
    """A vision-language-action model of the π family, assembled from a configuration."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        width = config.backbone.width
        self.vision = vision_tower(config.vision, width=width)
        self.camera_embedding = nn.Embedding(len(config.cameras), width) if config.has_camera_embedding else None
        self.text_embedding = nn.Embedding(config.vocab_size, width)
        self.text_head = None
        if config.text_head is not TextHead.TIED:
            self.text_head = nn.Linear(width, config.vocab_size, bias=config.text_head is TextHead.BIASED)
        self.state_in = nn.Linear(config.state_dim, width) if config.state_input is StateInput.TOKEN else None
        self.backbone = Transformer(config.backbone)
        self.expert = ActionExpert(
            config.expert,
            action_dim=config.action_dim,
            action_horizon=config.action_horizon,
            state_dim=config.state_dim if config.state_input is StateInput.EXPERT else 0,
            has_indicator=config.has_indicator_embedding,
        )

    @classmethod
    def create(cls, config: PolicyConfig, *, seed: int) -> VLA:
        """Return a model with fresh weights, a function of the seed."""
        with torch.random.fork_rng(devices=[]):
            model = cls(config)
        initialise(model, seed=seed)
        return model

    @property
    def has_scaled_words(self) -> bool:
        return self.config.has_scaled_words

    def prefix(self, inputs: PrefixInputs) -> Prefix:
        """Read a batch of observations.

        Images, prompt and state attend to each other; the indicator's text follows as a block that sees them and is not seen.
        """
        return read_observation(self, inputs)

    def expert_context(self, prefix: Prefix) -> ExpertContext:
        """Return what the expert needs of a prefix, for any number of calls of `velocity`."""
        return self.expert.context(
            prefix.offered, is_valid_BC=prefix.has_token_BT, indicator_B=prefix.indicator_B, state_BS=prefix.state_BS
        )

    def velocity(self, context: ExpertContext, *, noisy_BHA: Tensor, time_BX: Tensor) -> Tensor:
        """Return the flow velocity of noisy chunks, [B, H, A]; times are [B, 1], or [B, H] where actions differ in theirs."""
        return self.expert(noisy_BHA, time_BX=time_BX, context=context)

    def continuation(self, prefix: Prefix, token_BF: Tensor) -> Tensor:
        """Return the backbone's stream over tokens that follow the prefix causally, [B, F, W].

        The expert does not attend to them: its context is the prefix alone. Padding belongs at the end.
        """
        return self.say(prefix, token_BF)[0]

    def say(self, seen: Prefix | Said, token_BF: Tensor) -> tuple[Tensor, Said]:
        """Return the stream over further tokens, [B, F, W], and what the next ones attend to; each token is read once."""
        return follow(self, seen, embed_text(self, token_BF))

    def logits(self, stream_W: Tensor) -> Tensor:
        """Return the next token's logits, [..., V], from a continuation's stream, [..., W]."""
        return F.linear(stream_W, self.text_embedding.weight) if self.text_head is None else self.text_head(stream_W)

    def features(self, prefix: Prefix) -> Tensor:
        """Return one vector per observation for a value function, float32 [B, config.feature_dim].

        Means over each camera's tokens and over the prompt, and the state token, of the stream that enters the last layer: what
        the policy acts on, and independent of the indicator. Missing cameras give zeros.
        """
        lengths = [self.config.vision.num_tokens] * len(self.config.cameras)
        num_state_tokens = int(self.state_in is not None)
        num_prompt_tokens = prefix.has_token_BT.shape[1] - sum(lengths) - num_state_tokens - prefix.num_indicator_tokens
        lengths += [num_prompt_tokens] + [1] * num_state_tokens
        stream_BTW = F.rms_norm(prefix.stream_BTW.float(), prefix.stream_BTW.shape[-1:])
        kept_BT1 = prefix.has_token_BT[..., None].float()
        pooled = []
        start = 0
        for length in lengths:
            kept = kept_BT1[:, start : start + length]
            total_BW = (stream_BTW[:, start : start + length] * kept).sum(dim=1)
            pooled.append(total_BW / kept.sum(dim=1).clamp_min(1.0))
            start += length
        return torch.cat(pooled, dim=-1)

"""The transformer of backbone and action expert: pre-norm layers over tokens and, layer by layer, a context."""

# Shapes: B batch, T tokens, C tokens attended to (a context, then the T tokens), W width, Z width of the condition, whose T may
# be 1.

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from opentau.models.attention import Attention, KeysValues, Rotation
from opentau.models.config import TransformerConfig
from opentau.models.mlp import GatedMLP
from opentau.models.norms import AdaptiveRMSNorm, RMSNorm
from opentau.models.recomputing import Recomputation

Rotations: TypeAlias = tuple[Rotation, ...]
"""Of every layer; layers that turn alike share one."""


def _norm(config: TransformerConfig) -> RMSNorm | AdaptiveRMSNorm:
    if config.is_adaptive:
        return AdaptiveRMSNorm(config.width, condition_dim=config.width, eps=config.norm_eps, gate_offset=config.gate_offset)
    return RMSNorm(config.width, eps=config.norm_eps)


def _apply_norm(norm: nn.Module, x_BTW: Tensor, condition_BTZ: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the normed stream and the residual gate; plain norms have none."""
    if isinstance(norm, AdaptiveRMSNorm):
        if condition_BTZ is None:
            raise ValueError("an adaptive transformer needs a condition; pass one, or set is_adaptive=False")
        return norm(x_BTW, condition_BTZ)
    return norm(x_BTW), None


class Layer(nn.Module):
    """Attention, then a gated MLP, each behind a norm and added to the residual stream."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.input_layernorm = _norm(config)
        self.self_attn = Attention(
            config.width,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            norm_eps=config.norm_eps if config.has_query_key_norm else None,
        )
        self.post_attention_layernorm = _norm(config)
        self.mlp = GatedMLP(config.width, mlp_dim=config.mlp_dim, activation=config.activation, gelu=config.gelu)
        self.attention_output_norm = _norm(config) if config.has_output_norm else None
        self.mlp_output_norm = _norm(config) if config.has_output_norm else None

    def keys_values(self, x_BTW: Tensor, *, rotation: Rotation, condition_BTZ: Tensor | None = None) -> KeysValues:
        """Return only what the layer offers to others."""
        normed_BTW, _ = _apply_norm(self.input_layernorm, x_BTW, condition_BTZ)
        return self.self_attn.keys_values(normed_BTW, rotation)

    def forward(
        self,
        x_BTW: Tensor,
        *,
        rotation: Rotation,
        mask_B1TC: Tensor,
        context: KeysValues | None = None,
        condition_BTZ: Tensor | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """Return the stream after the layer, [B, T, W], and the keys and values that it attended to: the context's, its own."""
        normed_BTW, gate = _apply_norm(self.input_layernorm, x_BTW, condition_BTZ)
        own = self.self_attn.keys_values(normed_BTW, rotation)
        seen = context.followed_by(own) if context else own
        read_BTW = self.self_attn(normed_BTW, seen, rotation=rotation, mask_B1TC=mask_B1TC)
        x_BTW = self._add(x_BTW, read_BTW, norm=self.attention_output_norm, gate=gate)
        normed_BTW, gate = _apply_norm(self.post_attention_layernorm, x_BTW, condition_BTZ)
        return self._add(x_BTW, self.mlp(normed_BTW), norm=self.mlp_output_norm, gate=gate), seen

    def _add(self, x_BTW: Tensor, change_BTW: Tensor, *, norm: nn.Module | None, gate: Tensor | None) -> Tensor:
        change_BTW = change_BTW if norm is None else norm(change_BTW)
        if self.dropout:
            change_BTW = F.dropout(change_BTW, self.dropout, training=self.training)
        return x_BTW + change_BTW if gate is None else x_BTW.addcmul(change_BTW, gate)


class Transformer(nn.Module):
    """A stack of layers and a final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.call = Recomputation()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.depth))
        self.norm = _norm(config)

    def rotations(self, positions_BT: Tensor) -> Rotations:
        """Return every layer's rotation of queries and keys at these positions, int64 [B, T]."""
        config = self.config
        far = Rotation.at(positions_BT, head_dim=config.head_dim, theta=config.rope_theta, scale=config.rope_scale)
        if not config.num_local_layers:
            return (far,) * config.depth
        near = Rotation.at(positions_BT, head_dim=config.head_dim, theta=config.local_rope_theta)
        period = config.num_local_layers + 1
        return tuple(near if number % period else far for number in range(1, config.depth + 1))

    def offer(self, x_BTW: Tensor, *, rotations: Rotations, mask_B1TC: Tensor) -> tuple[tuple[KeysValues, ...], Tensor]:
        """Return the keys and values of every layer, and the stream that enters the last layer, [B, T, W].

        What the last layer would add to the stream is never attended to, so it is not computed.
        """
        offered = []
        for layer, rotation in zip(self.layers[:-1], rotations[:-1], strict=True):
            x_BTW, seen = self.call(layer, x_BTW, rotation=rotation, mask_B1TC=mask_B1TC)
            offered.append(seen)
        last = self.layers[-1]
        assert isinstance(last, Layer)
        offered.append(last.keys_values(x_BTW, rotation=rotations[-1]))
        return tuple(offered), x_BTW

    def forward(
        self,
        x_BTW: Tensor,
        *,
        rotations: Rotations,
        mask_B1TC: Tensor,
        context: Sequence[KeysValues] | None = None,
        condition_BTZ: Tensor | None = None,
    ) -> Tensor:
        """Return the normed stream after all layers, [B, T, W]; layer i attends to context[i] and to itself."""
        for index, layer in enumerate(self.layers):
            x_BTW, _ = self.call(
                layer,
                x_BTW,
                rotation=rotations[index],
                mask_B1TC=mask_B1TC,
                context=context[index] if context else None,
                condition_BTZ=condition_BTZ,
            )
        return _apply_norm(self.norm, x_BTW, condition_BTZ)[0]

    def extend(
        self, x_BTW: Tensor, *, rotations: Rotations, mask_B1TC: Tensor, context: Sequence[KeysValues]
    ) -> tuple[Tensor, tuple[KeysValues, ...]]:
        """Return what `forward` does, and the context of tokens that follow: what each layer attended to."""
        extended = []
        for layer, rotation, before in zip(self.layers, rotations, context, strict=True):
            x_BTW, seen = layer(x_BTW, rotation=rotation, mask_B1TC=mask_B1TC, context=before)
            extended.append(seen)
        return _apply_norm(self.norm, x_BTW, None)[0], tuple(extended)

"""The one attention: grouped queries, rotary positions, an optional context of keys and values computed elsewhere."""

# Shapes: B batch, T tokens, C tokens attended to, W width, N query heads, G key/value heads, D head size, E = D / 2 angles,
# M = T N / G tokens of all heads that share keys.

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opentau.models.norms import RMSNorm


class KeysValues(NamedTuple):
    """What one layer offers to be attended to; keys are already rotated."""

    keys_BGTD: Tensor
    values_BGTD: Tensor

    def followed_by(self, later: KeysValues) -> KeysValues:
        """Return both, this one first."""
        return KeysValues(*(torch.cat(pair, dim=2) for pair in zip(self, later, strict=True)))


class Rotation(NamedTuple):
    """Cosine and sine of every token's rotary angles, laid out for one multiplication and one multiply-add."""

    cos_B1TD: Tensor
    """Every cosine twice: for dimension i and for its partner i + D/2."""
    sin_B1TD: Tensor
    """Every sine twice, first negative, then positive."""

    @classmethod
    def at(cls, positions_BT: Tensor, *, head_dim: int, theta: float, scale: float = 1.0) -> Rotation:
        """Return the rotation of positions [B, T] divided by `scale` (RoPE, arXiv:2104.09864), float32."""
        half = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions_BT.device) / head_dim
        angles_B1TE = positions_BT[:, None, :, None].float() / scale * theta**-half
        cos, sin = angles_B1TE.cos(), angles_B1TE.sin()
        return cls(torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1))

    def __call__(self, x_BNTD: Tensor) -> Tensor:
        """Return x with dimension i and i + D/2 turned as a pair, [B, N, T, D]."""
        partner_BNTD = x_BNTD.roll(x_BNTD.shape[-1] // 2, dims=-1)
        return torch.addcmul(x_BNTD * self.cos_B1TD, partner_BNTD, self.sin_B1TD)


class Attention(nn.Module):
    """Attention whose keys and values can be taken apart from its queries, so that another stream can attend to them."""

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        has_bias: bool = False,
        norm_eps: float | None = None,
    ) -> None:
        """`norm_eps` puts norms over every head's queries and keys."""
        super().__init__()
        self.head_dim = head_dim
        self.is_grouped = num_heads != num_kv_heads
        self.q_proj = nn.Linear(width, num_heads * head_dim, bias=has_bias)
        self.k_proj = nn.Linear(width, num_kv_heads * head_dim, bias=has_bias)
        self.v_proj = nn.Linear(width, num_kv_heads * head_dim, bias=has_bias)
        self.o_proj = nn.Linear(num_heads * head_dim, width, bias=has_bias)
        self.q_norm = None if norm_eps is None else RMSNorm(head_dim, eps=norm_eps)
        self.k_norm = None if norm_eps is None else RMSNorm(head_dim, eps=norm_eps)

    def keys_values(self, x_BTW: Tensor, rotation: Rotation | None) -> KeysValues:
        """Return what this layer's tokens offer, [B, G, T, D] each."""
        keys_BGTD = self._split(self.k_proj(x_BTW))
        keys_BGTD = self.k_norm(keys_BGTD) if self.k_norm else keys_BGTD
        return KeysValues(rotation(keys_BGTD) if rotation else keys_BGTD, self._split(self.v_proj(x_BTW)))

    def forward(
        self, x_BTW: Tensor, keys_values: KeysValues, *, rotation: Rotation | None, mask_B1TC: Tensor | None = None
    ) -> Tensor:
        """Return what the tokens read from `keys_values`, [B, T, W]; the mask is added to the scores."""
        queries_BNTD = self._split(self.q_proj(x_BTW))
        queries_BNTD = self.q_norm(queries_BNTD) if self.q_norm else queries_BNTD
        queries_BNTD = rotation(queries_BNTD) if rotation else queries_BNTD
        read_BNTD = _attend(queries_BNTD, keys_values, mask_B1TC=mask_B1TC, is_grouped=self.is_grouped)
        return self.o_proj(read_BNTD.transpose(1, 2).flatten(2))

    def _split(self, x_BTX: Tensor) -> Tensor:
        return x_BTX.view(*x_BTX.shape[:2], -1, self.head_dim).transpose(1, 2)


def _attend(queries_BNTD: Tensor, keys_values: KeysValues, *, mask_B1TC: Tensor | None, is_grouped: bool) -> Tensor:
    """Return what the queries read, [B, N, T, D].

    On a CPU under autocast, heads that share keys, and whole images, are read by plain products in bfloat16, which with their
    backward pass take half the time of the fused kernel in float32. Small heads of their own gain nothing and stay in float32
    (`benchmarks/update_speed.py`).
    """
    keys_BGTD, values_BGTD = keys_values
    if queries_BNTD.device.type != "cpu":
        seen = spread(keys_values, num_heads=queries_BNTD.shape[1]) if is_grouped and mask_B1TC is not None else keys_values
        is_shared = is_grouped and mask_B1TC is None
        return F.scaled_dot_product_attention(queries_BNTD, *seen, attn_mask=mask_B1TC, enable_gqa=is_shared)
    is_half = torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False) if is_half else nullcontext():
        if is_half and (is_grouped or mask_B1TC is None):
            return _attend_by_products(queries_BNTD, keys_values, mask_B1TC=mask_B1TC)
        return F.scaled_dot_product_attention(
            queries_BNTD.float(), keys_BGTD.float(), values_BGTD.float(), attn_mask=mask_B1TC, enable_gqa=is_grouped
        )


def spread(keys_values: KeysValues, *, num_heads: int) -> KeysValues:
    """Return keys and values for each query head, [B, N, T, D] each; those of a single head are shared, not copied.

    On a GPU only the kernels without a mask, and the one that writes all scores to memory, know heads that share keys.
    """
    count = num_heads // keys_values.keys_BGTD.shape[1]
    return KeysValues(*(each[:, :, None].expand(-1, -1, count, -1, -1).flatten(1, 2) for each in keys_values))


def _attend_by_products(queries_BNTD: Tensor, keys_values: KeysValues, *, mask_B1TC: Tensor | None) -> Tensor:
    """Return what `_attend` does, by two products in bfloat16 in which the heads that share keys are rows of one matrix."""
    keys_BGCD, values_BGCD = (tensor.bfloat16() for tensor in keys_values)
    num_tokens, head_dim = queries_BNTD.shape[2:]
    scaled_BNTD = (queries_BNTD * head_dim**-0.5).bfloat16()
    rows_BGMD = scaled_BNTD.unflatten(1, (keys_BGCD.shape[1], -1)).flatten(2, 3)
    scores_BGMC = rows_BGMD @ keys_BGCD.mT
    if mask_B1TC is not None:
        scores_BGMC.unflatten(2, (-1, num_tokens)).add_(mask_B1TC[:, :, None].bfloat16())
    read_BGMD = scores_BGMC.softmax(dim=-1) @ values_BGCD
    return read_BGMD.unflatten(2, (-1, num_tokens)).flatten(1, 2)

"""The sizes and switches of model parts, as plain dataclasses that need no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opentau.config import later
from opentau.errors import OptionError


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """One transformer: the backbone, or the action expert that attends to it."""

    width: int
    """Size of the residual stream."""
    depth: int
    """Number of layers."""
    num_heads: int
    """Query heads."""
    num_kv_heads: int
    """Key and value heads; divides `num_heads`."""
    head_dim: int
    """Size of one head; even, because rotary positions turn pairs."""
    mlp_dim: int
    """Hidden size of the gated MLP."""
    rope_theta: float = 10_000.0
    """Base of the rotary frequencies."""
    rope_scale: float = later(1.0)
    """Positions are divided by this in layers of `rope_theta` (8 in Gemma 3 4B)."""
    num_local_layers: int = later(0)
    """So many layers of `local_rope_theta` stand before each one of `rope_theta` (5 in Gemma 3); 0 has none of them."""
    local_rope_theta: float = later(10_000.0)
    """Base of the rotary frequencies in local layers. They see as far as all others: image tokens must see each other."""
    norm_eps: float = 1e-6
    """Added to the mean square inside every norm."""
    activation: str = later("gelu")
    """Of the MLP's gate: 'gelu' (Gemma) or 'silu' (Llama)."""
    gelu: str = "tanh"
    """'tanh' is Gemma's approximation; 'none', the exact function, is five times as fast on a CPU."""
    has_query_key_norm: bool = later(False)
    """Whether every head's queries and keys are normed before they are rotated (Gemma 3)."""
    has_output_norm: bool = later(False)
    """Whether what a block adds to the residual stream is normed first (Gemma 3)."""
    dropout: float = 0.0
    """Share of each block output that is zeroed in training."""
    is_adaptive: bool = False
    """Whether norms are modulated by a conditioning vector (adaRMS); needs one at every call."""
    gate_offset: float = 0.0
    """Added to the adaptive residual gates, which start at zero: 0 starts as the identity (π0.5), 1 as a plain block."""

    def __post_init__(self) -> None:
        for name in ("width", "depth", "num_heads", "num_kv_heads", "head_dim", "mlp_dim"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.num_heads % self.num_kv_heads:
            raise OptionError(
                f"num_heads is {self.num_heads} and num_kv_heads {self.num_kv_heads}; the second must divide the first"
            )
        if self.head_dim % 2:
            raise OptionError(f"head_dim is {self.head_dim}; rotary positions need an even number")
        if self.gelu not in ("tanh", "none"):
            raise OptionError(f"gelu is {self.gelu!r}; choose 'tanh' or 'none'")
        if self.activation not in ("gelu", "silu"):
            raise OptionError(f"activation is {self.activation!r}; choose 'gelu' or 'silu'")
        if self.num_local_layers < 0:
            raise OptionError(f"num_local_layers is {self.num_local_layers}; it must be at least 0")
        if self.has_output_norm and self.is_adaptive:
            raise OptionError("has_output_norm and is_adaptive are both true; adaptive blocks are gated instead, choose one")
        if not 0.0 <= self.dropout < 1.0:
            raise OptionError(f"dropout is {self.dropout}; it must lie in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvTowerConfig:
    """A stack of stride-2 convolutions, small enough to learn from scratch."""

    kind: ClassVar[str] = "conv"
    image_size: int
    """Rows and columns of an image, pixels."""
    channels: tuple[int, ...]
    """Channels after each convolution but the last, which gives the backbone's width; each halves the image."""
    num_groups: int = 8
    """Groups of each group norm."""

    def __post_init__(self) -> None:
        if self.image_size % self.stride:
            raise OptionError(
                f"image_size is {self.image_size}; {len(self.channels) + 1} halvings need a multiple of {self.stride}"
            )
        for channels in self.channels:
            if channels % self.num_groups:
                raise OptionError(f"channels holds {channels}; choose multiples of num_groups, {self.num_groups}")

    @property
    def stride(self) -> int:
        """Pixels between neighbouring tokens."""
        return 2 ** (len(self.channels) + 1)

    @property
    def num_tokens(self) -> int:
        """Tokens of one image."""
        return (self.image_size // self.stride) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ViTTowerConfig:
    """A vision transformer laid out as SigLIP's, with a linear projection into the backbone."""

    kind: ClassVar[str] = "vit"
    image_size: int
    """Rows and columns of an image, pixels."""
    patch_size: int
    """Rows and columns of a patch, pixels; each patch is a token."""
    width: int
    """Size of the tower's residual stream."""
    depth: int
    """Number of layers."""
    num_heads: int
    """Attention heads; divides `width`."""
    mlp_dim: int
    """Hidden size of the MLP."""
    norm_eps: float = 1e-6
    """Added to the variance inside every norm."""
    pool_size: int = later(1)
    """So many rows and columns of patches are averaged into one token (4 in Gemma 3 at 896 pixels)."""
    projector: str = later("linear")
    """Into the backbone's width: 'linear' with a bias (PaliGemma), or 'normed', a norm and a matrix alone (Gemma 3)."""

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise OptionError(f"image_size is {self.image_size}; it must be a multiple of patch_size, {self.patch_size}")
        if self.width % self.num_heads:
            raise OptionError(f"width is {self.width}; it must be a multiple of num_heads, {self.num_heads}")
        if self.pool_size < 1 or self.num_rows % self.pool_size:
            raise OptionError(f"pool_size is {self.pool_size}; it must divide the {self.num_rows} rows of patches")
        if self.projector not in ("linear", "normed"):
            raise OptionError(f"projector is {self.projector!r}; choose 'linear' or 'normed'")

    @property
    def num_rows(self) -> int:
        """Rows, and columns, of patches."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patches of one image."""
        return self.num_rows**2

    @property
    def num_tokens(self) -> int:
        """Tokens of one image."""
        return (self.num_rows // self.pool_size) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientNetLiteConfig:
    """The first stages of EfficientNet-Lite0, with a linear projection into the backbone."""

    kind: ClassVar[str] = "efficientnet_lite"
    stride: ClassVar[int] = 16
    """Pixels between neighbouring tokens."""
    image_size: int
    """Rows and columns of an image, pixels."""

    def __post_init__(self) -> None:
        if self.image_size < 1 or self.image_size % self.stride:
            raise OptionError(f"image_size is {self.image_size}; it must be a multiple of {self.stride}")

    @property
    def num_tokens(self) -> int:
        """Tokens of one image."""
        return (self.image_size // self.stride) ** 2


VisionConfig = ConvTowerConfig | ViTTowerConfig | EfficientNetLiteConfig

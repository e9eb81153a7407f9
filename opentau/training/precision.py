"""In which numbers a forward pass is computed."""

from __future__ import annotations

import torch

from opentau.errors import OptionError
from opentau.training.options import AUTO, BFLOAT16, FLOAT32, TuningOptions


def resolve_precision(precision: str, *, device_type: str) -> str:
    """Return 'float32' or 'bfloat16'; 'auto' takes bfloat16 where the device multiplies in it."""
    if precision != AUTO:
        return precision
    if device_type == "cuda":
        return BFLOAT16 if torch.cuda.is_bf16_supported(including_emulation=False) else FLOAT32
    instructions = torch.cpu.get_capabilities()
    return BFLOAT16 if instructions.get("avx512_bf16") or instructions.get("amx_bf16") else FLOAT32


def require_autocast(options: TuningOptions, *, precision: str) -> None:
    """Raise `OptionError` if weights are narrower than what a forward pass of this precision multiplies with."""
    if options.frozen_precision == BFLOAT16 and precision != BFLOAT16:
        raise OptionError(
            f"tuning.frozen_precision is 'bfloat16', but the forward pass is in {precision!r}; set precision=bfloat16 "
            "(sft.precision, update.precision), or tuning.frozen_precision=float32"
        )

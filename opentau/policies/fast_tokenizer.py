"""The action tokenizer: cosine transform, rounding, byte-pair encoding (FAST, arXiv:2501.09747), fitted on the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tokenizers
from tokenizers import models, trainers

from opentau.errors import CheckpointError, DataError

# Shapes: N chunks, H actions of a chunk, A action dimensions, K = H · A coefficients.

# Coefficients become characters, from the start of a stretch of code points without surrogates or combining marks.
FIRST_CHARACTER = 0x4E00
MAX_LIMIT = 5_000
# Rare actions far outside the quantile range would otherwise cost hundreds of ids that nothing else uses.
CLIP = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FastReport:
    """How well a tokenizer fits the chunks that it was fitted on; errors in encoded units, where most actions span [-1, 1]."""

    num_chunks: int
    mean_tokens: float
    """Tokens per chunk."""
    max_tokens: int
    mean_error: float
    """Mean absolute round-trip error, clipping included."""
    max_error: tuple[float, ...]
    """Largest absolute round-trip error of each action dimension, clipping included."""
    clipped_share: float
    """Share of numbers outside the clipping range."""


class FastTokenizer:
    """Chunks of encoded actions to token ids and back.

    The rounded coefficients are written lowest frequency first, all dimensions of a frequency side by side, so that frequent
    neighbourhoods merge into one token and the tail of a smooth chunk is a few tokens of zeros. Actions are clipped to ±1.5
    before they are transformed: the codec must be the quantile one, where they span [-1, 1].
    """

    def __init__(self, bpe: tokenizers.Tokenizer, *, action_horizon: int, action_dim: int, scale: float, limit: int) -> None:
        self.action_horizon = action_horizon
        self.action_dim = action_dim
        self.scale = scale
        self.limit = limit
        self._bpe = bpe
        self._basis_HH = cosine_basis(action_horizon)
        self._characters = [bpe.id_to_token(index) or "" for index in range(bpe.get_vocab_size())]

    @classmethod
    def fit(cls, chunks_NHA: np.ndarray, *, vocab_size: int, scale: float = 10.0) -> tuple[FastTokenizer, FastReport]:
        """Fit on chunks without padding, float32 [N, H, A] as the codec encodes them; a function of the data alone."""
        if chunks_NHA.ndim != 3 or not len(chunks_NHA):
            raise DataError(f"the action tokenizer got chunks of shape {chunks_NHA.shape}; it needs at least one, [N, H, A]")
        _, horizon, action_dim = chunks_NHA.shape
        coefficients_NHA = _rounded(chunks_NHA, basis_HH=cosine_basis(horizon), scale=scale)
        limit = max(1, int(np.abs(coefficients_NHA).max()))
        if 2 * limit + 1 > vocab_size or limit > MAX_LIMIT:
            raise DataError(
                f"the action tokenizer needs {2 * limit + 1} ids for single coefficients and has {vocab_size}; "
                "raise fast_vocab_size, or check the data for actions far outside the codec's range"
            )
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=[chr(FIRST_CHARACTER + index) for index in range(2 * limit + 1)],
            show_progress=False,
        )
        bpe = tokenizers.Tokenizer(models.BPE())
        bpe.train_from_iterator(_characters(coefficients_NHA, limit=limit), trainer)
        tokenizer = cls(bpe, action_horizon=horizon, action_dim=action_dim, scale=scale, limit=limit)
        return tokenizer, tokenizer._report(chunks_NHA)

    @property
    def vocab_size(self) -> int:
        return len(self._characters)

    def encode(self, chunks_NHA: np.ndarray) -> list[list[int]]:
        """Return the ids of each chunk; coefficients beyond those seen at fit saturate."""
        if chunks_NHA.shape[1:] != (self.action_horizon, self.action_dim):
            raise DataError(
                f"the action tokenizer was fitted on chunks {(self.action_horizon, self.action_dim)}, "
                f"got {chunks_NHA.shape[1:]}; fit one for this action_horizon and action space"
            )
        coefficients_NHA = _rounded(chunks_NHA, basis_HH=self._basis_HH, scale=self.scale)
        texts = _characters(np.clip(coefficients_NHA, -self.limit, self.limit), limit=self.limit)
        return [encoding.ids for encoding in self._bpe.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> np.ndarray | None:
        """Return the chunk, float32 [H, A], or None for ids that do not spell exactly one; there is no guessed action."""
        if any(not 0 <= index < self.vocab_size for index in ids):
            return None
        text = "".join(self._characters[index] for index in ids)
        if len(text) != self.action_horizon * self.action_dim:
            return None
        points_K = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)
        coefficients_HA = (points_K - FIRST_CHARACTER - self.limit).reshape(self.action_horizon, self.action_dim)
        return (self._basis_HH.T @ (coefficients_HA / self.scale)).astype(np.float32)

    def to_json(self) -> str:
        plain = {
            "action_horizon": self.action_horizon,
            "action_dim": self.action_dim,
            "scale": self.scale,
            "limit": self.limit,
            "bpe": json.loads(self._bpe.to_str()),
        }
        return json.dumps(plain, indent=1, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> FastTokenizer:
        """Build from `to_json`; damaged text raises `CheckpointError`."""
        # The library raises bare Exception for anything it cannot read.
        try:
            plain = json.loads(text)
            bpe = tokenizers.Tokenizer.from_str(json.dumps(plain.pop("bpe")))
            return cls(bpe, **plain)
        except Exception as error:
            raise CheckpointError(f"the action tokenizer cannot be read: {error}. Fetch the checkpoint again.") from error

    def _report(self, chunks_NHA: np.ndarray) -> FastReport:
        ids = self.encode(chunks_NHA)
        decoded = [self.decode(row) for row in ids]
        errors_NHA = np.abs(np.stack([chunk for chunk in decoded if chunk is not None]) - chunks_NHA)
        lengths = [len(row) for row in ids]
        return FastReport(
            num_chunks=len(ids),
            mean_tokens=float(np.mean(lengths)),
            max_tokens=max(lengths),
            mean_error=float(errors_NHA.mean()),
            max_error=tuple(float(error) for error in errors_NHA.max(axis=(0, 1))),
            clipped_share=float(np.mean(np.abs(chunks_NHA) > CLIP)),
        )


def cosine_basis(length: int) -> np.ndarray:
    """Return the orthonormal DCT-II, float64 [H, H]: basis @ signal are coefficients, basis.T @ coefficients the signal."""
    frequency, time = np.mgrid[:length, :length]
    basis = np.cos(np.pi * (time + 0.5) * frequency / length) * np.sqrt(2.0 / length)
    basis[0] *= np.sqrt(0.5)
    return basis


def _rounded(chunks_NHA: np.ndarray, *, basis_HH: np.ndarray, scale: float) -> np.ndarray:
    if not np.isfinite(chunks_NHA).all():
        raise DataError("the action tokenizer got numbers that are not finite; check the actions of the dataset")
    return np.rint(scale * (basis_HH @ np.clip(chunks_NHA, -CLIP, CLIP).astype(np.float64))).astype(np.int64)


def _characters(coefficients_NHA: np.ndarray, *, limit: int) -> list[str]:
    """Return one string per chunk, a character per coefficient."""
    points_NK = (coefficients_NHA + limit + FIRST_CHARACTER).reshape(len(coefficients_NHA), -1).astype("<u4")
    return [str(text) for text in points_NK.view(f"<U{points_NK.shape[1]}")[:, 0]]

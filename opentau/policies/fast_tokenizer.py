"""The action tokenizer: cosine transform, rounding, byte-pair encoding (FAST, arXiv:2501.09747), fitted on the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import models, trainers

from opentau.errors import CheckpointError, DataError
from opentau.policies.fast_folder import FastSettings, read_folder, write_folder
from opentau.policies.fast_vocabulary import BLOCK, FastVocabulary
from opentau.policies.pair_merging import MAX_TOKENS

# Shapes: N chunks, M of them decodable, H actions of a chunk, A action dimensions, K = H · A coefficients.

# Coefficients become characters, from the start of a stretch of code points without surrogates or combining marks.
FIRST_CHARACTER = 0x4E00
# Far beyond what any vocabulary spells, and well within an integer.
MAX_COEFFICIENT = 10**9
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

    def told(self) -> str:
        """Return the report in a sentence."""
        return (
            f"action tokens: {self.mean_tokens:.1f} a chunk on average and {self.max_tokens} at most, on {self.num_chunks} "
            f"chunks; read back they differ by {self.mean_error:.4f} on average and {max(self.max_error):.3f} at most, where "
            f"most actions span 2; {self.clipped_share:.2%} of the numbers were cut"
        )


class FastTokenizer:
    """Chunks of encoded actions to token ids and back.

    The rounded coefficients are written lowest frequency first, all dimensions of a frequency side by side, so that frequent
    neighbourhoods merge into one token and the tail of a smooth chunk is a few tokens of zeros. A tokenizer of ours clips
    actions to ±1.5 before they are transformed, published ones do not; either needs the quantile codec, where actions span
    [-1, 1]. Coefficients that the vocabulary cannot spell become the nearest that it can: below its range the published
    processor does the same, elsewhere it drops them, and the chunk can no longer be decoded.
    """

    def __init__(
        self,
        vocabulary: FastVocabulary,
        *,
        action_horizon: int,
        action_dim: int,
        scale: float,
        min_token: int,
        clip: float | None,
    ) -> None:
        """`min_token` is the coefficient that is character 0; `clip` is None for actions as they are."""
        self.action_horizon = action_horizon
        self.action_dim = action_dim
        self.scale = scale
        self.min_token = min_token
        self.clip = clip
        self._vocabulary = vocabulary
        self._basis_HH = cosine_basis(action_horizon)

    @classmethod
    def fit(cls, chunks_NHA: np.ndarray, *, vocab_size: int, scale: float = 10.0) -> tuple[FastTokenizer, FastReport]:
        """Fit on chunks without padding, float32 [N, H, A] as the codec encodes them; a function of the data alone."""
        if chunks_NHA.ndim != 3 or not len(chunks_NHA):
            raise DataError(f"the action tokenizer got chunks of shape {chunks_NHA.shape}; it needs at least one, [N, H, A]")
        if vocab_size > MAX_TOKENS:
            raise DataError(f"an action tokenizer has at most {MAX_TOKENS} ids, not {vocab_size}; lower fast_vocab_size")
        _, horizon, action_dim = chunks_NHA.shape
        coefficients_NHA = _rounded(chunks_NHA, basis_HH=cosine_basis(horizon), scale=scale, clip=CLIP)
        limit = max(1, int(np.abs(coefficients_NHA).max()))
        if 2 * limit + 1 > vocab_size:
            raise DataError(
                f"the action tokenizer needs {2 * limit + 1} ids for single coefficients and has {vocab_size}; "
                "raise fast_vocab_size, or check the data for actions far outside the codec's range"
            )
        min_token = -limit - FIRST_CHARACTER
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=[chr(FIRST_CHARACTER + index) for index in range(2 * limit + 1)],
            show_progress=False,
        )
        bpe = tokenizers.Tokenizer(models.BPE())
        bpe.train_from_iterator(_texts(coefficients_NHA - min_token), trainer)
        tokenizer = cls(
            FastVocabulary(json.loads(bpe.to_str())),
            action_horizon=horizon,
            action_dim=action_dim,
            scale=scale,
            min_token=min_token,
            clip=CLIP,
        )
        return tokenizer, tokenizer._report(chunks_NHA)

    @classmethod
    def from_folder(cls, folder: Path, *, action_horizon: int | None = None, action_dim: int | None = None) -> FastTokenizer:
        """Read a published tokenizer, for chunks of the given shape or of the folder's where that names one.

        A folder that is damaged, or that names another shape or none, raises `CheckpointError`. Of transformers' settings
        only those that bear on tokens are read; tokens added beside the vocabulary have an id, and decode to nothing.
        """
        vocabulary, settings = read_folder(folder)
        shape = {}
        for name, wanted in (("action_horizon", action_horizon), ("action_dim", action_dim)):
            named = getattr(settings, name)
            if wanted is None and named is None:
                raise CheckpointError(f"the tokenizer in {folder} is for any {name}; say which: {name}=…")
            if None not in (wanted, named) and wanted != named:
                raise CheckpointError(
                    f"the tokenizer in {folder} was fitted on {name} {named}, not {wanted}; fit one for these chunks"
                )
            shape[name] = wanted or named
        return cls(vocabulary, **shape, scale=settings.scale, min_token=settings.min_token, clip=settings.clip)

    def save_folder(self, folder: Path) -> None:
        """Write the published layout; its reader gives the same tokens for actions that need no clipping and no saturation."""
        settings = FastSettings(
            scale=self.scale,
            min_token=self.min_token,
            action_horizon=self.action_horizon,
            action_dim=self.action_dim,
            clip=self.clip,
        )
        write_folder(folder, self._vocabulary, settings)

    @property
    def vocab_size(self) -> int:
        return self._vocabulary.num_tokens

    @property
    def coefficient_range(self) -> tuple[int, int]:
        """Lowest and highest coefficient that can be spelled."""
        characters = self._vocabulary.characters
        return int(characters[0]) + self.min_token, int(characters[-1]) + self.min_token

    def encode(self, chunks_NHA: np.ndarray) -> list[list[int]]:
        """Return the ids of each chunk."""
        return self._vocabulary.encode(self._characters(chunks_NHA))

    def can_spell(self, chunks_NHA: np.ndarray) -> np.ndarray:
        """Return bool [N], the chunks that are encoded as they are: no number is clipped, no coefficient replaced."""
        is_spelled_NK = np.isin(self._characters(chunks_NHA), self._vocabulary.characters)
        is_clipped_NHA = np.abs(chunks_NHA) > (self.clip or np.inf)
        return np.logical_and.reduce(is_spelled_NK, axis=1) & ~np.logical_or.reduce(is_clipped_NHA, axis=(1, 2))

    def decode(self, ids: Sequence[int]) -> np.ndarray | None:
        """Return the chunk, float32 [H, A], or None for ids that do not spell exactly one; there is no guessed action."""
        return self.decode_batch([ids])[0]

    def decode_batch(self, ids: Sequence[Sequence[int]]) -> list[np.ndarray | None]:
        """Return what `decode` does for each, much faster."""
        return [chunk for first in range(0, len(ids), BLOCK) for chunk in self._decode(ids[first : first + BLOCK])]

    def to_json(self) -> str:
        plain = {
            "action_horizon": self.action_horizon,
            "action_dim": self.action_dim,
            "scale": self.scale,
            "min_token": self.min_token,
            "clip": self.clip,
            "bpe": self._vocabulary.plain,
        }
        return json.dumps(plain, indent=1, ensure_ascii=True)

    @classmethod
    def from_json(cls, text: str) -> FastTokenizer:
        """Build from `to_json`; damaged text raises `CheckpointError`."""
        try:
            plain = json.loads(text)
            if "limit" in plain:
                # Checkpoints from before published tokenizers could be read name the largest coefficient instead.
                plain |= {"min_token": -plain.pop("limit") - FIRST_CHARACTER, "clip": CLIP}
            return cls(FastVocabulary(plain.pop("bpe")), **plain)
        except (ValueError, KeyError, TypeError, AttributeError, CheckpointError) as error:
            raise CheckpointError(f"the action tokenizer cannot be read: {error}. Fetch the checkpoint again.") from error

    def _characters(self, chunks_NHA: np.ndarray) -> np.ndarray:
        """Return the code points of the coefficients, int64 [N, K], as if all could be spelled."""
        if chunks_NHA.shape[1:] != (self.action_horizon, self.action_dim):
            raise DataError(
                f"the action tokenizer was fitted on chunks {(self.action_horizon, self.action_dim)}, "
                f"got {chunks_NHA.shape[1:]}; fit one for this action_horizon and action space"
            )
        coefficients_NHA = _rounded(chunks_NHA, basis_HH=self._basis_HH, scale=self.scale, clip=self.clip)
        return (coefficients_NHA - self.min_token).reshape(len(chunks_NHA), -1)

    def _decode(self, ids: Sequence[Sequence[int]]) -> list[np.ndarray | None]:
        texts = [self._vocabulary.decode(row) for row in ids]
        is_whole = [text is not None and len(text) == self.action_horizon * self.action_dim for text in texts]
        joined = "".join(text for text, whole in zip(texts, is_whole, strict=True) if text and whole)
        characters_L = np.frombuffer(joined.encode("utf-32-le"), dtype="<u4").astype(np.int64)
        coefficients_MHA = (characters_L + self.min_token).reshape(-1, self.action_horizon, self.action_dim)
        chunks = iter((self._basis_HH.T @ (coefficients_MHA / self.scale)).astype(np.float32))
        return [next(chunks) if whole else None for whole in is_whole]

    def _report(self, chunks_NHA: np.ndarray) -> FastReport:
        ids = self.encode(chunks_NHA)
        decoded = self.decode_batch(ids)
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


def _rounded(chunks_NHA: np.ndarray, *, basis_HH: np.ndarray, scale: float, clip: float | None) -> np.ndarray:
    if not np.isfinite(chunks_NHA).all():
        raise DataError("the action tokenizer got numbers that are not finite; check the actions of the dataset")
    bounded_NHA = chunks_NHA if clip is None else np.clip(chunks_NHA, -clip, clip)
    coefficients_NHA = np.rint(scale * (basis_HH @ bounded_NHA.astype(np.float64)))
    return np.clip(coefficients_NHA, -MAX_COEFFICIENT, MAX_COEFFICIENT).astype(np.int64)


def _texts(characters_NHA: np.ndarray) -> list[str]:
    """Return one string per chunk."""
    points_NK = characters_NHA.reshape(len(characters_NHA), -1).astype("<u4")
    return [str(text) for text in points_NK.view(f"<U{points_NK.shape[1]}")[:, 0]]

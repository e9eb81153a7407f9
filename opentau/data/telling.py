"""What a policy is told of how an episode went: words behind the prompt, withheld at times so that it can be asked without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from opentau.errors import DataError

# Shapes: F frames, B samples.

NOT_SAID = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldPart:
    """One thing that is told of every frame."""

    name: str
    words: tuple[str, ...]
    word: np.ndarray
    """Position in `words` for each frame, `NOT_SAID` where there is nothing to say, int8 [F]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What is told of the frames of a table."""

    parts: tuple[ToldPart, ...]
    dropout: float
    """Share of the samples that are told nothing."""
    part_dropout: float
    """Share of the others from which a part is withheld, each part by itself."""

    def __post_init__(self) -> None:
        for name in ("dropout", "part_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}; it must lie in [0, 1)")

    def texts(self, frames: np.ndarray, rng: np.random.Generator) -> list[str]:
        """Return what is told of rows int64 [B], '' where nothing is."""
        is_told = rng.random(len(frames)) >= self.dropout
        kept = [is_told & (rng.random(len(frames)) >= self.part_dropout) for _ in self.parts]
        texts = []
        for position, frame in enumerate(frames):
            said = {
                part.name: part.words[part.word[frame]]
                for part, is_kept in zip(self.parts, kept, strict=True)
                if is_kept[position] and part.word[frame] != NOT_SAID
            }
            texts.append(told_text(said))
        return texts


def told_text(said: Mapping[str, str]) -> str:
    """Return what is told, {'quality': 'high'}, in words; '' for nothing."""
    return ", ".join(f"{name}: {word}" for name, word in said.items())


def with_told(prompt: str, text: str) -> str:
    """Return a prompt with what is told behind it: a plain sentence, with which any server can ask the policy."""
    return f"{prompt}, {text}" if text else prompt


def prompts_with(prompts: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Return prompts with what is told of each."""
    return [with_told(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]

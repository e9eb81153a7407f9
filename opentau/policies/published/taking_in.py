"""Takes a published checkpoint in: a folder or a name on the hub becomes a sealed checkpoint of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentau.checkpoint import building, read_manifest
from opentau.data.hub import REPOSITORY, fetched
from opentau.data.options import MAIN
from opentau.errors import CheckpointError, OptionError
from opentau.policies.embodiment import Embodiment
from opentau.policies.processor import Processor
from opentau.policies.published.reading import Published, ReadOptions, read_published
from opentau.policies.published_tokenizer import PublishedTokenizer
from opentau.policies.weights import WEIGHTS_FILE, save_weights
from opentau.types import Indicator, Interface

UNUSED_FILE = "unused.safetensors"
"""Weights of the published checkpoint that nothing reads; an export needs them to be complete."""
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_REPOSITORY = "google/paligemma-3b-pt-224"
UNKNOWN = "unknown"
WEIGHT_FILES = ("*.json", "*.safetensors", "assets/**")


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """What has become of a published checkpoint."""

    path: Path
    checkpoint_id: str
    project: str
    num_parameters: int
    interface: Interface


def take_in(
    reference: str,
    directory: Path,
    *,
    options: ReadOptions | None = None,
    tokenizer: str = TOKENIZER_REPOSITORY,
    interface: Interface | None = None,
    cameras: Mapping[str, str] | None = None,
) -> TakenIn:
    """Read a folder or 'owner/name' of the hub and write it as our checkpoint into a new `directory`.

    `tokenizer` is the folder or repository of the tokenizer.json. A published checkpoint names neither the numbers of its robot
    nor their units: `interface` says which robot or environment it serves, `cameras` which of the policy's cameras is which
    there. Without, it can be trained further, but serves nothing.
    """
    if directory.exists():
        raise OptionError(f"{directory} exists; name a new folder")
    published = read_published(find_repository(reference, patterns=WEIGHT_FILES), options=options)
    words = _tokenizer(tokenizer)
    embodiment = _embodiment(published, interface, cameras)
    processor = Processor(
        published.config,
        embodiments=[embodiment],
        text_tokenizer=words,
        fast_tokenizer=None,
        served_indicator=Indicator.ABSENT,
    )
    with building(directory, {"content": {"source": published.project}}) as partial:
        save_weights(partial / WEIGHTS_FILE, published.weights)
        processor.save(partial)
        if published.unused:
            save_weights(partial / UNUSED_FILE, published.unused)
    return TakenIn(
        path=directory,
        checkpoint_id=str(read_manifest(directory)["id"]),
        project=published.project,
        num_parameters=sum(tensor.numel() for tensor in published.weights.values()),
        interface=embodiment.interface,
    )


def find_repository(reference: str, *, patterns: tuple[str, ...]) -> Path:
    """Return a folder, or the files of a model on the hub that match; `HF_HUB_OFFLINE=1` asks the cache alone.

    Raises `CheckpointError` for what is neither here nor to be had.
    """
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return folder
    if not REPOSITORY.fullmatch(reference):
        raise CheckpointError(
            f"there is no folder {reference}; give one, or a name on the hub: 'owner/name', 'owner/name@revision'"
        )
    return fetched(reference, repo_type="model", error=CheckpointError, patterns=patterns)


def _tokenizer(reference: str) -> PublishedTokenizer:
    path = find_repository(reference, patterns=(TOKENIZER_FILE,)) / TOKENIZER_FILE
    try:
        return PublishedTokenizer.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Give a folder with PaliGemma's {TOKENIZER_FILE}.") from error


def _embodiment(published: Published, interface: Interface | None, cameras: Mapping[str, str] | None) -> Embodiment:
    """Return the served robot, checked against the policy."""
    codec = published.codec
    if interface is not None and not published.has_statistics:
        raise OptionError("the checkpoint has no statistics of states and actions, so that it cannot act; fine-tune it first")
    if interface is None:
        interface = Interface(
            cameras=dict(published.image_shapes),
            state_names=tuple(f"state_{index}" for index in range(codec.state.dim)),
            state_units=(UNKNOWN,) * codec.state.dim,
            action_names=tuple(f"action_{index}" for index in range(codec.action.dim)),
            action_units=(UNKNOWN,) * codec.action.dim,
            action_space=UNKNOWN,
            control_hz=0.0,
        )
    chosen = (
        dict(cameras) if cameras else {camera: camera for camera in published.config.cameras if camera in interface.cameras}
    )
    unknown = [camera for camera in chosen if camera not in published.config.cameras]
    if unknown or not chosen:
        raise OptionError(
            f"the policy has the cameras {', '.join(published.config.cameras)}, "
            f"the robot {', '.join(sorted(interface.cameras))}; say which is which: --cameras POLICYS=ROBOTS"
        )
    return Embodiment(name=MAIN, interface=interface, codec=codec, cameras=chosen)


def described(taken: TakenIn) -> dict[str, Any]:
    """Return plain data for `--json`."""
    return {
        "path": str(taken.path),
        "id": taken.checkpoint_id,
        "project": taken.project,
        "parameters": taken.num_parameters,
        "interface": taken.interface.to_dict(),
    }

"""Reads a published checkpoint: which project wrote it, what it is made of, and its weights under our names."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from opentau.data.codec import Codec
from opentau.data.images import ImageFit
from opentau.errors import CheckpointError, OptionError
from opentau.policies.config import FastIds, PolicyConfig, TextHead
from opentau.policies.family import MAX_DIM, PI0_PROMPT_TOKENS, PI05_PROMPT_TOKENS
from opentau.policies.published import names
from opentau.policies.published.normalisation import lerobot_codec, openpi_codec, tensorauto_codec, unscaled
from opentau.policies.published.sizes import published_config
from opentau.policies.vla import VLA
from opentau.policies.weights import INDICATOR, WEIGHTS_FILE, require_same_weights

CONFIG_FILE, INDEX_FILE = "config.json", "model.safetensors.index.json"
LEROBOT, OPENPI, TENSORAUTO = "LeRobot", "openpi", "TensorAuto OpenTau"
IMAGES = "observation.images."
OPENPI_CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
TENSORAUTO_TEMPLATE = "Task: {prompt}, State: {state};\n"
BUFFERS = ("normalize_", "unnormalize_")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What a checkpoint does not tell by itself."""

    vision_heads: int | None = None
    """Heads of a vision tower other than SigLIP So400m."""
    action_horizon: int | None = None
    """Where the configuration does not name it."""
    prompt_template: str | None = None
    """None for that of the project."""
    image_fit: ImageFit | None = None
    """How images are brought to the tower's size; None for TensorAuto's way with its checkpoints, and ours with others."""
    dataset: int | None = None
    """Which dataset's scaling is taken, where there are several."""
    norm_stats: Path | None = None
    """openpi's `norm_stats.json`, where it lies elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published policy in our terms."""

    project: str
    config: PolicyConfig
    weights: Mapping[str, Tensor]
    """float32, by our names."""
    unused: Mapping[str, Tensor]
    """Weights that nothing reads, by their canonical names; kept so that an export is complete."""
    codec: Codec
    has_statistics: bool
    """Whether the codec is the checkpoint's; base checkpoints have none and cannot act before they are fine-tuned."""
    image_shapes: Mapping[str, tuple[int, int, int]]
    """Camera to (Y, X, 3), as its data had them."""


def read_published(folder: Path, *, options: ReadOptions | None = None) -> Published:
    """Read a folder of LeRobot's, openpi's or TensorAuto OpenTau's π0 or π0.5.

    Missing, truncated, foreign or contradicting files raise `CheckpointError`, with a table where weights do not fit.
    """
    options = options or ReadOptions()
    description = _description(folder)
    stored = _tensors(folder)
    buffers = {name: tensor for name, tensor in stored.items() if name.startswith(BUFFERS)}
    weights = _canonical({name: tensor for name, tensor in stored.items() if name not in buffers})
    project = TENSORAUTO if names.ACTION_EMBEDDING in weights or buffers else LEROBOT if "type" in description else OPENPI
    is_pi05 = "time_mlp_in.weight" in weights
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    image_shapes, state_dim, action_dim = _features(description, project=project)
    scaling: Codec | None
    if project == TENSORAUTO:
        scaling = tensorauto_codec({name: buffer.numpy() for name, buffer in buffers.items()}, dataset=options.dataset)
    elif project == LEROBOT:
        scaling = lerobot_codec(folder, state_dim=state_dim, action_dim=action_dim)
    else:
        path = options.norm_stats or _norm_stats(folder)
        scaling = openpi_codec(path, is_quantile=is_pi05) if path else None
    codec = scaling or unscaled(state_dim=state_dim, action_dim=action_dim)
    config = published_config(
        shapes,
        cameras=tuple(image_shapes),
        state_dim=codec.state.dim,
        action_horizon=_number(description, ("chunk_size", "action_horizon"), options.action_horizon, "--action-horizon"),
        max_prompt_tokens=_number(
            description,
            ("tokenizer_max_length", "prompt_max_length"),
            (PI05_PROMPT_TOKENS if is_pi05 else PI0_PROMPT_TOKENS) if project == OPENPI else None,
        ),
        text_head=_text_head(weights),
        vision_heads=options.vision_heads,
    )
    if project == TENSORAUTO:
        template = TENSORAUTO_TEMPLATE if is_pi05 else config.prompt_template
        config = dataclasses.replace(config, prompt_template=template, image_fit=ImageFit.TENSORAUTO)
        config, weights = _with_action_rows(dataclasses.replace(config, lowest_state_bin=0), weights)
    if options.prompt_template is not None:
        config = dataclasses.replace(config, prompt_template=options.prompt_template)
    if options.image_fit is not None:
        config = dataclasses.replace(config, image_fit=options.image_fit)
    ours, unused = _renamed(config, weights, source=str(folder))
    return Published(
        project=project,
        config=config,
        weights=ours,
        unused=unused,
        codec=codec,
        has_statistics=scaling is not None,
        image_shapes=image_shapes,
    )


def _canonical(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by their canonical names; the embedding also where a file keeps it once, as the head tied to it."""
    weights = {name: tensors[theirs] for name, theirs in names.by_canonical_name(tensors).items()}
    if names.EMBEDDING not in weights and names.HEAD in weights:
        weights[names.EMBEDDING] = weights[names.HEAD]
    return weights


def _text_head(weights: Mapping[str, Tensor]) -> TextHead:
    """Return whether words are predicted by the embedding or by a matrix that has become another one."""
    if names.HEAD not in weights or torch.equal(weights[names.HEAD], weights[names.EMBEDDING]):
        return TextHead.TIED
    return TextHead.OWN


def _with_action_rows(config: PolicyConfig, weights: Mapping[str, Tensor]) -> tuple[PolicyConfig, dict[str, Tensor]]:
    """Return the action tokens of TensorAuto OpenTau, embedded unscaled and predicted with a bias, as rows behind the words."""
    weights = dict(weights)
    embedding = weights.pop(names.ACTION_EMBEDDING, None)
    head, bias = (weights.pop(f"{names.ACTION_HEAD}.{name}", None) for name in ("weight", "bias"))
    if embedding is None or head is None or bias is None:
        raise CheckpointError("the checkpoint has only some of discrete_action_embedding and da_head; fetch it again")
    words = weights[names.EMBEDDING]
    scaled = embedding.float() / math.sqrt(embedding.shape[1])
    text_head = weights.get(names.HEAD, words)
    weights[names.EMBEDDING] = torch.cat((words.float(), scaled))
    weights[names.HEAD] = torch.cat((text_head.float(), head.float()))
    weights[names.HEAD.replace(".weight", ".bias")] = torch.cat((torch.zeros(len(text_head)), bias.float()))
    changed = dataclasses.replace(config, fast_ids=FastIds.APPENDED, fast_vocab_size=len(embedding), text_head=TextHead.BIASED)
    return changed, weights


def _renamed(
    config: PolicyConfig, weights: Mapping[str, Tensor], *, source: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights by our names, and those that nothing reads; what is missing or does not fit is listed in a table."""
    with torch.device("meta"):
        wanted = VLA(config).state_dict()
    left = dict(weights)
    ours: dict[str, Tensor] = {}
    for name, shape in wanted.items():
        if name == INDICATOR:
            # New here; zero is no indicator at all.
            ours[name] = torch.zeros(shape.shape)
            continue
        theirs = names.published_name(name, is_adaptive=config.expert.is_adaptive)
        if theirs in left:
            ours[name] = left.pop(theirs).float().contiguous()
    if config.text_head is TextHead.TIED:
        left.pop(names.HEAD, None)
    unused = {name: left.pop(name) for name in (names.UNUSED,) if name in left}
    require_same_weights({**ours, **left}, wanted=wanted, source=source)
    return ours, unused


def _description(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.exists():
        return {}
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Fetch the checkpoint again.") from error
    if (kind := plain.get("type", "pi05")) not in ("pi0", "pi05"):
        raise CheckpointError(f"{path} is of a policy of type {kind!r}; π0 and π0.5 can be taken in")
    return dict(plain)


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Return all weights of one file or of the shards that an index names; damaged ones raise `CheckpointError`."""
    files = [WEIGHTS_FILE]
    if not (folder / WEIGHTS_FILE).exists() and (folder / INDEX_FILE).exists():
        files = _shards(folder / INDEX_FILE)
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(folder / file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{folder / file} cannot be read: {error}. It is missing or truncated; fetch the checkpoint again. "
                "Checkpoints in pickle files (.bin, .pt) are not read."
            ) from error
    return tensors


def _shards(index: Path) -> list[str]:
    """Return the files that an index names; one that is damaged, or that leads out of its folder, raises `CheckpointError`."""
    try:
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index} cannot be read: {type(error).__name__}: {error}. Fetch the checkpoint again."
        ) from error
    for file in files:
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(
                f"{index} names the file {file!r}; shards lie beside their index. Fetch the checkpoint again."
            )
    return files


def _features(description: Mapping[str, Any], *, project: str) -> tuple[dict[str, tuple[int, int, int]], int, int]:
    """Return cameras with the shapes of their images, and the dimensions of state and action where they are told."""
    if project == OPENPI:
        return {camera: (224, 224, 3) for camera in OPENPI_CAMERAS}, MAX_DIM, int(description.get("action_dim", MAX_DIM))
    inputs, outputs = description.get("input_features") or {}, description.get("output_features") or {}
    shapes = {
        name.removeprefix(IMAGES): tuple(feature["shape"]) for name, feature in inputs.items() if feature["type"] == "VISUAL"
    }
    if not shapes:
        raise CheckpointError(f"{CONFIG_FILE} names no camera among its input_features; fetch the checkpoint again")
    images = {camera: (int(rows), int(columns), 3) for camera, (_, rows, columns) in shapes.items()}
    dims = [
        next((int(feature["shape"][0]) for feature in features.values() if feature["type"] == kind), 0)
        for features, kind in ((inputs, "STATE"), (outputs, "ACTION"))
    ]
    return images, dims[0], dims[1]


def _norm_stats(folder: Path) -> Path | None:
    """Return the only statistics of a checkpoint, None where it has none."""
    found = sorted(folder.glob("assets/**/norm_stats.json"))
    if not found:
        return None
    if len(found) > 1:
        listed = ", ".join(str(path.relative_to(folder)) for path in found)
        raise CheckpointError(
            f"{folder} has {len(found)} files norm_stats.json below assets ({listed}); "
            "name the one of your robot with --norm-stats"
        )
    return found[0]


def _number(description: Mapping[str, Any], keys: tuple[str, ...], given: int | None, flag: str | None = None) -> int:
    """Return what was asked for, or what the configuration says."""
    for value in (given, *(description.get(key) for key in keys)):
        if value is not None:
            return int(value)
    raise OptionError(f"the checkpoint's {CONFIG_FILE} has none of {', '.join(keys)}" + (f"; give {flag}" if flag else ""))

"""The critic beside a policy: its inputs from recorded frames and from live requests, and its values for supervisors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from opentau.checkpoint import storage_errors
from opentau.data.frames import FrameTable
from opentau.errors import CheckpointError, OptionError, near_matches
from opentau.policies.policy import VLAPolicy
from opentau.types import Indicator, Observation, PolicyRequest, content_hash
from opentau.value.critic import Column, Critic, CriticConfig, block_inputs
from opentau.value.features import InputSizes
from opentau.value.observed import Pixels, PlayedActions, PromptTokens, has_cameras, request_columns
from opentau.value.options import CriticOptions

# Shapes: F frames, B requests, P features of a frozen policy, S state dimensions.

IMAGES_PREFIX = "images."
CHUNK = 128

Reader = Callable[[], Column]
"""Makes one input, only if it is wanted."""


class Company(Protocol):
    """The processes that read the same frames, seen from one of them (`opentau.training.distribution.World`)."""

    @property
    def rank(self) -> int: ...

    def owner(self, number: int, /) -> int:
        """Return the rank that reads the piece of this number."""
        ...

    def spread(self, tensors: Iterable[Tensor], /, *, source: int) -> None:
        """Overwrite tensors everywhere with those of one process."""
        ...


class _Alone:
    """A company of one."""

    rank = 0

    def owner(self, number: int, /) -> int:
        return 0

    def spread(self, tensors: Iterable[Tensor], /, *, source: int) -> None: ...


ALONE = _Alone()


def critic_inputs(
    table: FrameTable,
    *,
    policy: VLAPolicy,
    config: CriticConfig,
    cache_dir: Path | None = None,
    company: Company = ALONE,
) -> dict[str, Column]:
    """Return what a critic reads of every frame, each [F, ...]; pixels and words only as they are asked for.

    A frozen policy's features are computed once per dataset and kept in `cache_dir`; each process of a `company` computes a
    part of them.
    """
    readers: dict[str, Reader] = {
        "prefix": lambda: prefix_features(table, policy=policy, cache_dir=cache_dir, company=company),
        "state": lambda: policy.processor.codec.encode_state(table.state),
        "prompt": lambda: config.prompt_index([record.prompt for record in table.episodes])[table.episode],
        "pixels": lambda: Pixels(images=table.images, cameras=policy.model.config.cameras, num_frames=len(table)),
        "has_camera": lambda: has_cameras(table, policy.model.config.cameras),
        "tokens": lambda: PromptTokens(table=table, processor=policy.processor),
        "chunk": lambda: PlayedActions(table=table, codec=policy.processor.codec, num_actions=config.sizes.num_actions),
    }
    every = np.arange(len(table))
    readers |= {IMAGES_PREFIX + camera: partial(column.__getitem__, every) for camera, column in table.images.items()}
    return _read(config.inputs, readers)


def input_sizes(policy: VLAPolicy, options: CriticOptions, *, state_dim: int, num_prompts: int) -> InputSizes:
    """Return what the feature block of a critic must know of a policy's inputs."""
    config = policy.model.config
    sizes = InputSizes(prefix_dim=config.feature_dim, state_dim=state_dim, num_prompts=num_prompts)
    if "pixels" not in block_inputs(options):
        return sizes
    seen = {"num_cameras": len(config.cameras), "image_size": config.vision.image_size}
    return replace(sizes, **seen, num_words=policy.processor.text_tokenizer.vocab_size)


class ServedCritic:
    """Scores live requests (protocol `Critic`); a value does not depend on what else is asked at the same time."""

    def __init__(self, critic: Critic, *, policy: VLAPolicy) -> None:
        wanted = critic.config.policy_version
        if wanted and wanted != policy.policy_version:
            raise CheckpointError(
                f"the critic reads the features of policy {wanted[:12]}, it was given policy {policy.policy_version[:12]}; "
                "load the policy that it was fitted with"
            )
        self.critic = critic
        self.policy = policy

    def values(self, requests: Sequence[PolicyRequest]) -> np.ndarray:
        """Return float32 [B] in [-1, 0]."""
        if not requests:
            return np.zeros(0, np.float32)
        inputs = self._inputs(requests)
        return np.concatenate([self.critic.values(inputs, rows=np.array([row])) for row in range(len(requests))])

    def _inputs(self, requests: Sequence[PolicyRequest]) -> dict[str, Column]:
        observations = [request.observation for request in requests]
        readers: dict[str, Reader] = {
            "prefix": lambda: self.policy.features(requests),
            "state": lambda: self.policy.processor.codec.encode_state(np.stack([seen.state for seen in observations])),
            "prompt": lambda: self.critic.config.prompt_index([seen.prompt for seen in observations]),
        }
        if "pixels" in self.critic.config.inputs:
            read = self.policy.processor.request_inputs(requests, indicator=Indicator.ABSENT)
            readers |= {name: partial(_given, column) for name, column in request_columns(read).items()}
        for camera in observations[0].images:
            readers[IMAGES_PREFIX + camera] = partial(_stacked_images, observations, camera)
        return _read(self.critic.config.inputs, readers)


def _read(names: Sequence[str], readers: Mapping[str, Reader]) -> dict[str, Column]:
    for name in names:
        if name not in readers:
            raise OptionError(f"value.critic.features wants the input {name!r}.{near_matches(name, readers)}")
    return {name: readers[name]() for name in names}


def _given(column: np.ndarray) -> np.ndarray:
    return column


def _stacked_images(observations: Sequence[Observation], camera: str) -> np.ndarray:
    return np.stack([observation.images[camera] for observation in observations])


def prefix_features(table: FrameTable, *, policy: VLAPolicy, cache_dir: Path | None, company: Company = ALONE) -> np.ndarray:
    """Return the frozen policy's features of every frame, float32 [F, P], in the same batches whatever the cache holds."""
    features = np.empty((len(table), policy.model.config.feature_dim), dtype=np.float32)
    for name, members in _feature_files(table, policy):
        rows = np.flatnonzero(table.rows_of_episodes(members))
        path = cache_dir / name if cache_dir is not None else None
        is_kept = torch.tensor(path is not None and path.is_file())
        company.spread([is_kept], source=0)  # all must take the same way, also while one of them writes the file
        if is_kept:
            found = torch.from_numpy(np.load(path, allow_pickle=False) if path and company.rank == 0 else features[rows])
            company.spread([found], source=0)
            features[rows] = found.numpy()
            continue
        pieces = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
        for number, piece in enumerate(pieces):
            if company.owner(number) == company.rank:
                features[piece] = _features_of(table, piece, policy)
        for number, piece in enumerate(pieces):
            found = torch.from_numpy(features[piece])
            company.spread([found], source=company.owner(number))
            features[piece] = found.numpy()
        if path is not None and company.rank == 0:
            _keep(features[rows], path)
    return features


def are_features_kept(table: FrameTable, *, policy: VLAPolicy, cache_dir: Path) -> bool:
    """Return whether `prefix_features` finds all of them, so that the table needs no images."""
    return all((cache_dir / name).is_file() for name, _ in _feature_files(table, policy))


def _feature_files(table: FrameTable, policy: VLAPolicy) -> list[tuple[str, list[int]]]:
    """Return the file of each dataset's features and the positions of its episodes."""
    members: dict[str, list[int]] = {}
    for position, record in enumerate(table.episodes):
        members.setdefault(record.dataset_id, []).append(position)
    named = []
    for dataset_id, positions in members.items():
        key = content_hash([policy.policy_version, dataset_id, [table.episodes[position].episode_id for position in positions]])
        named.append((f"features-{key[:16]}.npy", positions))
    return named


def _features_of(table: FrameTable, rows: np.ndarray, policy: VLAPolicy) -> np.ndarray:
    return policy.batch_features(
        images={camera: pixels[rows] for camera, pixels in table.images.items()},
        prompts=[table.episodes[episode].prompt for episode in table.episode[rows]],
        state=table.state[rows],
    )


def _keep(features: np.ndarray, path: Path) -> None:
    unfinished = path.with_name(path.name + ".partial")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            np.save(file, features, allow_pickle=False)
        os.replace(unfinished, path)

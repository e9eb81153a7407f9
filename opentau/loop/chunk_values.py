"""A critic of observation and chunk: fitted beside the value function, and found again when chunks are chosen by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from opentau.checkpoint import MANIFEST, read_manifest
from opentau.errors import CheckpointError
from opentau.loop.options import LoopOptions
from opentau.policies.policy import VLAPolicy
from opentau.training.critic import CriticFit
from opentau.types import derive_seed
from opentau.value.choosing import ChoiceByValue
from opentau.value.critic import CriticConfig, load_critic, save_critic
from opentau.value.observed import Exchanged, PlayedActions
from opentau.value.served import critic_inputs, input_sizes

# Shapes: F frames.

CHUNKS_FOLDER = "chunks"
"""Within the output of a value stage."""
FEATURES = {"target": "opentau.value.features:ChunkFeatures", "args": {}}


def fit_chunk_values(
    fit: CriticFit, *, policy: VLAPolicy, num_actions: int, cache_dir: Path, directory: Path
) -> dict[str, float]:
    """Fit a critic of observation and chunk on the episodes of `fit`, write it below `directory`, and return what it knows.

    Frames take part that `num_actions` actions of one who acts follow. What it knows is measured on episodes that it has not
    seen: the error of expected returns given the actions that were played, and given those of another frame of the task. All
    processes make the same call; the first one writes.
    """
    table, takeover = fit.frames.table, fit.options.takeover
    options = replace(fit.options.critic, features=FEATURES)
    sizes = input_sizes(policy, options, state_dim=fit.config.sizes.state_dim, num_prompts=len(fit.config.prompts))
    sizes = replace(sizes, num_actions=num_actions, action_dim=table.action.shape[1])
    config = CriticConfig(options=options, sizes=sizes, prompts=fit.config.prompts, policy_version=policy.policy_version)
    inputs = critic_inputs(table, policy=policy, config=config, cache_dir=cache_dir, company=fit.world)
    played = inputs["chunk"]
    assert isinstance(played, PlayedActions)
    seed = derive_seed(fit.seed, CHUNKS_FOLDER)
    # Of the frames that a bootstrap would take its value from, not all have a whole chunk.
    by_returns = replace(fit.options, fit=replace(fit.options.fit, bootstrap_steps=None))
    fit = replace(
        fit,
        options=by_returns,
        inputs=inputs,
        config=config,
        seed=seed,
        start=None,
        pretrained=None,
        questions=None,
        events=None,
        eligible=played.is_whole,
        work_dir=fit.work_dir / CHUNKS_FOLDER,
    )
    critic, rows = fit.without_first_fold()
    returns = fit.frames.returns(takeover=takeover)[rows]
    others = {**inputs, "chunk": Exchanged(column=played, order=_exchanged(table.task, rows, seed=seed))}
    errors = {
        name: float(np.sqrt(np.mean((critic.values(columns, rows=rows) - returns) ** 2)))
        for name, columns in (("value/chunk_error", inputs), ("value/chunk_error_of_others", others))
    }
    critic = fit.on_all()
    if fit.world.is_first:
        save_critic(critic, directory / CHUNKS_FOLDER)
    return errors


def _exchanged(task: np.ndarray, rows: np.ndarray, *, seed: int) -> np.ndarray:
    """Return for every frame one whose chunk it gets: among `rows` another of its task, drawn from the seed; int64 [F]."""
    order, rng = np.arange(len(task)), np.random.default_rng(derive_seed(seed, "exchanged"))
    for number in np.unique(task[rows]):
        members = rows[task[rows] == number]
        order[members] = rng.permutation(members)
    return order


def choice_by_value(stage: Path, *, served: VLAPolicy, options: LoopOptions) -> ChoiceByValue:
    """Return the choice that the critic of a value stage makes for a served policy.

    The policy whose features it reads is looked for beside the stage; one that is not there raises `CheckpointError`.
    """
    folder = stage / CHUNKS_FOLDER
    if not folder.is_dir():
        raise CheckpointError(
            f"{stage} holds no critic of observation and chunk; name a value stage of a run with +value.scores_chunks=true"
        )
    critic = load_critic(folder).to(served.device)
    wanted = critic.config.policy_version
    if wanted == served.policy_version:
        return ChoiceByValue(critic, eyes=served, served=served)
    for manifest in sorted(stage.resolve().parent.glob(f"*/{MANIFEST}")):
        if read_manifest(manifest.parent)["id"] == wanted:
            device = str(served.device)
            eyes = VLAPolicy.load(manifest.parent, batch_size=options.rollout.batch_size, device=device)
            return ChoiceByValue(critic, eyes=eyes, served=served)
    raise CheckpointError(
        f"the critic in {stage} reads the features of policy {wanted[:12]}, which is not beside it; keep the stages of its run "
        "together"
    )

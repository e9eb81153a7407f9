"""Measures what a model card says: scores, also where the environment is perturbed, and the time of a chunk."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opentau.checkpoint import MANIFEST, read_manifest
from opentau.loop.card import CardFacts
from opentau.loop.judging import evaluate
from opentau.loop.run import Product
from opentau.loop.setting import Setting
from opentau.types import Observation, PolicyRequest

NUM_TIMED = 20
UNTIMED = 3


def card_facts(
    setting: Setting, *, name: str, policy: Product, num_episodes: int, is_official: bool, under: Sequence[str], command: str
) -> CardFacts:
    """Score a checkpoint on the setting's tasks, and on them `under` each perturbation of the setting's guards."""
    score = evaluate(setting, 0, policy=policy, num_episodes=num_episodes, is_official=is_official)
    perturbed = {
        kind: evaluate(
            setting.perturbed(kind),
            0,
            policy=policy,
            num_episodes=num_episodes,
            is_official=is_official,
            stage=f"evaluate-{kind}-0",
        )
        for kind in under
    }
    loaded = setting.load_policy(policy.path)
    learned_from, training = history(policy.path)
    manifest = read_manifest(policy.path)
    return CardFacts(
        name=name,
        policy_id=policy.id,
        environment=setting.options.env_name,
        prompts={task.task_id: task.prompt for task in setting.tasks},
        num_parameters=manifest.get("content", {}).get("summary", {}).get("parameters"),
        size_mb=sum(path.stat().st_size for path in policy.path.iterdir() if path.is_file()) / 1e6,
        cameras=list(loaded.interface.cameras),
        action_horizon=loaded.action_horizon,
        num_flow_steps=setting.options.inference.num_flow_steps,
        infer_ms=_infer_ms(setting, loaded),
        learned_from=learned_from,
        training=training,
        is_official=is_official,
        score=score.summary,
        under={kind: product.summary for kind, product in perturbed.items()},
        command=command,
    )


def history(checkpoint: Path) -> tuple[list[tuple[str, Mapping[str, Any]]], list[tuple[str, Mapping[str, Any]]]]:
    """Return the recorded stages and the trainings behind a checkpoint, as far as they lie beside it in its run."""
    beside = {}
    for path in sorted(checkpoint.resolve().parent.glob(f"*/{MANIFEST}")):
        manifest = json.loads(path.read_text(encoding="utf-8"))
        beside[manifest["id"]] = manifest.get("content", {})
    recorded: dict[str, Mapping[str, Any]] = {}
    trainings: list[tuple[str, Mapping[str, Any]]] = []
    content: Mapping[str, Any] | None = read_manifest(checkpoint).get("content", {})
    while content:
        inputs = content.get("inputs", {})
        trainings.insert(0, (content.get("stage", "training"), content.get("summary", {})))
        for episodes in (*inputs.get("episodes", ()), *filter(None, [inputs.get("demonstrations")])):
            if episodes in beside:
                recorded.setdefault(beside[episodes]["stage"], beside[episodes].get("summary", {}))
        content = beside.get(inputs.get("start", ""))
    return sorted(recorded.items(), key=lambda item: (not item[0].startswith("demo"), item[0])), trainings


def _infer_ms(setting: Setting, policy: Any) -> float:
    rng = np.random.default_rng(0)
    interface, times = setting.interface, []
    for number in range(UNTIMED + NUM_TIMED):
        seen = Observation(
            images={name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in interface.cameras.items()},
            state=rng.normal(size=interface.state_dim).astype(np.float32),
            prompt=setting.tasks[0].prompt,
            time_s=0.0,
        )
        began = time.perf_counter()
        policy.infer([PolicyRequest(observation=seen, episode_seed=number, tick=0)])
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times[UNTIMED:])

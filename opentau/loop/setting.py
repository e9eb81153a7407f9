"""What every stage of a run shares: the run, its options, the described tasks, and open rollout sessions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from opentau import events
from opentau.checkpoint import read_manifest
from opentau.control import LIVE_FOLDER
from opentau.data.images import ImageFit
from opentau.loop.mixing import mixture_data
from opentau.loop.options import LoopOptions
from opentau.loop.run import Product, Run
from opentau.loop.serving import load_policy, served_policy
from opentau.loop.starting import policy_start
from opentau.models.allocation import keep_freed_memory
from opentau.policies.config import PolicyConfig
from opentau.policies.options import identifying
from opentau.policies.policy import VLAPolicy
from opentau.policies.pretrained import Pretrained, start_config
from opentau.protocols import Critic
from opentau.rollout.options import RolloutOptions
from opentau.rollout.session import RolloutSession
from opentau.training.mixing import MixtureData
from opentau.types import Interface, content_hash
from robot_bridge.describe import DescriptionRequest, EnvDescription, describe

RENDERING = "envs.rendering:describe_backend"
SERVING_THREADS = 1
"""Beside busy simulators a second torch thread makes inference several times slower; training sets its own number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One run's surroundings."""

    run: Run
    options: LoopOptions
    tasks: tuple[EnvDescription, ...]
    """In the order of `options.task_id`."""
    guards: Mapping[str, tuple[EnvDescription, ...]] = field(default_factory=dict)
    """The same tasks under each perturbation of `gate.guards`."""
    outcomes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """What people said of recorded episodes, {stage directory: {episode id: outcome}}; recordings stay as they are."""

    @property
    def task_ids(self) -> list[str]:
        return [task.task_id for task in self.tasks]

    @property
    def max_steps(self) -> dict[str, int]:
        """Return the step limit of every task."""
        return {task.task_id: task.max_steps for task in self.tasks}

    @property
    def interface(self) -> Interface:
        return Interface.from_dict(self.tasks[0].interface)

    @property
    def env_id(self) -> str:
        """Identity of the environments: what they are, not what is asked of them."""
        return content_hash([task.env_id for task in self.tasks])

    @property
    def env_inputs(self) -> dict[str, Any]:
        """What a stage that plays episodes depends on."""
        return {"env": self.env_id, "tasks": self.task_ids, "seed": self.options.seed}

    @property
    def play_inputs(self) -> dict[str, Any]:
        """What an episode of a policy depends on beside the checkpoint."""
        options = self.options
        inference = identifying(asdict(options.inference))
        if options.inference.critic is not None:
            inference["critic"] = read_manifest(Path(options.inference.critic).expanduser())["id"]
        return {
            "execute_horizon": options.rollout.execute_horizon,
            "delay_ticks": options.rollout.delay_ticks,
            "batch_size": options.rollout.batch_size,
            **inference,
            **({} if options.rollout.chunking is None else {"chunking": asdict(options.rollout.chunking)}),
        }

    def episode_inputs(self, episodes: Sequence[Product]) -> dict[str, Any]:
        """Return what a stage that learns from recorded stages depends on: the episodes, and what people said of them."""
        said = {product.path.name: self.outcomes.get(product.path.name) for product in episodes}
        judged = {stage: dict(outcomes) for stage, outcomes in said.items() if outcomes}
        return {"episodes": [product.id for product in episodes], **({"outcomes": judged} if judged else {})}

    def with_options(self, changes: Mapping[str, Any]) -> Setting:
        """Return this with options that people changed; what they change stays so from one iteration to the next."""
        return replace(self, options=self.options.with_changes(changes)) if changes else self

    def with_outcomes(self, iteration: int) -> Setting:
        """Return this with what people said of episodes by now, which is what this iteration learns from."""
        return replace(self, outcomes=self.run.begin_learning(iteration))

    def perturbed(self, name: str) -> Setting:
        """Return this with the environments of a guard."""
        return replace(self, options=_perturbed(self.options, name), tasks=self.guards[name])

    def policy_start(self) -> PolicyConfig | Pretrained:
        """Return where iteration 0 starts, at the sizes of this interface."""
        return policy_start(self.options, main=self.interface)

    @property
    def image_size(self) -> int:
        """Rows and columns of the images as the policy sees them."""
        return start_config(self.policy_start()).vision.image_size

    @property
    def image_fit(self) -> ImageFit:
        """How images are brought to that size."""
        return start_config(self.policy_start()).image_fit

    def mixture(self) -> MixtureData | None:
        """Return what trainings are mixed with, or None for nothing; reads all of it."""
        return mixture_data(self.options.mixture, main=self.interface, image_size=self.image_size, image_fit=self.image_fit)

    def load_policy(self, checkpoint: Path) -> VLAPolicy:
        """Load a checkpoint of ours with the options of `inference`."""
        return load_policy(checkpoint, self.options)

    def rollout_options(self, stage: str = "") -> RolloutOptions:
        """Return how the stations of a stage are set up."""
        options = self.options
        address = options.rollout.address_in(stage)
        listening: dict[str, Any] = {}
        if address is not None:
            listening = {"host": address[0], "control_port": address[1], "inference_port": address[1] + 1}
            listening["keys"] = options.rollout.keys
        return RolloutOptions(
            **listening,
            num_stations=options.rollout.num_stations,
            fleet=options.fleet,
            env=options.env.spec,
            interpreter=options.env.interpreter,
            tasks={task.task_id: {"task_id": number} for task, number in zip(self.tasks, options.task_id, strict=True)},
            expert=options.env.expert,
            supervisor=options.collect.supervisor,
            perturbation=options.env.perturbation,
            execute_horizon=options.rollout.execute_horizon,
            delay_ticks=options.rollout.delay_ticks,
            chunking=options.rollout.chunking,
            batch_size=options.rollout.batch_size,
        )

    @contextmanager
    def session(
        self,
        stage: str,
        iteration: int,
        *,
        policies: Mapping[str, Path],
        critic: Critic | None = None,
        indicator: str | None = None,
        rollout: RolloutOptions | None = None,
    ) -> Iterator[RolloutSession]:
        """Yield a session that serves these checkpoints, by policy id, to stations that play what they are given.

        `indicator` stands above the one of `inference`, `rollout` in place of `rollout_options`.
        """
        with ExitStack() as stack:
            served = {
                policy_id: stack.enter_context(
                    served_policy(
                        checkpoint,
                        self.options,
                        interface=self.interface,
                        log=self.run.events,
                        log_dir=self.run.directory / "policies",
                        indicator=indicator,
                    )
                )
                for policy_id, checkpoint in policies.items()
            }
            session = RolloutSession(
                rollout or self.rollout_options(stage),
                policies=served,
                critic=critic,
                events=self.run.events,
                stage=stage,
                iteration=iteration,
                log_dir=self.run.directory / "stations",
                live_dir=self.run.directory / LIVE_FOLDER,
                on_poll=self.run.obey_commands,
            )
            stack.enter_context(session)
            stack.callback(setattr, self.run.steering, "stations", None)
            self.run.steering.stations = session.desk
            yield session


def describe_tasks(options: LoopOptions, *, on_line: Callable[[str], None]) -> tuple[EnvDescription, ...]:
    """Return the constants of every task of the run; builds scenes that are not cached yet."""
    tasks = [{"task_id": number} for number in options.task_id]
    env = options.env
    request = DescriptionRequest(
        env=env.spec,
        tasks=tasks,
        plugins=[(dict(spec), extra) for spec, extra in env.checked] if env.interpreter else [],
        rendering=RENDERING,
    )
    return tuple(describe(request, interpreter=env.interpreter, on_line=on_line))


def open_setting(run: Run, options: LoopOptions) -> Setting:
    """Describe the tasks, fix the number of threads, on which the last bits of every result depend, and keep freed memory.

    Only the leader of a crew makes environments; it tells the others what they are.
    """
    torch.set_num_threads(SERVING_THREADS)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it a GPU's products may differ from run to run
    torch.use_deterministic_algorithms(True, warn_only=True)
    keep_freed_memory()
    run.steering.last_iteration, run.steering.check_options = options.iterations, options.with_changes
    if not run.crew.leads:
        described = msgspec.convert(run.crew.hear(), dict[str, tuple[EnvDescription, ...]])
        return Setting(run=run, options=options, tasks=described.pop(""), guards=described)
    tasks = describe_tasks(options, on_line=lambda line: _relay(run, line))
    guards = {
        name: describe_tasks(_perturbed(options, name), on_line=lambda line: _relay(run, line)) for name in options.gate.guards
    }
    run.crew.tell(msgspec.to_builtins({"": tasks, **guards}))
    return Setting(run=run, options=options, tasks=tasks, guards=guards)


def _perturbed(options: LoopOptions, name: str) -> LoopOptions:
    return replace(options, env=options.env.perturbed(name))


def _relay(run: Run, line: str) -> None:
    """Make an event of a line of the describing process; scenes that are built there say how far they are."""
    percent = re.search(r"(\d+) %", line)
    progress = {"percent": int(percent.group(1))} if percent else {}
    run.events.emit(events.NOTE, level="info", text=line, **progress)

"""Stages that record episodes: demonstrations by the expert, autonomous episodes with interventions."""

from __future__ import annotations

from pathlib import Path

from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.hub import find_dataset
from opentau.data.lerobot.writer import DatasetWriter
from opentau.errors import DataError, StationError
from opentau.loop.plans import INCUMBENT, collection_plans, demonstration_plans
from opentau.loop.run import Product, StageWork
from opentau.loop.setting import Setting
from opentau.rollout.recorder import record
from opentau.rollout.session import RolloutSession
from opentau.types import EpisodePlan, Outcome, require_same_interface
from opentau.value.critic import load_critic
from opentau.value.served import ServedCritic

MAX_ATTEMPTS = 3


def demonstrate(setting: Setting) -> Product:
    """Record scripted demonstrations, or take the given datasets; failed attempts are kept but not counted."""
    options = setting.options
    inputs = {
        **setting.env_inputs,
        "demonstrations": options.data.demonstrations,
        "max_tries": options.data.max_tries,
        "expert": options.env.expert,
        "perturbation": options.env.perturbation,
        "datasets": [Dataset(find_dataset(reference)).dataset_id for reference in options.data.datasets],
    }
    return setting.run.stage("demonstrations-0", iteration=0, inputs=inputs, work=lambda work: _demonstrate(setting, work))


def _demonstrate(setting: Setting, work: StageWork) -> None:
    options = setting.options
    for reference in options.data.datasets:
        recorded = Dataset(find_dataset(reference)).interface
        require_same_interface(policy=setting.interface, station=recorded, station_id=f"dataset {reference}")
    wanted = options.data.demonstrations * len(setting.tasks)
    successes = planned = 0
    if wanted:
        writer = dataset_writer(setting, work.output)
        with setting.session("demonstrations-0", 0, policies={}) as session:
            # Attempts are added in numbers that depend on outcomes alone, so that every machine makes the same ones.
            while successes < wanted:
                if planned >= options.data.max_tries * wanted:
                    raise DataError(
                        f"the expert succeeded in {successes} of {planned} attempts, {wanted} demonstrations are wanted. "
                        "Try another task, a cleaner expert (env.expert.args), or a larger data.max_tries."
                    )
                plans = demonstration_plans(tasks=setting.task_ids, first=planned, count=wanted - successes, seed=options.seed)
                _record(setting, session, plans, writer)
                planned += len(plans)
                successes = sum(writer.info(index).outcome is Outcome.SUCCESS for index in range(planned))
        writer.finish()
    work.summary.update(demonstrations=successes, attempts=planned, given=len(options.data.datasets))


def collect(setting: Setting, iteration: int, *, policy: Product, critic: Product | None, critic_eyes: Product) -> Product:
    """Record the autonomous episodes of an iteration; in some the expert may take over and hand back.

    `critic_eyes` is the policy whose frozen features the critic reads, if there is one.
    """
    options, stage = setting.options, f"collect-{iteration}"
    inputs = {
        **setting.env_inputs,
        "policy": policy.id,
        "critic": critic.id if critic else None,
        "collect": {
            "episodes": options.collect.episodes,
            "supervised_share": options.collect.supervised_share,
            "supervisor": options.collect.supervisor,
        },
        "expert": options.env.expert,
        **setting.play_inputs,
    }
    return setting.run.stage(
        stage,
        iteration=iteration,
        inputs=inputs,
        work=lambda work: _collect(setting, iteration, policy, critic, critic_eyes, work),
    )


def _collect(
    setting: Setting, iteration: int, policy: Product, critic: Product | None, critic_eyes: Product, work: StageWork
) -> None:
    options, stage = setting.options, f"collect-{iteration}"
    plans = collection_plans(
        tasks=setting.task_ids,
        iteration=iteration,
        episodes=options.collect.episodes,
        supervised_share=options.collect.supervised_share if options.collect.supervisor else 0.0,
        seed=options.seed,
    )
    writer = dataset_writer(setting, work.output)
    scorer = ServedCritic(load_critic(critic.path), policy=setting.load_policy(critic_eyes.path)) if critic else None
    with setting.session(stage, iteration, policies={INCUMBENT: policy.path}, critic=scorer) as session:
        _record(setting, session, plans, writer)
    writer.finish()
    infos = Dataset(work.output).episodes
    autonomous = [info for info in infos if info.num_intervention_steps == 0]
    work.summary.update(
        episodes=len(infos),
        autonomous=len(autonomous),
        autonomous_successes=sum(info.outcome is Outcome.SUCCESS for info in autonomous),
        intervened=len(infos) - len(autonomous),
        intervention_steps=sum(info.num_intervention_steps for info in infos),
        steps=sum(info.length for info in infos),
    )


def _record(setting: Setting, session: RolloutSession, plans: list[EpisodePlan], writer: DatasetWriter) -> None:
    """Record what the dataset lacks; an episode that ended in an error is tried again before the stage gives up."""
    for _ in range(MAX_ATTEMPTS):
        record(session, plans, writer, on_result=lambda result: setting.run.obey_commands())
        if writer.recorded() >= {plan.index for plan in plans}:
            return
    missing = len({plan.index for plan in plans} - writer.recorded())
    raise StationError(f"{missing} episodes ended in an error {MAX_ATTEMPTS} times; the run's events say why")


def dataset_writer(setting: Setting, root: Path) -> DatasetWriter:
    """Return a writer of episodes of the run's environment."""
    interface = setting.interface
    return DatasetWriter(root, interface=interface, fps=round(interface.control_hz), robot_type="panda", env_id=setting.env_id)

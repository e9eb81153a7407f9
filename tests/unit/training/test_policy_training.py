"""Training a policy on episodes: it learns, resumes to the bit, keeps its files, and shows whether it heeds its indicator."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opentau import events
from opentau.checkpoint import building
from opentau.data.frames import FrameTable, episodes_held_out
from opentau.errors import OptionError
from opentau.events import EventLog, EventReader
from opentau.policies.config import nano
from opentau.policies.policy import VLAPolicy
from opentau.policies.vla import VLA
from opentau.policies.weights import load_model
from opentau.training.options import AdapterOptions, DistributionOptions, ObjectiveOptions, TrainOptions, TuningOptions
from opentau.training.policy import PolicyData, PolicyTraining, train_policy, whole_chunks
from opentau.training.trainer import TrainSummary
from opentau.types import Episode, Indicator, Observation, Outcome, PolicyRequest, Source
from tests.fakes import CountingEnv, CountingExpert, counting_interface

IMAGE_SIZE = 16
CONFIG = nano(
    cameras=("agentview", "wrist"), state_dim=4, action_dim=2, image_size=IMAGE_SIZE, action_horizon=4, width=32, depth=1
)
OPTIONS = TrainOptions(
    num_updates=8,
    batch_size=8,
    learning_rate=3e-3,
    num_warmup_updates=2,
    snapshot_interval=3,
    log_interval=3,
    evaluation_interval=4,
    learning_rate_multipliers={"*indicator*": 10.0},
)
TRAINING = PolicyTraining(options=OPTIONS, held_out_share=0.2)


def attempt(number: int, *, source: Source = Source.DEMONSTRATION, backwards: bool = False) -> Episode:
    """An episode of the point that moves to its target, or away from it."""
    env = CountingEnv(image_size=IMAGE_SIZE, max_steps=20)
    observation, _ = env.reset(seed=number)
    expert = CountingExpert(env)
    expert.start(seed=number, is_clean=True)
    observations, actions, is_success = [], [], False
    while not is_success and len(actions) < env.max_steps:
        observations.append(observation)
        actions.append(-expert.act() if backwards else expert.act())
        _, is_success, _, _ = env.advance(actions[-1])
        observation = env.observe()
    length, action = len(actions), np.stack(actions)
    return Episode(
        images={camera: np.stack([seen["images"][camera] for seen in observations]) for camera in observation["images"]},
        state=np.stack([seen["state"] for seen in observations]),
        action=action,
        policy_action=action,
        executed_action=action,
        source=np.full(length, source, np.int8),
        reward=np.zeros(length, np.float32),
        value=np.full(length, np.nan, np.float32),
        sim_state=np.zeros((length, 0)),
        prompt=env.prompt,
        task_id=env.task_id,
        outcome=Outcome.SUCCESS if is_success else Outcome.TIMEOUT,
        seed=number,
        episode_id=f"{source.name.lower()}/{number:06d}",
        env_id=env.env_id,
        policy_version="",
    )


@pytest.fixture(scope="module")
def data() -> PolicyData:
    table = FrameTable.from_episodes([attempt(number) for number in range(40)], dataset_id="demonstrations")
    return PolicyData(
        table=table, interface=counting_interface(IMAGE_SIZE), indicator=np.full(len(table), Indicator.POSITIVE, np.int8)
    )


def run(
    data: PolicyData,
    directory: Path,
    *,
    training: PolicyTraining = TRAINING,
    start=CONFIG,
    stop_at: int = -1,
    log=None,
    **others,
):
    calls = 0

    def between_updates() -> None:
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise KeyboardInterrupt

    return train_policy(
        data,
        start=start,
        training=training,
        seed=7,
        directory=directory,
        work_dir=directory.with_name(directory.name + "-work"),
        events=log,
        stage="sft-0",
        between_updates=between_updates,
        **others,
    )


@pytest.mark.parametrize(
    "training",
    [
        TRAINING,
        replace(TRAINING, options=replace(OPTIONS, precision="bfloat16")),
        replace(TRAINING, objective=ObjectiveOptions(fast_weight=1.0, is_insulated=True)),
    ],
    ids=["float32", "bfloat16", "insulated"],
)
def test_an_interrupted_training_ends_in_the_same_files(data, tmp_path: Path, training: PolicyTraining) -> None:
    straight = run(data, tmp_path / "straight", training=training)
    for stop_at in (2, 5):
        with pytest.raises(KeyboardInterrupt):
            run(data, tmp_path / "stopped", training=training, stop_at=stop_at)
    assert run(data, tmp_path / "stopped", training=training) == straight
    names = sorted(path.name for path in (tmp_path / "straight").iterdir())
    assert "model.safetensors" in names
    for name in names:
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name


def test_a_policy_learns_in_seconds_to_act_as_its_demonstrations(data, tmp_path: Path) -> None:
    options = replace(
        OPTIONS, num_updates=120, batch_size=32, learning_rate=6e-3, evaluation_interval=120, snapshot_interval=120
    )
    directory = tmp_path / "policy"
    with building(directory, {}) as partial:
        summary = train_policy(
            data,
            start=CONFIG,
            training=replace(TRAINING, options=options),
            seed=7,
            directory=partial,
            work_dir=tmp_path / "work",
        )
    assert summary.metrics["train/held_out_loss"] < 0.3
    wanted, given = _first_actions(VLAPolicy.load(directory, batch_size=40), seeds=range(100, 140))
    assert np.corrcoef(wanted.ravel(), given.ravel())[0, 1] > 0.85


def _first_actions(policy: VLAPolicy, *, seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """The expert's and the policy's first action on placements that nobody trained on, float32 [N, A] each."""
    requests, wanted = [], []
    for seed in seeds:
        env = CountingEnv(image_size=IMAGE_SIZE)
        seen, _ = env.reset(seed=seed)
        expert = CountingExpert(env)
        expert.start(seed=seed, is_clean=True)
        wanted.append(expert.act())
        observation = Observation(images=seen["images"], state=seen["state"], prompt=env.prompt, time_s=0.0)
        requests.append(PolicyRequest(observation=observation, episode_seed=seed, tick=0))
    return np.stack(wanted), np.stack([chunk.actions[0] for chunk in policy.infer(requests)])


def test_an_update_starts_from_a_checkpoint_and_keeps_its_codec_and_tokenizers(data, tmp_path: Path) -> None:
    with EventLog(tmp_path / "events", "test") as log:
        run(data, tmp_path / "first", training=replace(TRAINING, objective=ObjectiveOptions(fast_weight=1.0)), log=log)
    told = [event["text"] for event in EventReader(tmp_path / "events").read_new() if event["kind"] == events.NOTE]
    assert len(told) == 1
    assert re.match(r"action tokens: .* read back they differ by 0\.0\d+ on average and 0\.\d+ at most", told[0])
    other = FrameTable.from_episodes([attempt(number, backwards=True) for number in range(30, 40)], dataset_id="other")
    still = replace(OPTIONS, num_updates=1, learning_rate=1e-9)
    run(
        replace(data, table=other, indicator=None),
        tmp_path / "second",
        start=tmp_path / "first",
        training=replace(TRAINING, options=still),
    )
    (first, _), (second, _) = load_model(tmp_path / "first"), load_model(tmp_path / "second")
    for name, weight in first.state_dict().items():
        assert torch.allclose(weight, second.state_dict()[name], atol=1e-6), name
    for name in ("embodiments.json", "tokenizer.json", "fast_tokenizer.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_policy_that_heeds_its_indicator_has_a_gap_and_one_that_cannot_has_none(data, tmp_path: Path) -> None:
    towards = [attempt(number) for number in range(12)]
    away = [attempt(number, source=Source.AUTONOMOUS, backwards=True) for number in range(12)]
    table = FrameTable.from_episodes(towards + away, dataset_id="both")
    indicator = np.where(table.source == Source.DEMONSTRATION, Indicator.POSITIVE, Indicator.NEGATIVE).astype(np.int8)
    options = replace(OPTIONS, num_updates=60, batch_size=24, learning_rate=6e-3, evaluation_interval=60, snapshot_interval=60)
    informed = replace(TRAINING, options=options)
    gap = run(replace(data, table=table, indicator=indicator), tmp_path / "informed", training=informed).metrics[
        "train/cond_gap"
    ]
    shuffled = np.random.default_rng(0).permutation(indicator)
    random_gap = run(replace(data, table=table, indicator=shuffled), tmp_path / "random", training=informed).metrics[
        "train/cond_gap"
    ]
    assert gap > 0.1
    assert random_gap < 0.5 * gap


def test_held_out_episodes_are_whole_and_a_share_of_every_kind() -> None:
    episodes = [attempt(number) for number in range(10)]
    episodes += [attempt(number, source=Source.AUTONOMOUS) for number in range(20)]
    table = FrameTable.from_episodes(episodes, dataset_id="both")
    is_held_out = episodes_held_out(table, share=0.2)
    shares = [is_held_out[record.start : record.start + record.length].mean() for record in table.episodes]
    assert set(shares) == {0.0, 1.0}
    assert (sum(shares[:10]), sum(shares[10:])) == (2, 4)
    assert not episodes_held_out(table, share=0.0).any()


def test_an_update_holds_out_the_demonstrations_that_its_start_held_out() -> None:
    demonstrations = [attempt(number) for number in range(10)]
    collected = [attempt(number, source=Source.AUTONOMOUS) for number in range(20)]
    before = FrameTable.from_episodes(demonstrations, dataset_id="demonstrations")
    after = FrameTable.from_episodes(collected + demonstrations, dataset_id="all")
    is_demonstration = after.source == Source.DEMONSTRATION
    assert np.array_equal(episodes_held_out(before, share=0.2), episodes_held_out(after, share=0.2)[is_demonstration])


def test_frames_that_are_not_eligible_reach_neither_weights_nor_measures(data, tmp_path: Path) -> None:
    is_first_half = np.arange(len(data.table)) < len(data.table) // 2
    first = run(replace(data, eligible=is_first_half), tmp_path / "first")
    images = {camera: np.where(is_first_half[:, None, None, None], p, 255 - p) for camera, p in data.table.images.items()}
    table = replace(data.table, images=images)
    assert run(replace(data, table=table, eligible=is_first_half), tmp_path / "second") == first
    assert (tmp_path / "first" / "model.safetensors").read_bytes() == (tmp_path / "second" / "model.safetensors").read_bytes()


def test_held_out_episodes_do_not_reach_the_weights(data, tmp_path: Path) -> None:
    run(data, tmp_path / "first")
    is_held_out = episodes_held_out(data.table, share=TRAINING.held_out_share)
    assert is_held_out.any()
    images = {
        camera: np.where(is_held_out[:, None, None, None], 255 - pixels, pixels) for camera, pixels in data.table.images.items()
    }
    run(replace(data, table=replace(data.table, images=images)), tmp_path / "second")
    assert (tmp_path / "first" / "model.safetensors").read_bytes() == (tmp_path / "second" / "model.safetensors").read_bytes()


def test_metrics_are_reported_as_they_come(data, tmp_path: Path) -> None:
    with EventLog(tmp_path, "test") as log:
        summary: TrainSummary = run(data, tmp_path / "policy", log=log)
    metrics = [event["metrics"] for event in EventReader(tmp_path).read_new() if event["kind"] == events.TRAIN_METRICS]
    names = set().union(*metrics)
    assert {"train/loss", "train/flow", "train/learning_rate", "train/held_out_loss", "train/cond_gap"} <= names
    assert sum("train/cond_gap" in each for each in metrics) == 2
    # How long batches were waited for is told, but is no part of what a training results in.
    assert set(summary.metrics) == names - {"time/data_wait_ms"}
    assert "time/data_wait_ms" in names


def test_without_indicators_there_is_no_gap_and_without_held_out_episodes_no_held_out_loss(data, tmp_path: Path) -> None:
    summary = run(replace(data, indicator=None), tmp_path / "policy", training=replace(TRAINING, held_out_share=0.0))
    assert not {"train/cond_gap", "train/held_out_loss"} & set(summary.metrics)


def test_chunks_for_the_action_tokenizer_are_whole(data) -> None:
    from opentau.data.codec import Codec

    codec = Codec.from_statistics(data.table.statistics())
    chunks = whole_chunks(data.table, codec, horizon=4, eligible=np.ones(len(data.table), bool), seed=0)
    assert len(chunks) == sum(max(0, record.length - 3) for record in data.table.episodes)
    assert chunks.shape[1:] == (4, 2)


def test_the_indicator_is_found_by_its_pattern() -> None:
    assert any("indicator" in name for name, _ in VLA(CONFIG).named_parameters())


@pytest.mark.parametrize("bad", [{"human_share": 1.5}, {"held_out_share": 0.9}])
def test_shares_that_cannot_work_are_refused(bad: dict) -> None:
    with pytest.raises(OptionError):
        PolicyTraining(options=OPTIONS, **bad)


def test_a_policy_trained_by_adapters_is_a_plain_checkpoint_of_which_all_else_stayed(data, tmp_path):
    run(data, tmp_path / "base")
    start = tmp_path / "base"
    tuning = TuningOptions(
        freeze=("vision.*", "text_embedding.*"),
        adapt=(AdapterOptions(layers="backbone.*", rank=2), AdapterOptions(layers="expert.*", rank=2)),
        frozen_precision="bfloat16",
    )
    training = replace(TRAINING, tuning=tuning, options=replace(OPTIONS, precision="bfloat16"))
    with building(tmp_path / "tuned", {}) as partial:
        summary = run(data, partial, training=training, start=start)
    before, after = (load_model(folder)[0].state_dict() for folder in (start, tmp_path / "tuned"))
    assert before.keys() == after.keys()
    assert summary.num_parameters < sum(tensor.numel() for tensor in before.values()) / 2
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    is_kept = {name: torch.allclose(tensor, before[name], rtol=2**-8, atol=0) for name, tensor in after.items()}
    assert all(is_kept[name] for name in is_kept if name.startswith(("vision.", "text_embedding.")))
    assert not any(is_kept[name] for name in is_kept if name.startswith("expert.") and name.endswith(".weight"))
    assert VLAPolicy.load(tmp_path / "tuned").model.config == CONFIG


def test_a_policy_whose_layers_are_recomputed_is_the_same_to_the_bit(data, tmp_path):
    run(data, tmp_path / "kept")
    distribution = DistributionOptions(checkpoint_activations=True)
    run(data, tmp_path / "recomputed", distribution=distribution)
    kept, recomputed = (load_model(tmp_path / name)[0].state_dict() for name in ("kept", "recomputed"))
    assert all(torch.equal(tensor, recomputed[name]) for name, tensor in kept.items())

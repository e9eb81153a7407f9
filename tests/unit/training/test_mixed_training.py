"""Training on a mixture: every loss stays on its own samples, several robots share a policy, and a policy learns to answer."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from opentau.checkpoint import building
from opentau.data.fitting import PolicySizes, fitted, joined, padded
from opentau.data.frames import FrameTable
from opentau.data.mixture import Schedule
from opentau.data.vlm.samples import QuestionSet, QuestionSource, VisualSample
from opentau.errors import DataError, OptionError
from opentau.policies.answering import answer
from opentau.policies.config import nano
from opentau.policies.policy import VLAPolicy
from opentau.policies.weights import load_model
from opentau.training.mixing import MixtureData, QuestionPart, RobotPart, other_embodiments, robot_part
from opentau.training.objectives import PolicyObjective
from opentau.training.options import ObjectiveOptions, TrainOptions
from opentau.training.policy import PolicyData, PolicyTraining, train_policy
from opentau.types import Episode, Interface, Observation, Outcome, PolicyRequest, Source
from tests.unit.policies.parts import ACTION_DIM, CAMERAS, HORIZON, SIZE, STATE_DIM, batch, model, nano_like, processor

SIZES = PolicySizes(cameras=CAMERAS, image_size=SIZE, state_dim=STATE_DIM, action_dim=ACTION_DIM, action_horizon=HORIZON)
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 220), "white": (240, 240, 240)}


def coloured(name: str, *, seed: int) -> bytes:
    """A picture of one colour with a little noise."""
    noise = np.random.default_rng(seed).integers(-20, 20, (SIZE, SIZE, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def asked(count: int, *, seed: int = 0) -> list[VisualSample]:
    names = list(COLOURS)
    return [
        VisualSample(
            sample_id=str(seed + number),
            group=str(number),
            kind="colour",
            prompt="which colour is the wall?",
            answer=names[number % len(names)],
            images={"agentview": coloured(names[number % len(names)], seed=seed + number)},
        )
        for number in range(count)
    ]


def questions(count: int = 4) -> object:
    return QuestionSource(asked(count), sizes=SIZES).batch_of(np.arange(count), np.random.default_rng(0))


def objective_of(config, **options) -> PolicyObjective:
    return PolicyObjective(
        model(config), processor=processor(config), options=ObjectiveOptions(**{"indicator_dropout": 0.0, **options})
    )


def test_a_question_trains_what_is_said_and_never_an_action():
    objective = objective_of(nano_like(), fast_weight=1.0)
    loss, parts = objective(fitted(questions(), SIZES, part=0))
    assert set(parts) == {"train/text"}
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in objective.model.expert.parameters())
    assert objective.model.text_embedding.weight.grad.abs().sum() > 0


def test_samples_of_both_kinds_have_the_losses_that_each_has_alone():
    objective = objective_of(nano_like(), num_noise_draws=1)
    acted, spoken = fitted(batch(4), SIZES, part=0), fitted(questions(), SIZES, part=1)
    _, said = objective(spoken)
    torch.manual_seed(0)
    torch.rand(4)  # what deciding about the questions' indicators draws when they are in the batch
    _, alone = objective(acted)
    torch.manual_seed(0)
    loss, both = objective(joined([acted, spoken]))
    assert float(both["train/text"]) == pytest.approx(float(said["train/text"]), rel=1e-4)
    assert float(both["train/flow"]) == pytest.approx(float(alone["train/flow"]), rel=1e-4)
    assert float(loss) == pytest.approx(float(both["train/flow"]) + float(both["train/text"]), rel=1e-5)


def test_a_padded_tail_never_trains_action_tokens():
    objective = objective_of(nano_like(), fast_weight=1.0)
    padded = batch(4, num_padded=4)
    _, parts = objective(padded)
    assert float(parts["train/fast"]) == 0.0
    assert float(objective(batch(4, num_padded=0))[1]["train/fast"]) > 0


def test_dimensions_that_a_robot_lacks_have_no_say():
    objective = objective_of(nano_like())
    narrow = batch(4)
    narrow = dataclasses.replace(narrow, state=narrow.state[:, :2], action=narrow.action[..., :1])
    made = fitted(narrow, SIZES, part=0)
    losses = []
    for junk in (0.0, 7.0):
        action = made.action.copy()
        action[..., 1:] = junk
        torch.manual_seed(3)
        # The target of a masked dimension reaches neither the loss nor, through the noisy action, the model.
        losses.append(objective(dataclasses.replace(made, action=action * made.has_action_dim[:, None]))[0])
    assert float(losses[0]) == float(losses[1])
    losses[0].backward()
    assert not objective.model.expert.action_out.weight.grad[1].any()
    assert objective.model.expert.action_out.weight.grad[0].any()


def test_a_camera_that_is_missing_is_not_attended_to():
    objective = objective_of(nano_like())
    made = fitted(dataclasses.replace(batch(4), images={"wrist": batch(4).images["wrist"]}), SIZES, part=0)
    losses = []
    for junk in (0, 200):
        images = made.images | {"agentview": np.full_like(made.images["agentview"], junk)}
        torch.manual_seed(3)
        losses.append(float(objective(dataclasses.replace(made, images=images))[0]))
    assert losses[0] == losses[1]
    torch.manual_seed(3)
    shown = {camera: np.ones(4, bool) for camera in CAMERAS}
    assert float(objective(dataclasses.replace(made, has_camera=shown))[0]) != losses[0]


CONFIG = nano(
    cameras=CAMERAS, state_dim=3, action_dim=2, image_size=SIZE, action_horizon=4, width=32, depth=1, max_prompt_tokens=40
)
OPTIONS = TrainOptions(
    num_updates=9, batch_size=12, learning_rate=3e-3, num_warmup_updates=2, snapshot_interval=3, log_interval=3,
    evaluation_interval=9, num_threads=1,
)  # fmt: skip
TRAINING = PolicyTraining(options=OPTIONS, held_out_share=0.2)


def interface(state_dim: int, action_dim: int, *, hz: float, cameras: dict[str, tuple[int, int, int]]) -> Interface:
    return Interface(
        cameras=cameras,
        state_names=tuple(f"s{dim}" for dim in range(state_dim)),
        state_units=("1",) * state_dim,
        action_names=tuple(f"a{dim}" for dim in range(action_dim)),
        action_units=("1",) * action_dim,
        action_space="absolute_joint",
        control_hz=hz,
    )


MAIN = interface(3, 2, hz=20.0, cameras={camera: (SIZE, SIZE, 3) for camera in CAMERAS})
ARM = interface(2, 1, hz=10.0, cameras={"front": (24, 40, 3)})


def table_of(described: Interface, *, cameras: tuple[str, ...], scale: float, dataset_id: str, count: int = 8) -> FrameTable:
    """Episodes whose action repeats the state; `scale` gives each robot its own units."""
    episodes = []
    for number in range(count):
        rng = np.random.default_rng([number, len(dataset_id)])
        state = (scale * rng.uniform(-1, 1, (12, described.state_dim))).astype(np.float32)
        action = state[:, : described.action_dim]
        episodes.append(
            Episode(
                images={camera: rng.integers(0, 256, (12, SIZE, SIZE, 3), dtype=np.uint8) for camera in cameras},
                state=state, action=action, policy_action=action, executed_action=action,
                source=np.full(12, Source.DEMONSTRATION, np.int8), reward=np.zeros(12, np.float32),
                value=np.full(12, np.nan, np.float32), sim_state=np.zeros((12, 0)), prompt="copy the state",
                task_id="copy", outcome=Outcome.SUCCESS, seed=number, episode_id=f"{dataset_id}/{number}", env_id="e",
                policy_version="",
            )
        )  # fmt: skip
    return FrameTable.from_episodes(episodes, dataset_id=dataset_id)


@pytest.fixture(scope="module")
def data() -> PolicyData:
    arm = RobotPart(
        name="arm", table=table_of(ARM, cameras=("agentview",), scale=90.0, dataset_id="arm"), weight=Schedule.of(1.0),
        interface=ARM, cameras={"agentview": "front"}, embodiment="so100", hint="so100, 10 hz",
    )  # fmt: skip
    spoken = QuestionSet(root=Path("questions"), train=tuple(asked(40)), validation=tuple(asked(16, seed=1000)))
    mixture = MixtureData(parts=(arm, QuestionPart(name="colours", questions=spoken, weight=Schedule.of(1.0))))
    return PolicyData(table=table_of(MAIN, cameras=CAMERAS, scale=1.0, dataset_id="main"), interface=MAIN, mixture=mixture)


def told_table(count: int = 12) -> FrameTable:
    """Episodes of which every frame says what it is about, and shows it by its colour: first red, then blue."""
    table = table_of(MAIN, cameras=CAMERAS, scale=1.0, dataset_id="told", count=count)
    is_late = table.tick >= 6
    colours = np.where(is_late[:, None], COLOURS["blue"], COLOURS["red"]).astype(np.uint8)
    images = {camera: np.broadcast_to(colours[:, None, None], pixels.shape).copy() for camera, pixels in table.images.items()}
    subtasks = ("grasp the milk", "lift the milk")
    return dataclasses.replace(table, images=images, subtask=is_late.astype(np.int32), subtasks=subtasks)


def test_a_policy_learns_to_say_what_comes_next_and_acts_on_what_it_says(tmp_path):
    data = PolicyData(table=told_table(), interface=MAIN, mixture=MixtureData(subtask_weight=Schedule.of(1.0)))
    options = dataclasses.replace(OPTIONS, num_updates=150, batch_size=24, evaluation_interval=150, snapshot_interval=150)
    run(data, tmp_path / "told", training=dataclasses.replace(TRAINING, options=options))
    policy = VLAPolicy.load(tmp_path / "told")
    asked_for = [
        PolicyRequest(
            observation=Observation(
                images={camera: np.full((SIZE, SIZE, 3), COLOURS[colour], np.uint8) for camera in CAMERAS},
                state=np.zeros(3, np.float32),
                prompt="copy the state",
                time_s=0.0,
            ),
            episode_seed=1,
            tick=0,
        )
        for colour in ("red", "blue")
    ]
    assert [chunk.subtask for chunk in policy.infer(asked_for)] == ["grasp the milk", "lift the milk"]
    chunk = policy.infer(asked_for[:1])[0]
    policy.processor.predicts_subtask = False
    assert not np.array_equal(policy.infer(asked_for[:1])[0].actions, chunk.actions)


def test_a_policy_that_rambles_acts_on_the_task_alone(tmp_path):
    data = PolicyData(table=told_table(), interface=MAIN, mixture=MixtureData(subtask_weight=Schedule.of(1.0)))
    run(data, tmp_path / "told", training=dataclasses.replace(TRAINING, options=dataclasses.replace(OPTIONS, num_updates=1)))
    policy = VLAPolicy.load(tmp_path / "told")
    policy.processor.config = dataclasses.replace(policy.processor.config, max_prompt_tokens=20)
    seen = Observation(
        images={camera: np.zeros((SIZE, SIZE, 3), np.uint8) for camera in CAMERAS},
        state=np.zeros(3, np.float32),
        prompt="copy the state",
        time_s=0.0,
    )
    (chunk,) = policy.infer([PolicyRequest(observation=seen, episode_seed=1, tick=0)])
    assert chunk.subtask == ""


def test_frames_that_say_nothing_cannot_be_asked_what_comes_next(tmp_path):
    silent = table_of(MAIN, cameras=CAMERAS, scale=1.0, dataset_id="main")
    data = PolicyData(table=silent, interface=MAIN, mixture=MixtureData(subtask_weight=Schedule.of(1.0)))
    with pytest.raises(DataError, match=r"no frame says what it is about; .* set mixture\.subtask_weight=0"):
        run(data, tmp_path / "silent")


def run(data: PolicyData, directory: Path, *, training: PolicyTraining = TRAINING, start=CONFIG, **options):
    info: dict = {}
    with building(directory, info) as partial:
        work = directory.with_name("work" + directory.name)
        return train_policy(data, start=start, training=training, seed=0, directory=partial, work_dir=work, **options)


class Stop(Exception):
    pass


def stop_at(update: int):
    done = iter(range(update))

    def obey() -> None:
        if next(done, None) is None:
            raise Stop

    return obey


def test_a_mixed_training_that_is_interrupted_ends_in_the_same_bits(data, tmp_path):
    whole = run(data, tmp_path / "whole")
    with pytest.raises(Stop):
        run(data, tmp_path / "parts", between_updates=stop_at(5))
    resumed = run(data, tmp_path / "parts")
    assert resumed.metrics == whole.metrics
    assert (tmp_path / "parts/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    measured = {
        "train/flow",
        "train/text",
        "train/held_out_loss/arm",
        "train/vqa_accuracy/colours",
        "train/held_out_action_error",
    }
    assert measured <= set(whole.metrics)


def test_a_policy_serves_each_robot_in_its_own_units_and_says_whose_statistics_it_carries(data, tmp_path):
    run(data, tmp_path / "policy")
    served = {name: VLAPolicy.load(tmp_path / "policy", embodiment=name) for name in ("main", "so100")}
    _, made = load_model(tmp_path / "policy")
    assert [each.name for each in made.embodiments] == ["main", "so100"]
    assert len({each.statistics_id for each in made.embodiments}) == 2
    assert served["so100"].interface == ARM
    seen = Observation(
        images={"front": np.zeros((24, 40, 3), np.uint8)}, state=np.array([45.0, -9.0], np.float32), prompt="copy", time_s=0.0
    )
    (chunk,) = served["so100"].infer([PolicyRequest(observation=seen, episode_seed=1, tick=0)])
    assert chunk.actions.shape == (4, 1)
    assert np.abs(chunk.actions).max() > 3  # degrees, not encoded units
    with pytest.raises(OptionError, match="was trained on no embodiment 'franka'"):
        VLAPolicy.load(tmp_path / "policy", embodiment="franka")


def test_an_update_keeps_the_statistics_of_every_robot_and_refuses_an_unknown_one(data, tmp_path):
    run(data, tmp_path / "first")
    again = run(data, tmp_path / "second", start=tmp_path / "first")
    assert (tmp_path / "first/embodiments.json").read_bytes() == (tmp_path / "second/embodiments.json").read_bytes()
    assert again.num_updates == 9
    arm = dataclasses.replace(data.mixture.robots[0], embodiment="so101")
    stranger = dataclasses.replace(data, mixture=MixtureData(parts=(arm,)))
    with pytest.raises(OptionError, match=r"not trained on embodiment 'so101' of part 'arm'.*so100"):
        run(stranger, tmp_path / "third", start=tmp_path / "first")


def test_statistics_are_those_of_what_is_trained_on(data, tmp_path):
    """A failed episode a hundred times as large changes nothing."""
    arm = data.mixture.robots[0]
    wild = dataclasses.replace(arm.table.episodes[3], outcome=Outcome.FAILURE)
    rows = arm.table.rows_of_episodes([3])[:, None]
    table = dataclasses.replace(
        arm.table,
        episodes=(*arm.table.episodes[:3], wild, *arm.table.episodes[4:]),
        action=np.where(rows, 100 * arm.table.action, arm.table.action),
    )
    mixture = MixtureData(parts=(dataclasses.replace(arm, table=table),))
    (other,) = other_embodiments(mixture, held_out_share=0.0, codec="quantile")
    assert max(np.abs(other.codec.action.maximum)) <= 90.0
    with pytest.raises(DataError, match=r"part 'arm' has nothing to learn from: 1 of its 1 episodes failed"):
        alone = dataclasses.replace(
            table, episodes=(dataclasses.replace(wild, start=0),), episode=np.zeros(len(table), np.int32)
        )
        other_embodiments(MixtureData(parts=(dataclasses.replace(arm, table=alone),)), held_out_share=0.0, codec="quantile")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interface": dataclasses.replace(ARM, control_hz=30.0)}, r"their control_hz are 10\.0 and 30\.0"),
        ({"hint": "franka"}, r"differ in hint \('so100, 10 hz', 'franka'\)"),
    ],
)
def test_parts_of_one_embodiment_are_one_robot(change, message, data):
    arm = data.mixture.robots[0]
    other = dataclasses.replace(arm, name="other", **change)
    with pytest.raises(OptionError, match=message):
        other_embodiments(MixtureData(parts=(arm, other)), held_out_share=0.0, codec="quantile")


def test_who_acted_does_not_weigh_in_a_robots_part(data):
    arm = data.mixture.robots[0]
    source = np.where(arm.table.episode == 0, Source.AUTONOMOUS, Source.DEMONSTRATION).astype(np.int8)
    mixed = dataclasses.replace(arm, table=dataclasses.replace(arm.table, source=source))
    (embodiment,) = other_embodiments(MixtureData(parts=(mixed,)), held_out_share=0.0, codec="quantile")
    part = robot_part(
        mixed, embodiment, eligible=np.ones(len(source), bool), augmentation=None, action_limit=3.0, sizes=SIZES, seed=0
    )
    drawn = part.source.draw(800, rng=np.random.default_rng(0), num_before=0)
    assert (arm.table.episode[drawn.frame] == 0).mean() == pytest.approx(1 / 8, abs=0.04)


def test_action_tokens_are_fitted_on_every_robot(data, tmp_path):
    training = dataclasses.replace(TRAINING, objective=ObjectiveOptions(fast_weight=1.0, indicator_dropout=0.0))
    summary = run(data, tmp_path / "spoken", training=training)
    _, made = load_model(tmp_path / "spoken")
    arm = data.mixture.robots[0]
    codec = made.serving("so100").codec
    chunk = padded(codec.encode_action(arm.table.action[:4])[None], 2)
    assert len(made.fast_tokenizer.encode(chunk)[0]) < made.config.max_fast_tokens
    assert summary.metrics["train/held_out_fast_perplexity"] > 1.0


def test_a_policy_learns_to_answer_while_it_learns_to_act(data, tmp_path):
    options = dataclasses.replace(OPTIONS, num_updates=150, batch_size=24, evaluation_interval=150, snapshot_interval=150)
    summary = run(data, tmp_path / "taught", training=dataclasses.replace(TRAINING, options=options))
    assert summary.metrics["train/vqa_accuracy/colours"] == 1.0
    vla, made = load_model(tmp_path / "taught")
    fresh = QuestionSource(asked(8, seed=5000), sizes=dataclasses.replace(SIZES, action_horizon=4))
    shown = fresh.batch_of(np.arange(8), np.random.default_rng(0))
    inputs = PolicyObjective(vla.eval(), processor=made, options=ObjectiveOptions()).inputs(shown)
    assert answer(vla, processor=made, inputs=inputs) == [sample.answer for sample in asked(8, seed=5000)]

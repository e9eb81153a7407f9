"""A critic with eyes of its own: its full size, what it learns of real tabletop frames, and where it may start."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from envs.experts.pick_place import PickPlaceExpert
from envs.tabletop.environment import TabletopEnv
from opentau.cli.compose import compose_config
from opentau.data.codec import Codec
from opentau.data.frames import FrameTable
from opentau.data.vlm.samples import QuestionSource, VisualSample
from opentau.errors import CheckpointError, OptionError
from opentau.loop.options import LoopOptions
from opentau.policies.config import nano
from opentau.policies.embodiment import Embodiment
from opentau.policies.policy import VLAPolicy
from opentau.policies.processor import Processor
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.policies.vla import VLA
from opentau.policies.weights import save_policy
from opentau.training.critic import CriticFit
from opentau.training.critic_loss import CriticLoss, CriticQuestions
from opentau.training.distribution import WHOLE, Piece
from opentau.training.mixing import policy_sizes
from opentau.types import Episode, Interface, Observation, Outcome, PolicyRequest, Source
from opentau.value.checks import measure_critic, require_usable
from opentau.value.critic import Critic, CriticConfig, load_critic, new_critic, save_critic
from opentau.value.features import InputSizes
from opentau.value.options import CriticOptions, FitOptions, ValueOptions
from opentau.value.served import ServedCritic, critic_inputs, input_sizes
from opentau.value.table import ValueTable
from opentau.value.vision_language import take_weights

SIZE, MAX_STEPS, NUM_EPISODES = 32, 60, 24
PROMPT = "put the red cube on the tray"
TOWER = {"kind": "conv", "image_size": SIZE, "channels": [32, 64, 128]}
STACK = {"width": 64, "depth": 2, "num_heads": 2, "num_kv_heads": 2, "head_dim": 32, "mlp_dim": 256, "gelu": "none"}
ARGS = {"vision": TOWER, "backbone": STACK, "vocab_size": 2048, "has_state_token": True, "has_camera_embedding": True}
BLOCK = "opentau.value.vision_language:VisionLanguageFeatures"
FIT = FitOptions(num_folds=2, num_updates=60, batch_size=32, learning_rate=1e-3, num_warmup_updates=5, ema_decay=0.9)


def options_with(**args) -> ValueOptions:
    features = {"target": BLOCK, "args": {**ARGS, **args}}
    return ValueOptions(critic=CriticOptions(num_bins=51, features=features, hidden_dim=64), fit=FIT)


def played(env: TabletopEnv, *, seed: int, is_good: bool) -> Episode:
    """Play an expert, or one whose hand goes where it likes."""
    expert, rng = PickPlaceExpert(env), np.random.default_rng(seed)
    seen, _ = env.reset(seed=seed)
    expert.start(seed=seed, is_clean=True)
    images, states, actions, is_success = [], [], [], False
    while not is_success and len(states) < MAX_STEPS:
        action = expert.act() if is_good else np.clip(rng.normal(size=7), -1, 1).astype(np.float32)
        images.append(seen["images"])
        states.append(seen["state"])
        actions.append(action)
        seen, _, is_success, _, _ = env.step(action)
    length, moved = len(states), np.array(actions, np.float32)
    return Episode(
        images={camera: np.stack([frame[camera] for frame in images]) for camera in images[0]},
        state=np.stack(states),
        action=moved,
        policy_action=moved,
        executed_action=moved,
        source=np.full(length, Source.AUTONOMOUS, np.int8),
        reward=np.zeros(length, np.float32),
        value=np.full(length, np.nan, np.float32),
        sim_state=np.zeros((length, 0)),
        prompt=PROMPT,
        task_id="tabletop/0",
        outcome=Outcome.SUCCESS if is_success else Outcome.TIMEOUT,
        seed=seed,
        episode_id=f"collect-1/{seed:06d}",
        env_id="test",
        policy_version="test",
    )


@dataclass(frozen=True, kw_only=True)
class World:
    """Attempts on the tabletop, and a policy that has learned nothing."""

    frames: ValueTable
    policy: VLAPolicy

    def config(self, options: ValueOptions) -> CriticConfig:
        sizes = input_sizes(self.policy, options.critic, state_dim=8, num_prompts=1)
        return CriticConfig(options=options.critic, sizes=sizes, prompts=(PROMPT,), policy_version=self.policy.policy_version)

    def fit(self, work_dir: Path, options: ValueOptions, **more) -> CriticFit:
        config = self.config(options)
        inputs = critic_inputs(self.frames.table, policy=self.policy, config=config)
        return CriticFit(frames=self.frames, inputs=inputs, config=config, options=options, seed=0, work_dir=work_dir, **more)


@pytest.fixture(scope="module")
def world() -> World:
    env = TabletopEnv(image_size=SIZE, max_steps=MAX_STEPS)
    episodes = [played(env, seed=seed, is_good=seed % 2 == 0) for seed in range(NUM_EPISODES)]
    interface = Interface.from_dict(env.metadata["interface"])
    env.close()
    table = FrameTable.from_episodes(episodes, dataset_id="collected")
    config = nano(cameras=tuple(table.images), state_dim=8, action_dim=7, image_size=SIZE, width=64, depth=2)
    processor = Processor(
        config,
        embodiments=[Embodiment.sole(interface, Codec.from_statistics(table.statistics()))],
        text_tokenizer=TextTokenizer.shipped(),
        fast_tokenizer=None,
    )
    frames = ValueTable(table=table, max_steps={"tabletop/0": MAX_STEPS})
    return World(frames=frames, policy=VLAPolicy(VLA.create(config, seed=0), processor=processor, policy_version="policy"))


@pytest.mark.parametrize(
    ("group", "words", "total"),
    [("vlm", 268_098_176, 681_495_353), ("vlm_pi05", 2_508_531_712, 2_923_914_169)],
)
def test_full_sizes_have_the_parameters_of_the_published_models(group: str, words: int, total: int) -> None:
    options = LoopOptions.from_config(compose_config("loop", [f"value={group}", "value.pretrained=checkpoint"])).value
    sizes = InputSizes(prefix_dim=0, state_dim=8, num_prompts=1, num_cameras=3, image_size=224, num_words=257_152)
    with torch.device("meta"):
        critic = Critic(CriticConfig(options=options.critic, sizes=sizes, prompts=("do it",), policy_version="policy"))
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in critic.features.named_children()}
    assert counts["text_embedding"] + counts["backbone"] == words
    assert sum(p.numel() for p in critic.parameters()) == total
    assert critic.head[-1].out_features == 201


def test_it_learns_to_tell_success_from_failure_by_sight_and_scores_each_frame_once(world: World, tmp_path: Path) -> None:
    options = options_with()
    fit = world.fit(tmp_path, options)
    reads = Counted(fit.inputs["pixels"], np.zeros(len(world.frames.table), int))
    fit = replace(fit, inputs={**fit.inputs, "pixels": reads})
    fresh = new_critic(fit.config, seed=3)
    loss = loss_of(fit, fresh)
    untrained = float(loss(0, WHOLE)[0])
    values = fit.out_of_fold(num_fits=2)
    assert (reads.counts == 1).all(), "one pass of all folds together"
    quality = measure_critic(values, frames=world.frames, takeover="fail")
    require_usable(quality)
    assert quality.num_successes >= 8
    assert quality.num_failures >= 8
    assert quality.auroc is not None
    assert quality.auroc > 0.8
    trained = fit.on_all()
    assert float(loss_of(fit, trained)(0, WHOLE)[0]) < 0.7 * untrained


@dataclass(frozen=True)
class Counted:
    """A column that counts which rows are read outside of training."""

    column: object
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        if not torch.is_grad_enabled():
            np.add.at(self.counts, rows, 1)
        return self.column[rows]


def loss_of(fit: CriticFit, critic: Critic, *, questions: CriticQuestions | None = None) -> CriticLoss:
    return CriticLoss(
        critic.eval(),
        inputs=fit.inputs,
        returns=fit.frames.returns(takeover="fail"),
        rows=np.arange(len(fit.frames.table)),
        batch_size=32,
        seed=1,
        questions=questions,
    )


def test_it_says_the_same_of_a_recorded_frame_and_of_the_request_it_was_and_after_it_was_saved(
    world: World, tmp_path: Path
) -> None:
    table, fit = world.frames.table, world.fit(tmp_path, options_with())
    critic = new_critic(fit.config, seed=1)
    rows = np.array([3, 40, 99])
    recorded = critic.values(fit.inputs, rows=rows)
    requests = [
        PolicyRequest(
            observation=Observation(
                images={camera: column[[row]][0] for camera, column in table.images.items()},
                state=table.state[row],
                prompt=PROMPT,
                time_s=0.0,
            ),
            episode_seed=0,
            tick=0,
        )
        for row in rows
    ]
    assert recorded.std() > 0
    assert ServedCritic(critic, policy=world.policy).values(requests) == pytest.approx(recorded, abs=1e-5)
    save_critic(critic, tmp_path / "critic")
    loaded = load_critic(tmp_path / "critic")
    assert loaded.config == critic.config
    assert np.array_equal(loaded.values(fit.inputs, rows=rows), recorded)


def test_words_and_pixels_both_reach_the_value(world: World, tmp_path: Path) -> None:
    fit = world.fit(tmp_path, options_with(has_state_token=False))
    critic, rows = new_critic(fit.config, seed=1), np.array([0, 5])
    values = critic.values(fit.inputs, rows=rows)
    others = {"pixels": 255 - fit.inputs["pixels"][rows], "tokens": np.roll(fit.inputs["tokens"][rows], 1, axis=1)}
    seen = {name: column[rows] for name, column in fit.inputs.items()}
    for name, other in others.items():
        assert not np.allclose(critic.values({**seen, name: other}), values, atol=1e-4), name
    unseen = np.zeros((2, 2), bool)
    blind = critic.values({**seen, "has_camera": unseen})
    assert np.array_equal(blind, critic.values({**seen, "has_camera": unseen, "pixels": others["pixels"]}))


def test_it_starts_from_a_policys_tower_words_and_backbone(world: World, tmp_path: Path) -> None:
    model = world.policy.model
    save_policy(tmp_path, model=model, processor=world.policy.processor)
    critic = world.fit(tmp_path / "work", options_with(), pretrained=tmp_path)._initial(np.arange(4), seed=0)
    taken = {name: tensor for name, tensor in critic.features.state_dict().items() if not name.startswith("value_token")}
    theirs = model.state_dict()
    assert taken
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in taken.items())
    assert {name.split(".")[0] for name in set(theirs) - set(taken)} == {"expert"}


def test_a_policy_of_other_sizes_is_no_start(world: World, tmp_path: Path) -> None:
    save_policy(tmp_path, model=world.policy.model, processor=world.policy.processor)
    wider = new_critic(world.config(options_with(backbone={**STACK, "mlp_dim": 128})), seed=0)
    with pytest.raises(CheckpointError, match=r"backbone\.layers\.0\.mlp\.down_proj\.weight +\[64, 128\] +\[64, 256\]"):
        take_weights(wider.features, tmp_path)
    frozen = new_critic(replace(world.config(ValueOptions()), options=CriticOptions()), seed=0)
    with pytest.raises(OptionError, match="value=vlm"):
        take_weights(frozen.features, tmp_path)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"vision": {**TOWER, "image_size": 64}}, "image_size is 64, the policy's images have 32"),
        ({"vocab_size": 100}, "vocab_size is 100, the policy knows 1024"),
        ({"vision": {**TOWER, "kind": "cnn"}}, "unknown value.critic.features.args.vision.kind 'cnn'"),
        ({"backbone": {**STACK, "is_adaptive": True}}, "no flow time"),
    ],
)
def test_sizes_that_do_not_fit_the_policy_are_refused(world: World, args: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        new_critic(world.config(options_with(**args)), seed=0)


def questions_of(world: World) -> CriticQuestions:
    def picture(red: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.full((SIZE, SIZE, 3), (red, 0, 255 - red), np.uint8)).save(file, format="PNG")
        return file.getvalue()

    samples = [
        VisualSample(
            sample_id=answer, group="", kind="", prompt="is it red?", answer=answer, images={"agentview": picture(red)}
        )
        for answer, red in (("yes", 255), ("no", 0))
    ]
    processor = world.policy.processor
    source = QuestionSource(samples, sizes=policy_sizes(processor.config))
    return CriticQuestions(source=source, processor=processor, weight=1.0, num_samples=6)


def test_it_learns_to_answer_questions_beside_its_values(world: World, tmp_path: Path) -> None:
    fit = world.fit(tmp_path, options_with(), questions=questions_of(world))
    fit = replace(fit, options=replace(fit.options, fit=replace(FIT, num_updates=25, num_questions=6)))
    before, after = (
        loss_of(fit, critic, questions=fit.questions)(0, WHOLE)[1]["text"]
        for critic in (new_critic(fit.config, seed=0), fit.on_all())
    )
    assert after < 0.5 * before


def test_the_loss_of_pieces_is_the_loss_of_the_whole(world: World, tmp_path: Path) -> None:
    fit = world.fit(tmp_path, options_with())
    loss = loss_of(fit, new_critic(fit.config, seed=0), questions=questions_of(world))
    whole, parts = loss(7, WHOLE)
    pieces = [loss(7, Piece(index=index, count=4)) for index in range(4)]
    assert float(sum(piece for piece, _ in pieces)) == pytest.approx(float(whole), rel=1e-5)
    assert float(sum(part["text"] for _, part in pieces)) == pytest.approx(float(parts["text"]), rel=1e-5)


def test_questions_need_a_critic_that_reads_words(world: World, tmp_path: Path) -> None:
    fit = world.fit(tmp_path, ValueOptions(fit=FIT))
    with pytest.raises(OptionError, match="FrozenPolicyFeatures reads no words"):
        loss_of(fit, new_critic(fit.config, seed=0), questions=questions_of(world))

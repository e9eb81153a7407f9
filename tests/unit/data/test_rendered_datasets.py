"""`opentau data render`: what a recording's simulator states show, at the recorded size and at others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from envs.experts.pick_place import PickPlaceExpert
from envs.tabletop.environment import TabletopEnv
from opentau.cli.main import main
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.writer import DatasetWriter
from opentau.types import Actor, EpisodePlan, Interface
from robot_bridge.playing.playback import PlaybackOptions
from robot_bridge.playing.player import EpisodePlayer
from tests.unit.data import recordings

SIZE, NUM_STEPS = 32, 12
ENV = ["env=tabletop", f"env.args.image_size={SIZE}", f"+env.args.max_steps={NUM_STEPS}"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of two tasks, as a station records them."""
    folder = tmp_path_factory.mktemp("recorded") / "dataset"
    writer = None
    for number in range(2):
        env = TabletopEnv(task_id=number, image_size=SIZE, max_steps=NUM_STEPS)
        interface = Interface.from_dict(env.metadata["interface"])
        writer = writer or DatasetWriter(folder, interface=interface, fps=20, robot_type="tabletop", env_id=env.env_id)
        plan = EpisodePlan(index=number, episode_id=f"e/{number}", task_id=env.task_id, seed=number, actor=Actor.EXPERT)
        options = PlaybackOptions(execute_horizon=8, delay_ticks=0, control_hz=20.0)
        player = EpisodePlayer(env, expert=PickPlaceExpert(env), link=None, options=options, on_tick=lambda: None)
        played = player.play(plan)
        assert played.episode is not None
        writer.add(number, played.episode)
        env.close()
    assert writer is not None
    writer.finish()
    return folder


def render(*arguments: object) -> int:
    return main(["data", "render", *map(str, arguments)])


def test_rendered_again_frames_are_the_recorded_ones_bit_for_bit(root, tmp_path, capsys):
    assert render(root, *ENV, "--out", tmp_path / "again", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["num_episodes"], said["num_frames"], said["video_cameras"]) == (2, 2 * NUM_STEPS, [])
    recorded, again = list(Dataset(root)), list(Dataset(tmp_path / "again"))
    for one, other in zip(recorded, again, strict=True):
        assert one.images.keys() == other.images.keys()
        for name, column in one.columns().items():
            np.testing.assert_array_equal(column, other.columns()[name], err_msg=name)
        assert (one.task_id, one.prompt, one.outcome, one.env_id) == (other.task_id, other.prompt, other.outcome, other.env_id)
    assert len({frame.tobytes() for frame in recorded[0].images["wrist"]}) > NUM_STEPS // 2, "the frames differ in time"


def test_another_size_shows_the_same_moments_larger(root, tmp_path):
    render(root, *ENV, "--size", 64, "--out", tmp_path / "large")
    small, large = Dataset(root).load(1), Dataset(tmp_path / "large").load(1)
    assert large.images["agentview"].shape == (NUM_STEPS, 64, 64, 3)
    np.testing.assert_array_equal(small.sim_state, large.sim_state)
    halved = large.images["agentview"].reshape(NUM_STEPS, SIZE, 2, SIZE, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small.images["agentview"]).mean() < 6.0


def test_looks_differ_by_episode_and_seed_and_are_equal_for_equal_seeds(root, tmp_path):
    seeds = {"one": 1, "same": 1, "other": 2}
    for name, seed in seeds.items():
        render(root, *ENV, "--randomise", "light,texture", "--seed", seed, "--out", tmp_path / name)
    one, same, other = (Dataset(tmp_path / name).load(0).images["agentview"] for name in seeds)
    np.testing.assert_array_equal(one, same)
    assert np.abs(one.astype(int) - other).mean() > 2.0
    assert np.abs(one.astype(int) - Dataset(root).load(0).images["agentview"]).mean() > 2.0


def test_another_environment_and_recordings_without_states_are_refused(root, tmp_path, capsys):
    stateless = recordings.record(tmp_path / "stateless", num_episodes=1)
    for arguments, said in (
        ([root, "env=twin/so101"], "the recording shows tabletop/0, env= is twin_so101/0"),
        ([root, *ENV, "--randomise", "fog"], "--randomise takes some of camera, light, texture, noise, not 'fog'"),
        ([stateless, *ENV], "the recording shows"),
        (ENV, "give the folder of one recording, not 0"),
    ):
        assert render(*arguments, "--out", tmp_path / "x") != 0
        assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()

"""The pick-and-place expert on the tabletop: clean, with a style, and taking over from a mess."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from envs.experts.pick_place import Phase, PickPlaceExpert
from envs.tabletop.environment import TabletopEnv

# Physics only: nothing here looks at pixels.


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv(image_size=8, placement_range=1.0, max_steps=1000)
    yield env
    env.close()


def play(env: TabletopEnv, expert: PickPlaceExpert, *, limit: int = 120) -> tuple[bool, list[str], np.ndarray]:
    """Act until success or the limit: success, the phase at every tick, the actions [T, 7]."""
    phases, actions = [], []
    for _ in range(limit):
        actions.append(expert.act())
        phases.append(str(expert.phase))
        if env.advance(actions[-1])[1]:
            return True, phases, np.array(actions)
    return False, phases, np.array(actions)


def runs(phases: list[str]) -> list[str]:
    return [phase for i, phase in enumerate(phases) if i == 0 or phases[i - 1] != phase]


def test_a_clean_expert_is_fast_and_never_starts_over(env: TabletopEnv) -> None:
    expert = PickPlaceExpert(env)
    for seed in range(12):
        env.reset(seed=seed)
        expert.start(seed=seed, is_clean=True)
        is_success, phases, actions = play(env, expert)
        assert is_success
        assert len(phases) <= 50
        assert runs(phases)[:6] == ["reach", "descend", "grasp", "lift", "carry", "lower"]
        assert np.abs(actions).max() <= 1.0
        assert actions.dtype == np.float32


def test_a_clean_expert_does_not_depend_on_its_seed_and_a_styled_one_does(env: TabletopEnv) -> None:
    expert = PickPlaceExpert(env)

    def first_actions(seed: int, is_clean: bool) -> np.ndarray:
        env.reset(seed=0)
        expert.start(seed=seed, is_clean=is_clean)
        return play(env, expert, limit=25)[2]

    assert np.array_equal(first_actions(1, True), first_actions(2, True))
    assert np.array_equal(first_actions(1, False), first_actions(1, False))
    assert not np.array_equal(first_actions(1, False), first_actions(2, False))


def test_the_pace_caps_the_translation(env: TabletopEnv) -> None:
    expert = PickPlaceExpert(env, pace=(0.4, 0.4), pause_probability=0.0, sloppy_grasp_probability=0.0)
    env.reset(seed=1)
    expert.start(seed=0, is_clean=False)
    is_success, phases, actions = play(env, expert)
    assert is_success
    assert np.abs(actions[:, :3]).max() == pytest.approx(0.4)
    env.reset(seed=1)
    expert.start(seed=0, is_clean=True)
    assert len(play(env, expert)[1]) < 0.7 * len(phases)


def test_pauses_hold_the_hand_still(env: TabletopEnv) -> None:
    expert = PickPlaceExpert(env, pace=(1.0, 1.0), pause_probability=1.0, sloppy_grasp_probability=0.0)
    env.reset(seed=1)
    expert.start(seed=3, is_clean=False)
    is_success, _, actions = play(env, expert)
    assert is_success
    still = (np.abs(actions[:, :6]).max(axis=1) < 1e-6).sum()
    assert still >= 15


def test_a_sloppy_first_grasp_misses_and_the_second_one_does_not(env: TabletopEnv) -> None:
    expert = PickPlaceExpert(env, pace=(1.0, 1.0), pause_probability=0.0, sloppy_grasp_probability=1.0)
    num_grasps = []
    for seed in range(12):
        env.reset(seed=seed)
        expert.start(seed=seed, is_clean=False)
        is_success, phases, _ = play(env, expert)
        assert is_success
        num_grasps.append(runs(phases).count(Phase.GRASP))
    assert np.mean(np.array(num_grasps) == 2) >= 0.8


def test_it_takes_over_from_random_motion(env: TabletopEnv) -> None:
    expert = PickPlaceExpert(env)
    for seed in range(12):
        env.reset(seed=seed)
        rng, action = np.random.default_rng(seed), np.zeros(7)
        for tick in range(40):
            action = 0.8 * action + rng.normal(0.0, 0.5, 7)
            action[2] -= 0.05
            action[6] = 1 if (tick // 15) % 2 else -1
            env.advance(np.clip(action, -1, 1))
        expert.start(seed=seed, is_clean=True)
        assert play(env, expert)[0]


def test_it_carries_on_with_a_cube_that_is_already_in_the_hand(env: TabletopEnv) -> None:
    env.reset(seed=2)
    first = PickPlaceExpert(env)
    first.start(seed=0, is_clean=True)
    while first.phase != Phase.CARRY:
        env.advance(first.act())
    expert = PickPlaceExpert(env)
    expert.start(seed=0, is_clean=True)
    is_success, phases, actions = play(env, expert)
    assert is_success
    assert phases[0] == "lift"
    assert actions[0, 6] == 1.0


def test_it_lets_go_of_the_wrong_cube_and_finds_room_beside_it_on_the_tray(env: TabletopEnv) -> None:
    wanted = env.goal
    for seed in range(5):
        env.reset(seed=seed)
        env.goal = (("on", "blue_cube", "tray"),)
        mistaken = PickPlaceExpert(env)
        mistaken.start(seed=0, is_clean=True)
        env.goal = wanted
        while mistaken.phase != Phase.RELEASE:
            env.advance(mistaken.act())
        expert = PickPlaceExpert(env)
        expert.start(seed=0, is_clean=True)
        is_success, phases, actions = play(env, expert)
        assert is_success
        assert phases[0] in ("settle", "retreat")
        assert actions[0, 6] == -1.0


def test_it_picks_up_again_what_slips_out_of_the_hand(env: TabletopEnv) -> None:
    env.reset(seed=4)
    expert = PickPlaceExpert(env)
    expert.start(seed=0, is_clean=True)
    while expert.phase != Phase.CARRY:
        env.advance(expert.act())
    for _ in range(4):
        env.advance(np.array([0, 0, 0, 0, 0, 0, -1]))
    is_success, phases, _ = play(env, expert)
    assert is_success
    assert runs(phases).count(Phase.GRASP) == 1


def test_it_says_what_it_moves_and_where_to(env: TabletopEnv) -> None:
    env.reset(seed=0)
    expert = PickPlaceExpert(env)
    expert.start(seed=0, is_clean=True)
    assert (expert.subject, expert.relation, expert.destination) == ("red_cube", "on", "tray")


def test_a_goal_it_does_not_understand_is_an_error(env: TabletopEnv) -> None:
    wanted, env.goal = env.goal, (("open", "drawer"),)  # type: ignore[assignment]
    with pytest.raises(ValueError, match="'in' or 'on'"):
        PickPlaceExpert(env).start(seed=0, is_clean=True)
    env.goal = wanted


def test_a_pace_outside_its_range_is_refused(env: TabletopEnv) -> None:
    with pytest.raises(ValueError, match="pace"):
        PickPlaceExpert(env, pace=(0.0, 1.0))

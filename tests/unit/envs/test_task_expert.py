"""Whole tasks: rims are grasped across, drawers and knobs are moved, a goal is brought about step by step."""

from __future__ import annotations

from types import SimpleNamespace

import mujoco
import numpy as np
import pytest

from envs.experts.dragging import DraggingExpert, is_dragged
from envs.experts.fixtures import FixtureExpert, is_door
from envs.experts.grasps import MAX_OPENING_M, finger_axes, hand_axes, narrowest_m
from envs.experts.hand import CLOSE, OPEN, Hand
from envs.experts.handling import Phase
from envs.experts.parts import plan_part_grasp
from envs.experts.shapes import Shape
from envs.experts.tasks import TaskExpert
from envs.libero.environment import LiberoEnv

BASE = np.array([-0.6, 0.0, 0.0])
RADIUS_M, NUM_WALLS = 0.055, 16


def bowl_and(others: str = "") -> tuple[mujoco.MjModel, mujoco.MjData]:
    """Return a ring of thin walls, 11 cm wide and 5 cm high, at the origin, and what is beside it."""
    walls = ""
    for number in range(NUM_WALLS):
        angle = 2 * np.pi * number / NUM_WALLS
        x, y = RADIUS_M * np.cos(angle), RADIUS_M * np.sin(angle)
        walls += f'<geom type="box" size="0.002 0.012 0.025" pos="{x} {y} 0.025" euler="0 0 {angle}"/>'
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><compiler angle="radian"/><worldbody>'
        f'<body name="bowl"><freejoint/>{walls}</body>{others}</worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def test_a_bowl_too_wide_for_the_hand_is_taken_across_its_rim():
    model, data = bowl_and()
    bowl = Shape(model, data, model.body("bowl").id)
    assert narrowest_m(bowl.points(data)) > MAX_OPENING_M
    grasp = plan_part_grasp(bowl, [], data, base=BASE)
    assert grasp is not None
    outwards = grasp.position[:2] / np.linalg.norm(grasp.position[:2])
    assert np.linalg.norm(grasp.position[:2]) == pytest.approx(RADIUS_M, abs=0.012)
    assert abs(finger_axes(grasp.yaw)[0] @ outwards) > np.cos(np.deg2rad(20))
    assert grasp.position[0] < 0.0, "on the robot's side"


def test_a_rim_with_something_behind_it_is_taken_elsewhere():
    beside = '<body name="wall" pos="-0.095 0 0.1"><geom type="box" size="0.02 0.2 0.1"/></body>'
    model, data = bowl_and(beside)
    bowl, wall = (Shape(model, data, model.body(name).id) for name in ("bowl", "wall"))
    free = plan_part_grasp(bowl, [], data, base=BASE)
    grasp = plan_part_grasp(bowl, [wall], data, base=BASE)
    assert free is not None
    assert grasp is not None
    assert grasp.position[0] > free.position[0] + 0.02


def test_a_hand_leans_to_the_rim_of_a_bowl_that_a_board_half_covers():
    board = '<body name="board" pos="0.19 0 0.18"><geom type="box" size="0.2 0.3 0.03"/></body>'
    model, data = bowl_and(board)
    bowl, over = (Shape(model, data, model.body(name).id) for name in ("bowl", "board"))
    free = plan_part_grasp(bowl, [], data, base=BASE)
    grasp = plan_part_grasp(bowl, [over], data, base=BASE)
    assert free is not None
    assert grasp is not None
    assert free.lean == 0.0
    outwards = grasp.position[:2] / np.linalg.norm(grasp.position[:2])
    closing, _, to_palm = hand_axes(grasp.yaw, grasp.lean)
    assert abs(closing[:2] @ outwards) > np.cos(np.deg2rad(20)), "across the rim"
    assert to_palm[0] < -0.1, "away from the board"
    wrist = grasp.before(0.18)
    assert wrist[0] < -0.01 - 0.03
    assert grasp.level_with(wrist) == pytest.approx(wrist)


def test_a_hand_that_leans_closes_as_planned():
    env = plate_env()
    data = env.data
    for yaw, lean in ((0.0, 0.35), (0.8, -0.6), (-1.2, 0.0)):
        hand = Hand(env.model, data, site="grip", finger_joints=("left", "right"))
        closing, _, to_palm = hand_axes(yaw, lean)
        turned = hand.facing(-to_palm, closing)
        mujoco.mju_mat2Quat(env.model.body("hand").quat, turned.ravel())
        mujoco.mj_forward(env.model, data)
        assert hand.angle_rad(yaw, lean=lean) == pytest.approx(0.0, abs=1e-6)
        assert hand.angle_rad(yaw, lean=lean + 0.2) == pytest.approx(0.2, abs=1e-6)


def test_a_shape_with_a_drawer_follows_the_drawer():
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body name="cabinet"><geom type="box" size="0.1 0.1 0.1"/><body name="drawer" pos="0 0 0.3">'
        '<joint name="slide" type="slide" axis="0 1 0"/><geom type="box" size="0.1 0.1 0.05"/>'
        "</body></body></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    shape = Shape(model, data, model.body("cabinet").id)
    assert shape.box(data).high[1] == pytest.approx(0.1)
    data.joint("slide").qpos = 0.2
    mujoco.mj_forward(model, data)
    assert shape.box(data).high[1] == pytest.approx(0.3)
    assert shape.box(data).low[1] == pytest.approx(-0.1)


def test_what_must_be_opened_comes_first_and_what_closes_last():
    goal = (("close", "drawer"), ("in", "bowl", "drawer"), ("turnon", "stove"))
    env = SimpleNamespace(goal=goal, joint_conditions={"drawer": {"open": None, "close": None}, "stove": {"turnon": None}})
    expert = TaskExpert(env)
    assert expert._steps == [("turnon", "stove"), ("open", "drawer"), ("in", "bowl", "drawer"), ("close", "drawer")]
    held: set = set()
    env.holds = held.__contains__
    done = []
    for _ in expert._steps:
        step = expert._wanted(default=("none",))
        done.append(step)
        held.add(step)
        if step == ("in", "bowl", "drawer"):
            held.discard(("open", "drawer"))  # a drawer that only had to be opened for the bowl may be shut again
    assert done == expert._steps
    assert expert._wanted(default=("none",)) == ("none",)


def test_goals_without_a_skill_are_named():
    with pytest.raises(ValueError, match="no skill brings about up cup"):
        TaskExpert(SimpleNamespace(goal=(("up", "cup"),), joint_conditions={}))
    with pytest.raises(ValueError, match="stove cannot be brought to 'open'; it knows turnon"):
        FixtureExpert(SimpleNamespace(joint_conditions={"stove": {"turnon": None}}), goal=("open", "stove"))


def door_env(angle: float) -> SimpleNamespace:
    """Return an environment with a box on whose front a door hangs by an upright hinge, opened by so much."""
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><compiler angle="radian"/><worldbody><body name="box"><geom type="box" size="0.1 0.1 0.1"/>'
        '<body name="door" pos="-0.1 -0.12 0"><joint name="hinge" type="hinge" axis="0 0 1" range="-2 0"/>'
        '<geom type="box" size="0.1 0.01 0.1" pos="0.1 0 0"/></body><body name="knob" pos="0 0 0.12"><joint name="turn" '
        'type="hinge" axis="0 0 1"/><geom type="box" size="0.02 0.02 0.02"/></body></body></worldbody></mujoco>'
    )
    data = mujoco.MjData(model)
    data.joint("hinge").qpos = angle
    mujoco.mj_forward(model, data)
    return SimpleNamespace(model=model, data=data)


def test_a_door_is_what_hangs_by_its_side_and_a_knob_is_none():
    for angle in (0.0, -1.5):
        assert is_door(door_env(angle), "hinge")
        assert not is_door(door_env(angle), "turn")


def test_a_door_is_pushed_shut_and_what_no_skill_does_is_refused():
    env = door_env(-1.5)
    condition = SimpleNamespace(joints=("hinge",), comparison=">", bound=-0.005)
    env.joint_conditions = {"box": {"close": condition, "open": condition}}
    env.goal, env.holds = (("in", "cup", "box_inside"), ("close", "box")), lambda predicate: False
    with pytest.raises(ValueError, match="a skill to push one shut, none to open it"):
        FixtureExpert(env, goal=("open", "box"))
    with pytest.raises(ValueError, match="no skill puts cup into box_inside: it opens to the front"):
        TaskExpert(env).start(seed=0, is_clean=True)
    assert FixtureExpert(env, goal=("close", "box"))._is_door


def plate_env(*, half_size: str = "0.07 0.07 0.01", at: str = "0.1 0 0.01") -> SimpleNamespace:
    """Return a table with a marked region at the origin, something that lies on it, a stand, and a hand above."""
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body name="table"><geom type="box" size="1 1 0.1" pos="0 0 -0.1"/>'
        '<site name="region" type="box" size="0.04 0.04 0.001"/></body>'
        '<body name="stand" pos="0 0.5 0.05"><geom type="box" size="0.1 0.1 0.05"/><site name="top" pos="0 0 0.05"/></body>'
        f'<body name="plate" pos="{at}"><freejoint name="plate"/><geom type="box" size="{half_size}"/></body>'
        '<body name="hand" pos="0.1 0 0.5" euler="180 0 0"><site name="grip"/>'
        '<body name="left"><joint name="left" type="slide" axis="0 1 0"/><geom type="box" size="0.01 0.01 0.03"/></body>'
        '<body name="right"><joint name="right" type="slide" axis="0 -1 0"/><geom type="box" size="0.01 0.01 0.03"/></body>'
        "</body></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    bodies = {"plate": "plate", "stand": "stand"}
    return SimpleNamespace(
        model=model, data=data, object_bodies=bodies, gripper_site="grip", finger_joints=("left", "right"), joint_conditions={}
    )


def test_only_what_is_flat_and_wide_and_goes_onto_the_table_is_dragged():
    goal = ("on", "plate", "region")
    assert is_dragged(plate_env(), goal)
    assert not is_dragged(plate_env(half_size="0.07 0.03 0.01"), goal), "it fits between the fingers"
    assert not is_dragged(plate_env(half_size="0.07 0.07 0.03", at="0.1 0 0.03"), goal), "it is lifted by its rim"
    assert not is_dragged(plate_env(), ("on", "plate", "stand"))
    assert not is_dragged(plate_env(), ("on", "plate", "top")), "a part of an object"


def test_fingers_are_let_down_closed_into_a_plate_and_open_along_the_way():
    env = plate_env()
    expert = DraggingExpert(env, goal=("on", "plate", "region"))
    expert.start(seed=0, is_clean=True)
    grippers = {}
    for phase in Phase:
        expert._enter(phase)
        grippers[phase] = CLOSE if expert._is_closed() else OPEN
    assert {phase for phase, gripper in grippers.items() if gripper == OPEN} == {Phase.GRASP, Phase.MOVE}
    closing = expert._hold.rotation @ [0.0, 1.0, 0.0]
    assert abs(closing @ [1.0, 0.0, 0.0]) > 0.99, "the way to the region is along x"
    expert._enter(Phase.MOVE)
    goal, _, is_over = expert._lead()
    assert goal[0] < 0.1, "towards the region"
    assert not is_over
    env.data.joint("plate").qpos[:2] = 0.01, 0.01
    mujoco.mj_forward(env.model, env.data)
    assert expert._lead()[2], "it has arrived"


@pytest.mark.sims
@pytest.mark.parametrize(
    ("suite", "task_id"),
    [
        ("libero_goal", 0),
        ("libero_goal", 5),
        ("libero_goal", 7),
        ("libero_spatial", 0),
        ("libero_spatial", 4),
        ("libero_10", 3),
        ("libero_10", 8),
        ("libero_90", 33),
    ],
    ids=[
        "open a drawer",
        "drag a plate",
        "turn a knob",
        "a bowl by its rim",
        "a bowl out of a drawer",
        "into a drawer and shut it",
        "two pots side by side",
        "a door on hinges",
    ],
)
def test_tasks_of_libero_are_done_from_drawn_placements(suite, task_id):
    env = LiberoEnv(suite=suite, task_id=task_id, image_size=8)
    expert = TaskExpert(env)
    num_done = 0
    for seed in range(3):
        env.reset(seed=seed)
        expert.start(seed=seed, is_clean=True)
        is_success = is_over = False
        while not is_over:
            action = expert.act()
            assert action.dtype == np.float32
            assert np.abs(action).max() <= 1.0
            _, is_success, is_truncated, _ = env.advance(action)
            is_over = is_success or is_truncated
        num_done += is_success
    env.close()
    assert num_done >= 2

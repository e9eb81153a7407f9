"""The physical SO-101: geometry, servos and a cube on a table, without units of robots and without episodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

from envs.rendering import Renderer
from envs.states import read_state, write_state

# Shapes: J = 6 joints in the order of JOINTS, Y and X image rows and columns.

SCENE = Path(__file__).with_name("so101.xml")
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
"""In the order of the servos' ids, 1 to 6. Positive: to the left, forward, down, down, clockwise seen from behind, open."""
CAMERA = "front"

START_RAD = np.array([0.0, -0.4, 0.3, 1.3, 0.0, 0.4])
START_SPREAD_RAD = 0.05
CUBE_LOW_M, CUBE_HIGH_M = np.array([0.13, -0.14]), np.array([0.22, 0.02])
"""Where a cube may lie, [x, y]."""
CUBE_HEIGHT_M = 0.0125
"""Of the centre of a cube that lies on the table."""
ON_DISC_M, LYING_M = 0.03, 0.018
"""The cube is on the disc when its centre is so near to the disc's, and not higher than this above the table."""


class So101Plant:
    """Six servos, each a position loop with limited torque and speed, moved in whole physics steps."""

    def __init__(self, *, placement_range: float = 0.5, keeps_arm: bool = False) -> None:
        """`placement_range`, from 0 (always at home) to 1 (anywhere in its region), is that of the cube.

        With `keeps_arm` a reset leaves the arm where it is, as a person does who sets the scene up.
        """
        if not 0.0 <= placement_range <= 1.0:
            raise ValueError(f"placement_range is {placement_range}; it lies between 0 (fixed) and 1 (anywhere)")
        self.model = mujoco.MjModel.from_xml_path(str(SCENE))
        self.data = mujoco.MjData(self.model)
        self._placement_range, self._keeps_arm = placement_range, keeps_arm
        self._qpos = [self.model.joint(name).qposadr[0] for name in JOINTS]
        self._dofs = [self.model.joint(name).dofadr[0] for name in JOINTS]
        self.ranges_rad = self.model.jnt_range[[self.model.joint(name).id for name in JOINTS]].copy()
        """float64 [J, 2]."""
        self._cube_qpos = self.model.joint("cube").qposadr[0]
        self._jaws = [self.model.geom(name).id for name in ("fixed_jaw", "moving_jaw")]
        self._gains = self.model.actuator_gainprm.copy(), self.model.actuator_biasprm.copy()
        self._renderers: dict[tuple[int, int], Renderer] = {}
        self._time_left_s = 0.0
        self._take_pose(START_RAD)
        self.reset(seed=0)

    def reset(self, seed: int | np.random.Generator) -> None:
        """Put the arm near its start and the cube somewhere; everything is a function of the seed."""
        rng = np.random.default_rng(seed)
        pose = START_RAD + START_SPREAD_RAD * rng.uniform(-1.0, 1.0, len(JOINTS))
        if not self._keeps_arm:
            self._take_pose(pose)
        home = self.model.body("cube").pos[:2]
        place = home + self._placement_range * (rng.uniform(CUBE_LOW_M, CUBE_HIGH_M) - home)
        yaw = self._placement_range * rng.uniform(-np.pi / 4, np.pi / 4)
        address = self._cube_qpos
        self.data.qpos[address : address + 7] = *place, CUBE_HEIGHT_M, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        velocity = self.model.joint("cube").dofadr[0]
        self.data.qvel[velocity : velocity + 6] = 0.0
        mujoco.mj_forward(self.model, self.data)

    def _take_pose(self, pose_J: np.ndarray) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self.set_torque_enabled(np.ones(len(JOINTS), bool))
        self._time_left_s = 0.0
        self.data.qpos[self._qpos] = self.data.ctrl[:] = pose_J

    def positions(self) -> np.ndarray:
        """Return the joint angles, rad, float64 [J]; the gripper's is 0 where the jaws are parallel."""
        return self.data.qpos[self._qpos].copy()

    def velocities(self) -> np.ndarray:
        """Return rad/s, float64 [J]."""
        return self.data.qvel[self._dofs].copy()

    def torques(self) -> np.ndarray:
        """Return the torque of every servo as a share of the most it can give, [-1, 1], float64 [J]."""
        return self.data.actuator_force / self.model.actuator_forcerange[:, 1]

    def droop(self) -> np.ndarray:
        """Return how far the goals must be ahead of the wanted angles for the servos to carry the arm, rad [J]."""
        return self.data.qfrc_bias[self._dofs] / self._gains[0][:, 0]

    def grip(self) -> np.ndarray:
        """Return the point between the jaws' tips, m, float64 [3]."""
        return self.data.site("grip").xpos.copy()

    def cube(self) -> tuple[np.ndarray, float]:
        """Return the cube's centre, m [3], and how it is turned about the vertical, rad."""
        body = self.data.body("cube")
        x_axis = body.xmat.reshape(3, 3)[:, 0]
        return body.xpos.copy(), float(np.arctan2(x_axis[1], x_axis[0]))

    def disc(self) -> np.ndarray:
        """Return the disc's centre, m [3]."""
        return self.data.body("disc").xpos.copy()

    def set_goals(self, goals_J: np.ndarray) -> None:
        """Take goal positions, rad [J]; they are cut to the joints' ranges."""
        self.data.ctrl[:] = np.clip(goals_J, self.ranges_rad[:, 0], self.ranges_rad[:, 1])

    def set_torque_enabled(self, is_enabled_J: Sequence[bool] | np.ndarray) -> None:
        """Switch every servo's power on or off; a servo without power gives way against its friction."""
        is_on = np.asarray(is_enabled_J, bool)[:, None]
        self.model.actuator_gainprm[:], self.model.actuator_biasprm[:] = (np.where(is_on, gain, 0.0) for gain in self._gains)

    def advance(self, dt_s: float) -> None:
        """Let time pass, in whole physics steps; what is left over counts for the next call."""
        self._time_left_s += dt_s
        num_steps = int(self._time_left_s / self.model.opt.timestep + 1e-6)
        self._time_left_s -= num_steps * self.model.opt.timestep
        if num_steps > 0:
            mujoco.mj_step(self.model, self.data, num_steps)
            mujoco.mj_fwdPosition(self.model, self.data)

    def render(self, camera: str, size: tuple[int, int]) -> np.ndarray:
        """Return what a camera sees, uint8 [Y, X, 3], of `size` (X, Y), in a fresh array."""
        if size not in self._renderers:
            (width, height), cameras = size, {CAMERA: CAMERA}
            self._renderers[size] = Renderer(self.model, cameras=cameras, height=height, width=width, shadow_size=0)
        return self._renderers[size].render(self.data)[camera]

    def is_success(self) -> bool:
        """Return whether the cube lies on the disc and no jaw touches it."""
        offset = self.data.body("cube").xpos - self.data.body("disc").xpos
        if np.linalg.norm(offset[:2]) > ON_DISC_M or offset[2] > LYING_M:
            return False
        return self.num_jaws_touching == 0

    @property
    def num_jaws_touching(self) -> int:
        """How many of the two jaws touch the cube."""
        pairs = self.data.contact.geom
        touching = pairs[(pairs == self.model.geom("cube").id).any(axis=1)]
        return int(np.isin(self._jaws, touching).sum())

    def get_state(self) -> np.ndarray:
        """Return the full simulator state, float64 [N]; whether servos have power is no part of it."""
        return read_state(self.model, self.data)

    def set_state(self, state: np.ndarray) -> None:
        """Restore what `get_state` returned."""
        write_state(self.model, self.data, state)
        self._time_left_s = 0.0

    def close(self) -> None:
        """Free the renderers; closing twice is allowed."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

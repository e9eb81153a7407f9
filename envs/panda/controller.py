"""Operational-space control of the arm and speed-limited fingers, as robosuite 1.4's OSC_POSE does it, in numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

# Shapes: J = 7 arm joints; a twist or wrench has 6 numbers, translation first.

STEP_M = 0.05
"""Translation of one action unit, metres."""
STEP_RAD = 0.5
"""Rotation of one action unit, radians."""
STIFFNESS = 150.0
DAMPING = 2 * math.sqrt(STIFFNESS)
"""Critical damping."""
POSTURE_STIFFNESS = 10.0
POSTURE_DAMPING = 2 * math.sqrt(POSTURE_STIFFNESS)
FINGER_SPEED = 0.01
"""Change of the finger command per physics step of 2 ms, as a share of half its range."""
FINGER_DIRECTION = np.array([-1.0, 1.0])
REFERENCE_TIMESTEP_S = 0.002

GRIPPER_SITE = "gripper0_grip_site"
ARM_JOINTS = tuple(f"robot0_joint{number}" for number in range(1, 8))
FINGER_JOINTS = ("gripper0_finger_joint1", "gripper0_finger_joint2")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmView:
    """What the controller knows of the arm."""

    position: np.ndarray
    """Of the gripper site, metres [3]."""
    rotation: np.ndarray
    """[3, 3]."""
    jacobian_6J: np.ndarray
    mass_JJ: np.ndarray
    angle_J: np.ndarray
    velocity_J: np.ndarray


class OperationalSpaceController:
    """Turns actions into torques; holds the goal pose and the finger command, nothing else.

    Torques follow Khatib (1987): decoupled position and orientation, gravity compensation, and a posture task in the null
    space that pulls towards the joints at rest.
    """

    def __init__(self, model: mujoco.MjModel, *, joints_at_rest: np.ndarray) -> None:
        self._model = model
        self._site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, GRIPPER_SITE)
        joints = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in ARM_JOINTS]
        fingers = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in FINGER_JOINTS]
        self._qpos = _as_slice(model.jnt_qposadr[joints])
        self._dofs = _as_slice(model.jnt_dofadr[joints])
        self._arm_actuators = _as_slice(_actuators_of(model, joints))
        self._finger_actuators = _as_slice(_actuators_of(model, fingers))
        low, high = model.actuator_ctrlrange[self._finger_actuators].T
        self._finger_centre, self._finger_half_range = (low + high) / 2, (high - low) / 2
        self._torque_low, self._torque_high = model.actuator_ctrlrange[self._arm_actuators].T
        self._joints_at_rest = np.asarray(joints_at_rest, np.float64)
        self._finger_step = FINGER_SPEED * model.opt.timestep / REFERENCE_TIMESTEP_S * FINGER_DIRECTION
        self._mass_index = _mass_matrix_index(model, self._dofs)
        self._jacobian = np.zeros((6, model.nv))
        self.goal_position = np.zeros(3)
        self.goal_rotation = np.eye(3)
        self.finger_command = np.zeros(2)

    def reset(self, *, goal_rotation: np.ndarray, finger_command: np.ndarray | float = 0.0) -> None:
        """Forget the last episode; `goal_rotation` [3, 3] holds until the first action that turns the hand."""
        self.goal_position[:] = 0.0
        self.goal_rotation[:] = goal_rotation
        self.finger_command[:] = finger_command

    def look(self, data: mujoco.MjData) -> ArmView:
        """Read the arm from data whose positions and velocities are computed; valid until the next physics step."""
        jacobian = self._jacobian
        mujoco.mj_jacSite(self._model, data, jacobian[:3], jacobian[3:], self._site)
        return ArmView(
            position=data.site_xpos[self._site],
            rotation=data.site_xmat[self._site].reshape(3, 3),
            jacobian_6J=jacobian[:, self._dofs],
            mass_JJ=data.qM[self._mass_index],
            angle_J=data.qpos[self._qpos],
            velocity_J=data.qvel[self._dofs],
        )

    def set_goal(self, view: ArmView, action: np.ndarray) -> None:
        """Set the goal pose relative to the hand; a zero rotation keeps the old goal rotation."""
        self.goal_position[:] = view.position + STEP_M * action[:3]
        turn = STEP_RAD * action[3:6]
        if turn.any():
            self.goal_rotation[:] = _rotation(turn) @ view.rotation

    def apply(self, data: mujoco.MjData, view: ArmView, grip: float) -> None:
        """Write arm torques and finger commands for the next physics step; `grip` < 0 opens, > 0 closes, 0 holds."""
        torques = self._torques(view) + data.qfrc_bias[self._dofs]
        data.ctrl[self._arm_actuators] = np.minimum(np.maximum(torques, self._torque_low), self._torque_high)
        command = self.finger_command
        command += self._finger_step * grip
        np.minimum(np.maximum(command, -1.0, out=command), 1.0, out=command)
        data.ctrl[self._finger_actuators] = self._finger_centre + self._finger_half_range * command

    def _torques(self, view: ArmView) -> np.ndarray:
        """Return joint torques [J] without gravity compensation."""
        jacobian_6J, mass_JJ = view.jacobian_6J, view.mass_JJ
        # The posture task as joint accelerations; its torques are projected so that they do not move the hand.
        posture_J = POSTURE_STIFFNESS * (self._joints_at_rest - view.angle_J) - POSTURE_DAMPING * view.velocity_J
        wanted_6 = STIFFNESS * self._pose_error(view) - DAMPING * (jacobian_6J @ view.velocity_J)
        mobility_66 = jacobian_6J @ np.linalg.solve(mass_JJ, jacobian_6J.T)
        wrench_6 = np.linalg.solve(mobility_66, -(jacobian_6J @ posture_J))
        blocks = np.stack((mobility_66[:3, :3], mobility_66[3:, 3:]))
        wrench_6 += np.linalg.solve(blocks, wanted_6.reshape(2, 3, 1)).reshape(6)
        return wrench_6 @ jacobian_6J + mass_JJ @ posture_J

    def _pose_error(self, view: ArmView) -> np.ndarray:
        """Return goal minus pose, [6]; the rotation as half the summed cross products of the axes."""
        error = np.empty(6)
        error[:3] = self.goal_position - view.position
        # For rotations A and B the cross products of their columns sum to the axial vector of B Aᵀ - A Bᵀ.
        turn = self.goal_rotation @ view.rotation.T
        error[3] = 0.5 * (turn[2, 1] - turn[1, 2])
        error[4] = 0.5 * (turn[0, 2] - turn[2, 0])
        error[5] = 0.5 * (turn[1, 0] - turn[0, 1])
        return error


def _as_slice(indices: np.ndarray) -> slice:
    """Return consecutive indices as a slice, which reads arrays without copying."""
    first = int(indices[0])
    if list(indices) != list(range(first, first + len(indices))):
        raise ValueError(f"joints or actuators of the arm are not consecutive in the model: {list(indices)}")
    return slice(first, first + len(indices))


def _actuators_of(model: mujoco.MjModel, joints: list[int]) -> np.ndarray:
    by_joint = {int(joint): actuator for actuator, joint in enumerate(model.actuator_trnid[:, 0])}
    return np.array([by_joint[joint] for joint in joints])


def _mass_matrix_index(model: mujoco.MjModel, dofs: slice) -> np.ndarray:
    """Return where each element of the arm's mass matrix lies in MuJoCo's sparse `qM`, int [J, J]."""
    count = dofs.stop - dofs.start
    index = np.zeros((count, count), int)
    for row in range(dofs.start, dofs.stop):
        address, column = int(model.dof_Madr[row]), row
        while column >= dofs.start:
            index[row - dofs.start, column - dofs.start] = index[column - dofs.start, row - dofs.start] = address
            address, column = address + 1, int(model.dof_parentid[column])
    return index


def _rotation(turn: np.ndarray) -> np.ndarray:
    """Return the rotation matrix of an axis-angle vector."""
    angle = math.sqrt(turn @ turn)
    quaternion, matrix = np.empty(4), np.empty(9)
    mujoco.mju_axisAngle2Quat(quaternion, turn / angle, angle)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)

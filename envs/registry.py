"""Names under which `gymnasium.make` finds the environments of this package."""

from __future__ import annotations

import gymnasium

ENTRY_POINTS = {
    "opentau/Tabletop-v0": "envs.tabletop.environment:TabletopEnv",
    "opentau/LiberoObject-v0": "envs.libero.environment:LiberoEnv",
    "opentau/TwinSo101-v0": "envs.twin.environment:So101Env",
    "opentau/RobosuiteLift-v0": "envs.robosuite.environment:RobosuiteEnv",
    "opentau/RobosuiteStack-v0": "envs.robosuite.environment:RobosuiteEnv",
    "opentau/RobosuitePickPlace-v0": "envs.robosuite.environment:RobosuiteEnv",
    "opentau/RobosuiteNutAssembly-v0": "envs.robosuite.environment:RobosuiteEnv",
    "opentau/RobosuiteDoor-v0": "envs.robosuite.environment:RobosuiteEnv",
}
OPTIONS = {
    "opentau/RobosuiteLift-v0": {"suite": "lift"},
    "opentau/RobosuiteStack-v0": {"suite": "stack"},
    "opentau/RobosuitePickPlace-v0": {"suite": "pick_place"},
    "opentau/RobosuiteNutAssembly-v0": {"suite": "nut_assembly"},
    "opentau/RobosuiteDoor-v0": {"suite": "door"},
}
"""What an environment's name says besides its class."""


def register_environments() -> None:
    """Register every environment with Gymnasium; a second call does nothing.

    Which task and options, an environment is told by keyword: ``gymnasium.make("opentau/Tabletop-v0", task_id=2)``.
    """
    for env_id, entry_point in ENTRY_POINTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point, kwargs=OPTIONS.get(env_id, {}))

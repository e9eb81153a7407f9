"""Names under which `gymnasium.make` finds the environments of this package."""

from __future__ import annotations

import gymnasium

LIBERO, ROBOSUITE = "envs.libero.environment:LiberoEnv", "envs.robosuite.environment:RobosuiteEnv"
ENVIRONMENTS: dict[str, tuple[str, dict[str, str]]] = {
    "opentau/Tabletop-v0": ("envs.tabletop.environment:TabletopEnv", {}),
    "opentau/LiberoSpatial-v0": (LIBERO, {"suite": "libero_spatial"}),
    "opentau/LiberoObject-v0": (LIBERO, {"suite": "libero_object"}),
    "opentau/LiberoGoal-v0": (LIBERO, {"suite": "libero_goal"}),
    "opentau/Libero10-v0": (LIBERO, {"suite": "libero_10"}),
    "opentau/Libero90-v0": (LIBERO, {"suite": "libero_90"}),
    "opentau/RobosuiteLift-v0": (ROBOSUITE, {"suite": "lift"}),
    "opentau/RobosuiteStack-v0": (ROBOSUITE, {"suite": "stack"}),
    "opentau/RobosuitePickPlace-v0": (ROBOSUITE, {"suite": "pick_place"}),
    "opentau/RobosuiteNutAssembly-v0": (ROBOSUITE, {"suite": "nut_assembly"}),
    "opentau/RobosuiteDoor-v0": (ROBOSUITE, {"suite": "door"}),
    "opentau/TwinSo101-v0": ("envs.twin.environment:So101Env", {}),
}
"""Name to the class and the arguments that make it."""


def register_environments() -> None:
    """Register every environment with Gymnasium; a second call does nothing.

    Which task and options, an environment is told by keyword: ``gymnasium.make("opentau/Tabletop-v0", task_id=2)``.
    """
    for env_id, (entry_point, arguments) in ENVIRONMENTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point, kwargs=arguments)

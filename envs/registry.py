"""Names under which `gymnasium.make` finds the environments of this package."""

from __future__ import annotations

import gymnasium

ENTRY_POINTS = {
    "opentau/Tabletop-v0": "envs.tabletop.environment:TabletopEnv",
    "opentau/LiberoObject-v0": "envs.libero.environment:LiberoEnv",
    "opentau/TwinSo101-v0": "envs.twin.environment:So101Env",
}


def register_environments() -> None:
    """Register every environment with Gymnasium; a second call does nothing.

    Which task and options, an environment is told by keyword: ``gymnasium.make("opentau/Tabletop-v0", task_id=2)``.
    """
    for env_id, entry_point in ENTRY_POINTS.items():
        if env_id not in gymnasium.registry:
            gymnasium.register(env_id, entry_point=entry_point)

"""Opens stock robosuite: the only module that imports it, where a scene is built and where stepping is compared."""

from __future__ import annotations

from typing import Any

from envs.panda.stock import imports_without_opengl


def make_stock_env(stock_name: str, *, is_shaped: bool = False) -> Any:
    """Make robosuite's own environment as its benchmark has it: Panda, OSC_POSE at 20 Hz; without renderer and horizon."""
    with imports_without_opengl():
        import robosuite  # optional package, extra 'sim'
        from robosuite.controllers import load_controller_config

        return robosuite.make(
            stock_name,
            robots="Panda",
            controller_configs=load_controller_config(default_controller="OSC_POSE"),
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            reward_shaping=is_shaped,
            ignore_done=True,
        )

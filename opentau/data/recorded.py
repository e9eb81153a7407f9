"""A robot that is known from its recordings alone: enough to train a policy for it, not to play."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.hub import find_dataset
from opentau.errors import OptionError


class RecordedRobot:
    """Describes itself as `StepEnv` does; whoever wants to play it is told that there is nothing to play."""

    num_initial_states = 0

    def __init__(self, *, datasets: Sequence[str], task_id: int = 0, image_size: int = 64) -> None:
        """The first of `datasets`, folders or names on the hub, says what the robot is.

        Policies see its images at `image_size`, scaled as when they act. Raises `OptionError` without a dataset.
        """
        del image_size  # of the policy: the robot's own images keep the size they were recorded in
        if not datasets:
            raise OptionError("no dataset says what the robot is; give data.datasets=[owner/name] or a folder")
        recorded = Dataset(find_dataset(datasets[0]))
        prompts = list(dict.fromkeys(info.prompt for info in recorded.episodes))
        self.metadata: dict[str, Any] = {"interface": recorded.interface.to_dict()}
        self.prompt = prompts[min(task_id, len(prompts) - 1)]
        self.task_id = recorded.episodes[0].task_id
        self.env_id = f"recorded-{recorded.dataset_id[:16]}"
        self.max_steps = max(info.length for info in recorded.episodes)

    @property
    def action_space(self) -> NoReturn:
        self._refuse()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> NoReturn:
        self._refuse()

    def advance(self, action: np.ndarray) -> NoReturn:
        self._refuse()

    def observe(self) -> NoReturn:
        self._refuse()

    def get_state(self) -> NoReturn:
        self._refuse()

    def set_state(self, state: np.ndarray) -> NoReturn:
        self._refuse()

    def close(self) -> None: ...

    def _refuse(self) -> NoReturn:
        raise OptionError(
            "this robot is known from its recordings alone and cannot be played; `opentau sft` trains a policy for it, "
            "`opentau eval` and `opentau loop` need an environment (env=…)"
        )

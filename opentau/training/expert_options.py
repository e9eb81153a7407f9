"""How an expert is trained by reinforcement learning, as plain options; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from opentau.errors import OptionError, near_matches

SAC, PPO = "sac", "ppo"
ALGORITHMS = (SAC, PPO)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertOptions:
    """A budget in decisions, and what is learned with it. The reward is the environment's own dense one."""

    algorithm: str = SAC
    """'sac' (arXiv:1801.01290) or 'ppo' (arXiv:1707.06347), as stable-baselines3 has them."""
    num_decisions: int = 20_000
    """Most decisions of the expert, each held for `action_repeat` control steps; it ends earlier at `target_success`."""
    action_names: tuple[str, ...] = ("dx", "dy", "dz", "gripper")
    """Dimensions of the action that it decides; the others are zero."""
    action_repeat: int = 2
    episode_decisions: int = 40
    """Length of a training episode; success does not end it, so that holding what was reached pays."""
    seed_episodes: int = 40
    """Of SAC: episodes before the first update in which the hand goes to an object, closes and moves at random; 0 for none."""
    seed_updates: int = 1500
    """Of SAC: updates on these before the expert decides anything."""
    layer_widths: tuple[int, ...] = (64, 64)
    """Of actor and critics."""
    learning_rate: float = 7e-4
    batch_size: int = 128
    discount: float = 0.97
    check_every: int = 1000
    """Decisions between two checks; the best expert so far is what is kept."""
    check_episodes: int = 20
    target_success: float = 1.0
    """Share of a check's episodes at which training ends."""
    final_episodes: int = 50
    """Of the evaluation at the end, on official states, which training never sees."""

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise OptionError(f"learning.algorithm is {self.algorithm!r}.{near_matches(self.algorithm, ALGORITHMS)}")
        for name in ("num_decisions", "action_repeat", "episode_decisions", "batch_size", "check_every", "check_episodes"):
            if getattr(self, name) < 1:
                raise OptionError(f"learning.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("seed_episodes", "seed_updates", "final_episodes"):
            if getattr(self, name) < 0:
                raise OptionError(f"learning.{name} is {getattr(self, name)}; it must be at least 0")
        if not self.action_names or not self.layer_widths:
            raise OptionError("learning.action_names and learning.layer_widths name at least one dimension and one layer")
        if not 0 < self.discount < 1 or not 0 < self.target_success <= 1:
            raise OptionError(
                f"learning.discount is {self.discount} and learning.target_success {self.target_success}; both lie in 0 to 1"
            )

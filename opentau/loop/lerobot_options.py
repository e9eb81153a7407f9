"""What of the loop's options a policy of LeRobot's can do, and what it is refused for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentau.data.options import MixtureOptions
from opentau.errors import OptionError
from opentau.policies.options import InferenceOptions
from opentau.training.options import DistributionOptions, TuningOptions

if TYPE_CHECKING:  # which asks this module when it is built
    from opentau.loop.options import LoopOptions

IMPROVER = "opentau.value.controls:successes_only"
"""The label rule that only says which frames are learned from, which is all that LeRobot's trainer can be told."""


def require_askable(options: LoopOptions) -> None:
    """Raise `OptionError` for ways of asking that other projects' policies do not know."""
    if options.rollout.delay_ticks:
        raise OptionError(
            f"rollout.delay_ticks is {options.rollout.delay_ticks}; LeRobot's and openpi's policies are not asked to continue "
            "committed actions: set rollout.delay_ticks=0"
        )
    if options.inference != InferenceOptions():
        raise OptionError(
            "the options of inference are those of OpenTau's own policies; a policy of LeRobot's is asked as its config.json "
            "says, one of openpi's as its server was started: leave them as they are, and set what LeRobot knows of it when it "
            "is trained, by policy.args.options"
        )


def require_trainable(options: LoopOptions) -> None:
    """Raise `OptionError` for what LeRobot's trainer cannot be told."""
    require_askable(options)
    foreign = {
        "mixture": options.mixture.is_used or options.mixture.parts != MixtureOptions().parts,
        "tuning": options.tuning != TuningOptions(),
        "training": options.training != DistributionOptions(),
        "evaluation.final_indicators": bool(options.evaluation.final_indicators),
        "value.labels.demonstration_share": options.value.labels.demonstration_share is not None,
    }
    for name, is_asked in foreign.items():
        if is_asked:
            raise OptionError(
                f"policy=lerobot is trained by LeRobot's own trainer, which knows no options of {name}; leave "
                "them, or train one of OpenTau's policies (policy=nano, pi0, pi05, pretrained)"
            )


def require_improvable(options: LoopOptions) -> None:
    """Raise `OptionError` for improvers that need an indicator, weights or a value function of the policy."""
    if options.is_lerobots and options.improve.target != IMPROVER:
        raise OptionError(
            f"policy=lerobot cannot be improved by {options.improve.target}: LeRobot's policies have no advantage indicator, "
            "their trainer no weights of frames, and the value function reads features of OpenTau's policies. Possible is "
            "improve=filtered_bc, which learns from demonstrations, interventions and what succeeded"
        )

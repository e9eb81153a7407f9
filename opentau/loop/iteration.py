"""The improvement cycle of RECAP (π*0.6, arXiv:2511.14759, algorithm 1), read from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opentau.loop import collecting, judging, learning, lerobot, steered, valuing
from opentau.loop.run import Product
from opentau.loop.setting import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """What a finished loop leaves."""

    first: Product
    """The policy of iteration 0."""
    final: Product
    """The policy that stands after the last gate; the same as `first` where nothing was promoted."""
    first_score: Product
    """Iteration 0's policy on the final states."""
    final_score: Product
    """The final policy on them."""
    further_scores: Mapping[str, Product]
    """The final policy asked with other indicators, by indicator."""


def run_loop(setting: Setting) -> LoopResult:
    """Run all iterations; every stage that is complete is found instead of made."""
    options = setting.options

    # Iteration 0: demonstrations, supervised fine-tuning with the indicator positive, a critic of the demonstrations.
    demonstrations = collecting.demonstrate(setting)
    first_critic = None
    if options.is_lerobots:  # LeRobot's own trainer; a critic would read features that its policies do not have
        first_policy = eyes = lerobot.fine_tune(setting, demonstrations)
    else:
        first_policy = eyes = learning.fine_tune(setting, demonstrations)
    if options.learns_values:
        first_critic = valuing.fit_critic(setting, 0, policy=eyes, episodes=[demonstrations])
        if options.value.labels.demonstration_share is not None:
            # Pre-training with the indicator: demonstrations are told apart by what came of them.
            labels = valuing.label(setting, 0, critic=first_critic, episodes=[demonstrations])
            first_policy = learning.update(setting, 0, start=first_policy, episodes=[demonstrations], labels=labels)
    if options.evaluation.episodes:
        judging.evaluate(setting, 0, policy=first_policy)

    incumbent, critic, episodes = first_policy, first_critic, [demonstrations]
    players: list[Product] = []
    gates: dict[int, tuple[Product, Product]] = {}
    for iteration in range(1, options.iterations + 1):
        # What people decided meanwhile holds from here on: other options, another policy that stands.
        setting, incumbent = judging.begin(setting, iteration, incumbent=incumbent, gates=gates)

        # Autonomous episodes with interventions join all that came before.
        rollouts = collecting.collect(setting, iteration, policy=incumbent, critic=critic, critic_eyes=eyes)
        episodes, players, setting = [*episodes, rollouts], [*players, incumbent], setting.with_outcomes(iteration)

        # Critic and candidate start from the pre-trained ones each time, which keeps iterations from drifting.
        start = first_policy if options.improve.start == "pretrained" else incumbent
        if options.is_lerobots:
            candidate = lerobot.update(setting, iteration, start=start, episodes=episodes)
        elif options.steers_noise:  # the policy is frozen; demonstrations have no noise to learn from
            candidate = steered.update(setting, iteration, frozen=first_policy, episodes=episodes[1:], players=players)
        elif options.tells_metadata:  # words say how episodes went; nothing is valued
            candidate = learning.update_told(setting, iteration, start=start, episodes=episodes)
        else:
            critic = valuing.fit_critic(setting, iteration, policy=eyes, episodes=episodes, start=first_critic)
            labels = valuing.label(setting, iteration, critic=critic, episodes=episodes)
            candidate = learning.update(setting, iteration, start=start, episodes=episodes, labels=labels)

        # Both face the same placements; the candidate replaces the incumbent only on evidence.
        gates[iteration] = incumbent, candidate
        if judging.face(setting, iteration, incumbent=incumbent, candidate=candidate):
            incumbent = candidate

    setting, incumbent = judging.begin(setting, options.iterations + 1, incumbent=incumbent, gates=gates)

    # Both ends on states that nothing above has seen.
    first_score = final_score = judging.score_final(setting, 0, policy=first_policy)
    if options.iterations:
        final_score = judging.score_final(setting, options.iterations, policy=incumbent, known=first_score)
    further = {
        indicator: judging.score_final(setting, options.iterations, policy=incumbent, indicator=indicator)
        for indicator in options.evaluation.final_indicators
    }
    return LoopResult(
        first=first_policy, final=incumbent, first_score=first_score, final_score=final_score, further_scores=further
    )

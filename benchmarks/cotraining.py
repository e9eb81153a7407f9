"""Does training on other robots and on questions cost success on LIBERO, and what does it buy? One mixture, measured.

Two policies see equally many LIBERO samples, of two tasks at 64 and of two at 128 pixels. One sees beside them a robot of
other cameras, rate and dimensions, and questions that the simulator answers. Both play the same 200 official starts.
Takes about two hours on two cores; every step goes on where an earlier call of the same --work left it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opentau.config import build
from opentau.data.vlm.reading import read_questions
from opentau.data.vlm.samples import QuestionSource
from opentau.data.vlm.scoring import score_answers
from opentau.loop.ledger import read_results
from opentau.policies.answering import answer
from opentau.policies.policy import VLAPolicy
from opentau.policies.weights import load_model
from opentau.training.mixing import policy_sizes
from opentau.training.objectives import PolicyObjective
from opentau.training.options import ObjectiveOptions
from opentau.types import EpisodeResult, Observation, PolicyRequest, derive_seed

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURE = REPOSITORY / "tests" / "fixtures" / "lerobot_v3_ds"
SMALL_TASKS, LARGE_TASKS = (0, 1), (2, 3)
"""Of libero_object, seen at 64 and at 128 pixels."""
DEMONSTRATIONS, QUESTIONS = 25, 16_000
NUM_UPDATES, LIBERO_BATCH = 2400, 64
SHARES = {"main": 4, "large": 4, "arm": 1, "questions": 7}
"""Of a mixed batch of 128, half of which is LIBERO."""
LOSS_ALLOWED, VQA_REQUIRED, IOU_REQUIRED = -10.0, 0.8, 0.5
NUM_DRAWS = 10_000
FOLLOWED_EPISODES, EXECUTE_HORIZON, FOLLOWED_STEPS, LOOK_EVERY = 10, 8, 220, 4
PLAIN, MIXED = "LIBERO alone", "mixture"


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What a policy picked up when the prompt named another object of the scene than its task's."""

    named: int
    """Episodes in which the named object was the first one held."""
    usual: int
    """… in which it was that of the task."""
    other: int
    nothing: int

    @property
    def num_episodes(self) -> int:
        return self.named + self.usual + self.other + self.nothing


def opentau(work: Path, *arguments: str) -> dict[str, Any]:
    """Run a command that prints a line of JSON, its progress on standard error."""
    environment = os.environ | {"OPENTAU_RUNS": str(work / "runs"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "opentau.cli.main", *arguments, "--json"]
    print("$ opentau " + " ".join(arguments), file=sys.stderr)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def tasks(numbers: tuple[int, ...]) -> str:
    return f"task_id=[{','.join(map(str, numbers))}]"


def make_data(work: Path) -> tuple[Path, Path]:
    """Record the demonstrations at 128 pixels and make the questions; return both folders."""
    demonstrations = f"data.demonstrations={DEMONSTRATIONS}"
    large = opentau(work, "demonstrate", "env=libero/object", tasks(LARGE_TASKS), demonstrations, "env.args.image_size=128")
    questions = work / "questions"
    if not questions.exists():
        every = tasks(SMALL_TASKS + LARGE_TASKS)
        opentau(work, "data", "make-vqa", "env=libero/object", every, "--out", str(questions), "--questions", str(QUESTIONS))
    return Path(large["path"]), questions


def train(work: Path, large: Path, questions: Path, *, is_mixed: bool) -> Path:
    """Train one of the two policies and return its checkpoint."""
    parts = [f"{{name: large, dataset: {large}, embodiment: main, weight: {SHARES['large']}}}"]
    if is_mixed:
        cameras = "{agentview: front, wrist: wrist}"
        parts += [
            f"{{name: arm, dataset: {FIXTURE}, cameras: {cameras}, action_space: absolute_joint, weight: {SHARES['arm']}}}",
            f"{{name: questions, questions: {questions}, weight: {SHARES['questions']}}}",
        ]
    batch_size = LIBERO_BATCH * sum(SHARES.values()) // (SHARES["main"] + SHARES["large"]) if is_mixed else LIBERO_BATCH
    trained = opentau(
        work, "sft", "env=libero/object", tasks(SMALL_TASKS), f"data.demonstrations={DEMONSTRATIONS}",
        f"sft.num_updates={NUM_UPDATES}", f"sft.batch_size={batch_size}", f"mixture.main_weight={SHARES['main']}",
        f"mixture.parts=[{', '.join(parts)}]",
    )  # fmt: skip
    return Path(trained["path"])


def play(work: Path, checkpoint: Path) -> list[EpisodeResult]:
    """Return the results of the official starts of all four tasks, in their order."""
    every = tasks(SMALL_TASKS + LARGE_TASKS)
    score = opentau(work, "eval", str(checkpoint), "env=libero/object", every, "--official", "--episodes", "50")
    for ledger in sorted((work / "runs").glob(f"eval-{score['policy'][:8]}-*/stages/evaluate-0-*/episodes.jsonl")):
        results = read_results(ledger)
        if len(results) == score["episodes"]:
            return sorted(results, key=lambda result: (result.plan.task_id, result.plan.initial_state or 0))
    raise SystemExit(f"the episodes of {checkpoint} are not where they were written")


def answers_of(checkpoint: Path, questions: Path) -> dict[str, float]:
    """Return the scores of all held-out questions."""
    model, processor = load_model(checkpoint)
    model.eval()
    samples = read_questions(questions).validation
    objective = PolicyObjective(model, processor=processor, options=ObjectiveOptions())
    source = QuestionSource(samples, sizes=policy_sizes(processor.config))
    said: list[str] = []
    for start in range(0, len(samples), 64):
        batch = source.batch_of(np.arange(start, min(start + 64, len(samples))), np.random.default_rng(0))
        said += answer(model, processor=processor, inputs=objective.inputs(batch))
    return score_answers(said, [sample.answer for sample in samples], [sample.kind for sample in samples])


def follow(checkpoint: Path) -> Followed:
    """Name another trained object of the scene in the prompt, and see what the policy picks up first."""
    policy = VLAPolicy.load(checkpoint)
    found: Counter[str] = Counter()
    numbers = SMALL_TASKS + LARGE_TASKS
    environments = {
        n: build({"target": "envs.libero.environment:LiberoEnv", "args": {"suite": "libero_object"}}, task_id=n)
        for n in numbers
    }
    targets = {number: environment.goal[0][1] for number, environment in environments.items()}
    for number, environment in environments.items():
        others = [other for other in numbers if other != number and targets[other] in environment.object_bodies]
        for episode in range(FOLLOWED_EPISODES if others else 0):
            other = others[episode % len(others)]
            held = first_held(policy, environment, prompt=environments[other].prompt, seed=derive_seed(0, number, episode))
            roles = {targets[other]: "named", targets[number]: "usual", None: "nothing"}
            found[roles.get(held, "other")] += 1
    for environment in environments.values():
        environment.close()
    return Followed(**{role: found[role] for role in ("named", "usual", "other", "nothing")})


def first_held(policy: VLAPolicy, environment: Any, *, prompt: str, seed: int) -> str | None:
    """Return the key of the first object that the gripper holds, None when it holds none in time."""
    observation, _ = environment.reset(seed=seed)
    for tick in range(0, FOLLOWED_STEPS, EXECUTE_HORIZON):
        seen = Observation(images=observation["images"], state=observation["state"], prompt=prompt, time_s=tick / 20)
        (chunk,) = policy.infer([PolicyRequest(observation=seen, episode_seed=seed, tick=tick)])
        for step, action in enumerate(chunk.actions[:EXECUTE_HORIZON]):
            environment.advance(action)
            if step % LOOK_EVERY == 0 and (held := environment.ground_truth()["held"]):
                return held
        observation = environment.observe()
    return None


def paired_interval(plain: list[EpisodeResult], mixed: list[EpisodeResult]) -> tuple[float, float, float]:
    """Return the difference of success in points and its 95 % bootstrap interval over episodes."""
    if [r.plan.initial_state for r in plain] != [r.plan.initial_state for r in mixed]:
        raise SystemExit("the two policies did not play the same episodes")
    difference = np.array([int(b.is_success) - int(a.is_success) for a, b in zip(plain, mixed, strict=True)])
    draws = np.random.default_rng(0).choice(difference, (NUM_DRAWS, len(difference))).mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return 100 * difference.mean(), 100 * low, 100 * high


def main(arguments: list[str] | None = None) -> int:
    """Do whatever is missing, then print the tables; 1 below the bars with --require."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of all runs; the same one goes on")
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail below the bars")
    parsed = parser.parse_args(arguments)
    large, questions = make_data(parsed.work)
    checkpoints = {
        PLAIN: train(parsed.work, large, questions, is_mixed=False),
        MIXED: train(parsed.work, large, questions, is_mixed=True),
    }
    results = {name: play(parsed.work, checkpoint) for name, checkpoint in checkpoints.items()}
    difference, low, high = paired_interval(results[PLAIN], results[MIXED])
    answers = answers_of(checkpoints[MIXED], questions)
    followed = {name: follow(checkpoint) for name, checkpoint in checkpoints.items()}
    successes = {name: sum(result.is_success for result in played) for name, played in results.items()}
    if parsed.json:
        plain = {name: asdict(value) for name, value in followed.items()}
        print(
            json.dumps({"successes": successes, "difference": [difference, low, high], "answers": answers, "followed": plain})
        )
    else:
        print_tables(results, followed, answers, (difference, low, high))
    is_enough = low >= LOSS_ALLOWED and answers["yes_no_accuracy"] >= VQA_REQUIRED and answers["box_iou"] >= IOU_REQUIRED
    return 1 if parsed.require and not is_enough else 0


def print_tables(
    results: dict[str, list[EpisodeResult]],
    followed: dict[str, Followed],
    answers: dict[str, float],
    interval: tuple[float, float, float],
) -> None:
    """Print success by task, the paired difference, the answers and what is followed."""
    names = sorted({result.plan.task_id for result in results[PLAIN]})
    print(f"{'successes':<16}" + "".join(f"{name.split('/')[1]:>8}" for name in names) + f"{'all':>10}")
    for policy, played in results.items():
        counts = [sum(r.is_success for r in played if r.plan.task_id == name) for name in names]
        print(f"{policy:<16}" + "".join(f"{count:>8}" for count in counts) + f"{sum(counts):>6}/{len(played)}")
    print(f"mixture minus LIBERO alone: {interval[0]:+.1f} points, 95 % bootstrap {interval[1]:+.1f} to {interval[2]:+.1f}")
    for metric, value in answers.items():
        print(f"{metric:<24}{value:.3f}")
    print(f"{'first object held':<16}{'named':>8}{'usual':>8}{'other':>8}{'nothing':>9}")
    for policy, row in followed.items():
        print(f"{policy:<17}{row.named:>8}{row.usual:>8}{row.other:>8}{row.nothing:>9}")


if __name__ == "__main__":
    sys.exit(main())

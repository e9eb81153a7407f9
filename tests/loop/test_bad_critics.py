"""Critics that were fitted on rubbish stop a run before anything is learned from their labels; a sound one does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from envs.tabletop.environment import TabletopEnv
from opentau.cli.main import main
from opentau.value.features import FrozenPolicyFeatures, InputSizes
from tests.loop import attempts

pytestmark = pytest.mark.cycles

NUM_ATTEMPTS, NUM_BROKEN = 100, 300
FRAMES_LEFT = 4
KNOWS_NOTHING = ("hardly tells successes from failures", "ranks failures above successes", "worse than one number")
OPTIONS = (
    "experiment=tiny", f"env.args.max_steps={attempts.MAX_STEPS}", "env.args.placement_range=0.1", "data.demonstrations=0",
    "+value.labels.demonstration_share=0.3", "evaluation.episodes=0", "policy.args.width=32", "policy.args.depth=1",
    "sft.num_updates=2", "update.num_updates=2", "value.fit.num_folds=4", "value.fit.num_updates=60",
)  # fmt: skip


class Blind(nn.Module):
    """A feature block that sees nothing (`FeatureBlock`): its critic can only say one number."""

    inputs = FrozenPolicyFeatures.inputs
    frames_at_once = FrozenPolicyFeatures.frames_at_once
    width = 4

    def __init__(self, sizes: InputSizes) -> None:
        super().__init__()

    def calibrate(self, inputs: Mapping[str, Tensor]) -> None: ...

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return torch.zeros(len(inputs["state"]), self.width)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Datasets of attempts at the tabletop: as they were, with outcomes exchanged among them, and broken off at the start."""
    env, folder = TabletopEnv(**attempts.ENV_ARGS), tmp_path_factory.mktemp("attempts")
    whole = [attempts.play(env, number=number) for number in range(NUM_ATTEMPTS)]
    broken = [attempts.play(env, number=number, num_recorded=FRAMES_LEFT) for number in range(NUM_BROKEN)]
    kinds = {"whole": whole, "exchanged": attempts.exchanged(whole, seed=0), "broken": broken}
    return {kind: attempts.write(folder / kind, episodes, env=env) for kind, episodes in kinds.items()}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("exchanged", (), KNOWS_NOTHING),
        ("broken", (), KNOWS_NOTHING),
        ("whole", ("+value.critic.features.target=tests.loop.test_bad_critics:Blind",), ("nearly the same of every frame",)),
    ],
    ids=["outcomes exchanged", "recordings broken off", "sees nothing"],
)
def test_no_policy_is_updated_after_a_critic_that_knows_nothing(
    recorded, tmp_path, monkeypatch, capsys, kind: str, options: tuple[str, ...], said: tuple[str, ...]
) -> None:
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path))
    command = ["update", "--iteration", "0", "run_id=run", f"data.datasets=[{recorded[kind]}]", *OPTIONS, *options]
    assert main(command) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert any(words in errors for words in said), errors
    assert set(stages(tmp_path / "run")) == {"demonstrations-0", "sft-0"}


@pytest.mark.timeout(600)
def test_a_critic_of_the_same_attempts_as_they_were_goes_on_to_labels_and_an_update(
    recorded, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path))
    command = ["update", "--iteration", "0", "run_id=run", f"data.datasets=[{recorded['whole']}]", *OPTIONS]
    assert main(command) == 0
    assert set(stages(tmp_path / "run")) == {"demonstrations-0", "sft-0", "value-0", "label-0", "update-0"}
    quality = json.loads(next((tmp_path / "run" / "stages").glob("value-0-*/quality.json")).read_text())
    assert quality["num_successes"] == quality["num_failures"] == NUM_ATTEMPTS / 2
    assert quality["auroc"] > 0.9
    assert quality["explained_variance"] > 0.3


def stages(run: Path) -> dict[str, object]:
    """Return the stages that a run has finished."""
    return json.loads((run / "state.json").read_text())["stages"]

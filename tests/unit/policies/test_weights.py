"""Policies on disk: they come back to the bit, and damage is explained."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from opentau.checkpoint import building
from opentau.errors import CheckpointError
from opentau.policies.policy import VLAPolicy
from opentau.policies.weights import DTYPES, WEIGHTS_FILE, load_model, save_policy, save_weights
from tests.unit.policies.parts import model, nano_like, pi05_like, processor, request


@pytest.fixture
def checkpoint(tmp_path):
    return _save(tmp_path / "policy", nano_like())


def _save(directory, config):
    with building(directory, {}) as partial:
        save_policy(partial, model=model(config), processor=processor(config))
    return directory


@pytest.mark.parametrize("config", [nano_like(), pi05_like()], ids=["nano", "pi05"])
def test_a_saved_policy_answers_as_before(tmp_path, config):
    directory = _save(tmp_path / "policy", config)
    loaded = VLAPolicy.load(directory)
    original = VLAPolicy(model(config), processor=processor(config), policy_version="")
    assert np.array_equal(loaded.infer([request(seed=0)])[0].actions, original.infer([request(seed=0)])[0].actions)
    assert loaded.policy_version == json.loads((directory / "manifest.json").read_text())["id"]


def test_a_loaded_model_can_be_trained_on(checkpoint):
    loaded, _ = load_model(checkpoint)
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in loaded.parameters())


def test_equal_policies_have_equal_ids(tmp_path):
    first, second = (VLAPolicy.load(_save(tmp_path / name, nano_like())).policy_version for name in ("a", "b"))
    assert first == second


def test_a_directory_without_a_manifest_is_incomplete(tmp_path):
    with pytest.raises(CheckpointError, match="not complete"):
        VLAPolicy.load(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS_FILE, "config.json", "embodiments.json", "tokenizer.json", "fast_tokenizer.json"])
def test_a_truncated_file_is_named(checkpoint, name):
    path = checkpoint / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=name):
        VLAPolicy.load(checkpoint)


def test_truncated_weights_are_explained_without_a_manifest(checkpoint):
    path = checkpoint / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="missing or truncated"):
        load_model(checkpoint)
    path.unlink()
    with pytest.raises(CheckpointError, match="missing or truncated"):
        load_model(checkpoint)


def test_weights_of_another_model_are_listed_in_a_table(checkpoint):
    described = json.loads((checkpoint / "config.json").read_text())
    described["policy"]["expert"]["mlp_dim"] = 40
    described["policy"]["has_camera_embedding"] = False
    (checkpoint / "config.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError) as caught:
        load_model(checkpoint)
    lines = str(caught.value).splitlines()
    row = next(line for line in lines if "expert.transformer.layers.0.mlp.down_proj.weight" in line)
    assert row.split()[1:] == ["[64,", "40]", "[64,", "256]"]
    assert next(line for line in lines if "camera_embedding.weight" in line).split()[1:] == ["—", "[2,", "64]"]


def test_parts_that_no_longer_fit_together_are_a_checkpoint_error(checkpoint):
    described = json.loads((checkpoint / "config.json").read_text())
    described["policy"]["state_dim"] = 2
    (checkpoint / "config.json").write_text(json.dumps(described))
    with pytest.raises(CheckpointError, match="state_dim"):
        load_model(checkpoint)


def test_saving_keeps_the_weights_bits(checkpoint):
    loaded, _ = load_model(checkpoint)
    wanted = model(nano_like()).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in loaded.state_dict().items())


def test_weights_are_written_byte_for_byte_as_the_library_writes_them(tmp_path):
    weights = {**model(nano_like()).state_dict(), "é": torch.zeros(()), "none": torch.zeros(0, 3)}
    save_weights(tmp_path / "ours.safetensors", weights)
    assert (tmp_path / "ours.safetensors").read_bytes() == save(weights)


def test_tensors_of_every_type_come_back(tmp_path):
    tensors = {str(kind): torch.arange(-3, 4).to(kind).reshape(7, 1).T for kind in DTYPES}
    save_weights(tmp_path / "all.safetensors", tensors)
    stored = load_file(tmp_path / "all.safetensors")
    assert stored.keys() == tensors.keys()
    assert all(torch.equal(stored[name], tensor) and stored[name].dtype == tensor.dtype for name, tensor in tensors.items())

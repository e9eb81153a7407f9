"""Checkpoints of other projects: what is taken in computes what they compute, and goes out as it came."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.parity import TOLERANCES, differences, observed
from opentau.checkpoint import building
from opentau.data.images import ImageFit
from opentau.errors import CheckpointError, OptionError
from opentau.policies.config import FastIds, TextHead
from opentau.policies.family import PI0_TEMPLATE, PI05_TEMPLATE
from opentau.policies.prefix import embed_text
from opentau.policies.pretrained import pretrained
from opentau.policies.prompts import state_bins
from opentau.policies.published import names
from opentau.policies.published.exporting import export_lerobot
from opentau.policies.published.reading import ReadOptions, read_published
from opentau.policies.published.taking_in import take_in
from opentau.policies.vla import VLA
from opentau.policies.weights import load_model, save_policy, start_model

FIXTURES = Path(__file__).parents[2] / "fixtures"
LEROBOT = FIXTURES / "lerobot_pi05_ckpt"
WORDS = str(LEROBOT / "stub_tokenizer")
OPTIONS = ReadOptions(vision_heads=3)
PREFIX = "model.paligemma_with_expert."


@pytest.fixture(scope="module")
def numbers():
    with np.load(FIXTURES / "lerobot_pi05_parity.npz", allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture(scope="module")
def taken(tmp_path_factory):
    return take_in(str(LEROBOT), tmp_path_factory.mktemp("taken") / "pi05", options=OPTIONS, tokenizer=WORDS)


@pytest.fixture(scope="module")
def weights():
    return load_file(LEROBOT / "model.safetensors")


def written(folder: Path, tensors, *, description: dict | None = None) -> Path:
    """Write a published checkpoint: LeRobot's files with other tensors, and with another description where one is given."""
    shutil.copytree(LEROBOT, folder)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, folder / "model.safetensors")
    if description is not None:
        (folder / "config.json").write_text(json.dumps(description))
    return folder


def described() -> dict:
    return json.loads((LEROBOT / "config.json").read_text())


def test_what_lerobot_computed_is_computed_here(taken, numbers):
    model, processor = load_model(taken.path)
    found = differences(model.eval(), processor, numbers)
    assert found.keys() == TOLERANCES.keys()
    assert {name: value for name, value in found.items() if value > TOLERANCES[name]} == {}


def test_taken_in_and_exported_again_every_tensor_is_equal(taken, weights, tmp_path):
    assert export_lerobot(taken.path, tmp_path / "out") == []
    again = load_file(tmp_path / "out" / "model.safetensors")
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], weights[name]) for name in weights)
    for file in ("policy_preprocessor.json", "policy_postprocessor.json"):
        assert json.loads((tmp_path / "out" / file).read_text()) == json.loads((LEROBOT / file).read_text())
    state_file = "policy_preprocessor_step_3_normalizer_processor.safetensors"
    theirs, ours = load_file(LEROBOT / state_file), load_file(tmp_path / "out" / state_file)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {name.rpartition(".")[2] for name in ours} == {"q01", "q99"}
    plain = json.loads((tmp_path / "out" / "config.json").read_text())
    assert plain == {name: described()[name] for name in plain}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("paligemma.model.language_model.", "paligemma.language_model.model."),
        ("paligemma.model.", "paligemma."),
        ("vision_tower.vision_model.", "vision_tower."),
        ("model.paligemma_with_expert.", "paligemma_with_expert."),
    ],
)
def test_every_nesting_of_the_same_weights_is_read(weights, tmp_path, old, new):
    renamed = {name.replace(old, new): tensor for name, tensor in weights.items()}
    assert renamed.keys() != weights.keys()
    read = read_published(written(tmp_path / "nested", renamed), options=OPTIONS)
    plain = read_published(LEROBOT, options=OPTIONS)
    assert read.config == plain.config
    assert all(torch.equal(read.weights[name], tensor) for name, tensor in plain.weights.items())


def test_weights_that_a_file_keeps_once_are_tied(weights, tmp_path):
    once = {name: tensor for name, tensor in weights.items() if not name.endswith("embed_tokens.weight")}
    read = read_published(written(tmp_path / "once", once), options=OPTIONS)
    assert read.config.text_head is TextHead.TIED
    assert torch.equal(read.weights["text_embedding.weight"], weights[f"{PREFIX}paligemma.lm_head.weight"])


def test_a_head_that_has_become_another_matrix_stays_one_and_comes_back(weights, tmp_path):
    changed = weights | {f"{PREFIX}paligemma.lm_head.weight": torch.randn(4096, 64)}
    taken = take_in(str(written(tmp_path / "in", changed)), tmp_path / "ours", options=OPTIONS, tokenizer=WORDS)
    model, _ = load_model(taken.path)
    stream = torch.randn(3, 64)
    assert torch.allclose(model.logits(stream), stream @ changed[f"{PREFIX}paligemma.lm_head.weight"].T, atol=1e-5)
    export_lerobot(taken.path, tmp_path / "out")
    again = load_file(tmp_path / "out" / "model.safetensors")
    assert again.keys() == changed.keys()
    assert all(torch.equal(again[name], changed[name]) for name in changed)


def test_a_file_in_shards_is_read_as_one(weights, tmp_path):
    folder = written(tmp_path / "shards", weights)
    (folder / "model.safetensors").unlink()
    halves = (sorted(weights)[::2], sorted(weights)[1::2])
    index = {}
    for number, half in enumerate(halves):
        save_file({name: weights[name].clone() for name in half}, folder / f"model-{number}.safetensors")
        index |= dict.fromkeys(half, f"model-{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    read = read_published(folder, options=OPTIONS)
    assert len(read.weights) == len(read_published(LEROBOT, options=OPTIONS).weights)
    (folder / "model-1.safetensors").write_bytes((folder / "model-1.safetensors").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model-1\.safetensors cannot be read"):
        read_published(folder, options=OPTIONS)
    damaged = {
        "{": r"index\.json cannot be read",
        "[]": r"index\.json cannot be read",
        '{"weight_map": {"x": "../model.safetensors"}}': r"names the file '\.\./model\.safetensors'; shards lie beside",
    }
    for text, named in damaged.items():
        (folder / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CheckpointError, match=named):
            read_published(folder, options=OPTIONS)


def test_openpis_port_is_read_with_its_statistics(weights, tmp_path):
    bare = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    folder = written(tmp_path / "openpi", bare, description={"action_dim": 32, "action_horizon": 50})
    (folder / "policy_preprocessor.json").unlink()
    statistics = {
        name: {"mean": [0.0] * dim, "std": [1.0] * dim, "q01": [-1.0] * dim, "q99": [3.0] * dim}
        for name, dim in (("state", 8), ("actions", 7))
    }
    path = folder / "assets" / "robot" / "norm_stats.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"norm_stats": statistics}))
    read = read_published(folder, options=OPTIONS)
    assert (read.project, read.config.max_prompt_tokens, read.config.action_horizon) == ("openpi", 200, 50)
    assert read.config.cameras == ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
    # openpi adds a millionth to every width: (x - q01) / (q99 - q01 + 1e-6) * 2 - 1.
    raw = np.full(7, 2.0, np.float32)
    assert read.codec.encode_action(raw) == pytest.approx((2.0 + 1.0) / (4.0 + 1e-6) * 2 - 1, abs=1e-7)


def as_tensorauto(weights, *, num_datasets: int = 1):
    """Return weights as TensorAuto OpenTau keeps them: action tokens of their own, scaling among the weights."""
    generator = torch.Generator().manual_seed(0)
    tensors = {name: tensor for name, tensor in weights.items() if "gemma_expert.lm_head" not in name}
    tensors[f"{PREFIX}discrete_action_embedding.weight"] = torch.randn(32, 64, generator=generator)
    tensors[f"{PREFIX}da_head.weight"] = torch.randn(32, 64, generator=generator)
    tensors[f"{PREFIX}da_head.bias"] = torch.randn(32, generator=generator)
    for feature, dim in (("normalize_inputs.buffer_state", 8), ("normalize_targets.buffer_actions", 7)):
        tensors[f"{feature}.mean"] = torch.arange(num_datasets)[:, None] + torch.zeros(num_datasets, dim)
        tensors[f"{feature}.std"] = torch.full((num_datasets, dim), 2.0)
    tensors["normalize_inputs.buffer_state.std"][:, 0] = 0.0
    return tensors


def test_tensorautos_action_tokens_and_scaling_are_read(weights, tmp_path):
    tensors = as_tensorauto(weights)
    read = read_published(written(tmp_path / "tensorauto", tensors), options=OPTIONS)
    assert (read.project, read.config.fast_ids, read.config.fast_vocab_size) == ("TensorAuto OpenTau", FastIds.APPENDED, 32)
    model = VLA(read.config)
    model.load_state_dict(dict(read.weights))
    embedded = embed_text(model, torch.tensor([[4096 + 5]]))[0, 0]
    assert torch.allclose(embedded, tensors[f"{PREFIX}discrete_action_embedding.weight"][5], atol=1e-5)
    stream = torch.randn(64)
    theirs = tensors[f"{PREFIX}da_head.weight"] @ stream + tensors[f"{PREFIX}da_head.bias"]
    assert torch.allclose(model.logits(stream)[4096:], theirs, atol=1e-4)
    # A deviation of zero counts as one.
    assert read.codec.encode_state(np.full(8, 3.0, np.float32)) == pytest.approx([3.0, *[1.5] * 7])
    assert read.config.prompt_template == "Task: {prompt}, State: {state};\n"
    assert read.config.image_fit is ImageFit.TENSORAUTO
    asked = dataclasses.replace(OPTIONS, image_fit=ImageFit.LEROBOT)
    assert read_published(tmp_path / "tensorauto", options=asked).config.image_fit is ImageFit.LEROBOT
    assert "image_fit" not in read_published(LEROBOT, options=OPTIONS).config.to_dict()


def test_the_same_policy_in_tensorautos_layout_computes_the_same(weights, numbers, tmp_path):
    tensors = as_tensorauto(weights)
    codec = read_published(LEROBOT, options=OPTIONS).codec
    for feature, scaling in (
        ("normalize_inputs.buffer_state", codec.state),
        ("normalize_targets.buffer_actions", codec.action),
    ):
        tensors[f"{feature}.mean"] = torch.tensor([scaling.offset])
        tensors[f"{feature}.std"] = torch.tensor([scaling.scale])
    folder = written(tmp_path / "tensorauto", tensors)
    options = dataclasses.replace(OPTIONS, prompt_template=PI05_TEMPLATE)
    taken = take_in(str(folder), tmp_path / "ours", options=options, tokenizer=WORDS)
    model, processor = load_model(taken.path)
    found = differences(model.eval(), processor, numbers)
    assert {name: value for name, value in found.items() if value > TOLERANCES[name]} == {}


def test_of_several_datasets_one_has_to_be_chosen(weights, tmp_path):
    folder = written(tmp_path / "tensorauto", as_tensorauto(weights, num_datasets=3))
    with pytest.raises(CheckpointError, match="trained on 3 datasets; choose one with --dataset 0 to 2"):
        read_published(folder, options=OPTIONS)
    read = read_published(folder, options=dataclasses.replace(OPTIONS, dataset=2))
    assert read.codec.encode_action(np.full(7, 4.0, np.float32)) == pytest.approx(1.0)


def test_pi0_is_read_with_its_state_token_and_plain_norms(weights, tmp_path):
    tensors = {name.replace("model.time_mlp", "model.action_time_mlp"): tensor for name, tensor in weights.items()}
    for name in list(tensors):
        if ".dense." in name:
            tensors[name.replace(".dense.weight", ".weight")] = torch.zeros(32)
            del tensors[name]
    tensors["model.action_time_mlp_in.weight"] = torch.randn(32, 64)
    tensors |= {"model.state_proj.weight": torch.randn(32, 32), "model.state_proj.bias": torch.zeros(32)}
    folder = written(tmp_path / "pi0", tensors, description=described() | {"type": "pi0"})
    taken = take_in(str(folder), tmp_path / "ours", options=OPTIONS, tokenizer=WORDS)
    _, processor = load_model(taken.path)
    assert (processor.config.state_dim, processor.config.prompt_template, processor.config.codec) == (
        32,
        PI0_TEMPLATE,
        "zscore",
    )
    export_lerobot(taken.path, tmp_path / "out")
    again = load_file(tmp_path / "out" / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["type"] == "pi0"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors: tensors.pop(f"{PREFIX}gemma_expert.model.layers.1.mlp.up_proj.weight"), r"expert.*up_proj"),
        (lambda tensors: tensors.update({"model.action_out_proj.bias": torch.zeros(31)}), r"action_out\.bias.*\[32\].*\[31\]"),
        (lambda tensors: tensors.update({"model.elbow.weight": torch.zeros(3)}), r"elbow\.weight"),
        (lambda tensors: tensors.pop("model.action_in_proj.weight"), "has no weight action_in_proj"),
    ],
)
def test_weights_that_are_missing_or_do_not_fit_are_named(weights, tmp_path, change, named):
    tensors = dict(weights)
    change(tensors)
    with pytest.raises(CheckpointError, match=named):
        read_published(written(tmp_path / "changed", tensors), options=OPTIONS)


def test_statistics_of_another_robot_are_refused(weights, tmp_path):
    plain = described()
    plain["output_features"]["action"]["shape"] = [6]
    folder = written(tmp_path / "other", weights, description=plain)
    with pytest.raises(CheckpointError, match=r"q01 of action has the shape \(7,\), the policy has 6 dimensions"):
        read_published(folder, options=OPTIONS)


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("config.json", "{", r"config\.json cannot be read"),
        ("config.json", '{"type": "act"}', "policy of type 'act'"),
        ("policy_preprocessor.json", "[]", "holds no object"),
        ("policy_preprocessor.json", '{"steps": []}', "0 steps normalizer_processor, exactly one"),
        ("model.safetensors", "broken", r"model\.safetensors cannot be read.*missing or truncated"),
        (
            "policy_preprocessor_step_3_normalizer_processor.safetensors",
            "broken",
            r"normalizer_processor\.safetensors cannot be read.*missing or truncated",
        ),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, text, named):
    folder = tmp_path / "damaged"
    shutil.copytree(LEROBOT, folder)
    (folder / file).write_text(text)
    with pytest.raises(CheckpointError, match=named):
        read_published(folder, options=OPTIONS)


def test_a_name_that_cannot_be_fetched_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="owner/pi05 is no folder, not in the hub's cache"):
        take_in("owner/pi05", tmp_path / "out")
    with pytest.raises(OptionError, match="exists; name a new folder"):
        take_in(str(LEROBOT), tmp_path, options=OPTIONS, tokenizer=WORDS)


def test_a_base_checkpoint_without_statistics_can_be_trained_but_serves_nothing(taken, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(LEROBOT, folder)
    plain = json.loads((folder / "policy_preprocessor.json").read_text())
    for step in plain["steps"]:
        step.pop("state_file", None)
    (folder / "policy_preprocessor.json").write_text(json.dumps(plain))
    base = take_in(str(folder), tmp_path / "ours", options=OPTIONS, tokenizer=WORDS)
    start = pretrained(str(base.path), cameras=("agentview",), state_dim=8, action_dim=7)
    assert start.config == dataclasses.replace(load_model(taken.path)[1].config, cameras=("agentview",))
    with pytest.raises(OptionError, match="no statistics"):
        take_in(str(folder), tmp_path / "served", options=OPTIONS, tokenizer=WORDS, interface=taken.interface)


def test_a_tower_of_another_width_needs_its_heads():
    with pytest.raises(OptionError, match=r"48 wide.*--vision-heads"):
        read_published(LEROBOT)


def test_a_prompt_beyond_the_limit_is_an_error_and_not_cut(taken, numbers):
    _, processor = load_model(taken.path)
    long = numbers | {"raw_task": np.array(["pick the red block " * 20] * 2)}
    with pytest.raises(OptionError, match="tokens, the policy reads 72"):
        observed(processor, long)


def test_the_indicator_that_a_policy_starts_with_changes_nothing(taken, numbers):
    model, processor = load_model(taken.path)
    inputs = observed(processor, numbers)
    noise, time = torch.from_numpy(numbers["noise"]), torch.full((2, 1), 0.5)
    silent = processor.with_indicator(inputs, torch.tensor([-1, -1]))
    told = dataclasses.replace(processor.with_indicator(inputs, torch.tensor([1, 0])), indicator_BI=silent.indicator_BI)
    with torch.no_grad():
        prefix = model.eval().prefix(silent)
        plain = model.velocity(model.expert_context(prefix), noisy_BHA=noise, time_BX=time)
        embedded = dataclasses.replace(prefix, indicator_B=told.indicator_B)
        assert torch.equal(model.velocity(model.expert_context(embedded), noisy_BHA=noise, time_BX=time), plain)


def test_a_trained_indicator_is_no_part_of_an_export_unless_asked(taken, tmp_path):
    model, processor = load_model(taken.path)
    model.expert.indicator_embedding.weight.data.fill_(0.1)
    with building(tmp_path / "trained", {}) as partial:
        save_policy(partial, model=model, processor=processor)
    with pytest.raises(OptionError, match="--without-indicator"):
        export_lerobot(tmp_path / "trained", tmp_path / "out")
    assert export_lerobot(tmp_path / "trained", tmp_path / "out", without_indicator=True) == ["the indicator's embedding"]


def test_what_lerobot_would_do_otherwise_is_not_exported(weights, tmp_path):
    taken = take_in(str(written(tmp_path / "in", as_tensorauto(weights))), tmp_path / "ours", options=OPTIONS, tokenizer=WORDS)
    with pytest.raises(OptionError, match="prompt_template"):
        export_lerobot(taken.path, tmp_path / "out")
    asked = dataclasses.replace(OPTIONS, image_fit=ImageFit.TENSORAUTO)
    taken = take_in(str(LEROBOT), tmp_path / "corner", options=asked, tokenizer=WORDS)
    with pytest.raises(OptionError, match=r"image_fit is 'tensorauto'; LeRobot knows 'lerobot' alone"):
        export_lerobot(taken.path, tmp_path / "out")


def test_a_start_takes_the_cameras_of_its_data_and_keeps_the_weights(taken):
    start = pretrained(str(taken.path), cameras=("agentview", "wrist", "side"), state_dim=9, action_dim=6)
    model, words = start_model(start, seed=0)
    assert start.config.cameras == ("agentview", "side", "wrist")
    assert (start.config.state_dim, start.config.action_dim) == (9, 32)
    before, _ = load_model(taken.path)
    assert all(torch.equal(tensor, before.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert words.encode("open the drawer")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"action_dim": 33}, "33 action dimensions, the checkpoint's policy has room for 32"),
        ({"camera_order": ("wrist",)}, "camera_order"),
    ],
)
def test_data_that_does_not_fit_a_start_is_refused(taken, changes, named):
    fitting = {"cameras": ("agentview", "wrist"), "state_dim": 8, "action_dim": 7}
    with pytest.raises(OptionError, match=named):
        pretrained(str(taken.path), **fitting | changes)


def test_two_names_of_one_weight_are_refused():
    with pytest.raises(CheckpointError, match="same weight"):
        names.by_canonical_name(["model.action_in_proj.bias", "action_in_proj.bias"])


def test_states_below_the_bins_are_written_as_openpi_writes_them(taken):
    _, processor = load_model(taken.path)
    edges = np.array([-1.5, -1.0, 0.0, math.nextafter(1.0, 0.0), 1.5], np.float32)
    theirs = np.digitize(edges, bins=np.linspace(-1, 1, 257)[:-1]) - 1
    assert state_bins(edges, config=processor.config).tolist() == theirs.tolist() == [-1, 0, 128, 255, 255]

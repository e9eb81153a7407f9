"""Model cards: what they say, and what they find of how a checkpoint came about."""

from __future__ import annotations

import json
from pathlib import Path

from opentau.loop.card import CardFacts, card_text
from opentau.loop.carding import history

SCORE = {"episodes": 20, "successes": 18, "interval": [0.699, 0.972], "eval_spec": "abc"}
FACTS = CardFacts(
    name="nano-libero-object",
    policy_id="f" * 64,
    environment="libero_object",
    prompts={"libero_object/0": "pick up the alphabet soup and place it in the basket"},
    num_parameters=3_085_991,
    size_mb=12.4,
    cameras=["agentview", "wrist"],
    action_horizon=16,
    num_flow_steps=5,
    infer_ms=18.6,
    learned_from=[("demonstrations-0", {"demonstrations": 25, "tasks": {}})],
    training=[("sft-0", {"updates": 600})],
    is_official=True,
    score=SCORE | {"tasks": {"libero_object/0": SCORE}},
    under={"tasks": SCORE | {"successes": 2, "interval": [0.028, 0.301], "eval_spec": "def"}},
    command="opentau checkpoint card FOLDER",
)


def sealed(folder: Path, stage: str, *, inputs: dict, summary: dict) -> Path:
    folder.mkdir(parents=True)
    manifest = {"id": f"id of {stage}", "files": {}, "content": {"stage": stage, "inputs": inputs, "summary": summary}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_card_says_what_was_measured_with_intervals_and_how_to_make_it_again() -> None:
    text = card_text(FACTS)
    assert "18 of 20, 90 % (70 to 97) on official initial states, which training never saw; eval-spec `abc`" in text
    assert "| libero_object/0 | pick up the alphabet soup and place it in the basket | 18 of 20, 90 % (70 to 97) |" in text
    assert "| tasks | asked for another thing of the same scene" in text
    assert "2 of 20, 10 % (3 to 30) | `def` |" in text
    assert "| demonstrations-0 | demonstrations 25 |" in text
    assert "| a chunk takes | 19 ms on one thread, 5 flow steps |" in text
    assert text.rstrip().endswith("    opentau checkpoint card FOLDER")


def test_what_lies_behind_a_checkpoint_is_found_beside_it(tmp_path: Path) -> None:
    demonstrations = {"demonstrations": 12}
    sealed(tmp_path / "d", "demonstrations-0", inputs={}, summary=demonstrations)
    sealed(tmp_path / "c", "collect-1", inputs={}, summary={"episodes": 70})
    sealed(tmp_path / "s", "sft-0", inputs={"demonstrations": "id of demonstrations-0"}, summary={"updates": 600})
    inputs = {"start": "id of sft-0", "episodes": ["id of demonstrations-0", "id of collect-1", "gone"]}
    checkpoint = sealed(tmp_path / "u", "update-1", inputs=inputs, summary={"updates": 700})
    recorded, trainings = history(checkpoint)
    assert recorded == [("demonstrations-0", demonstrations), ("collect-1", {"episodes": 70})]
    assert trainings == [("sft-0", {"updates": 600}), ("update-1", {"updates": 700})]


def test_a_checkpoint_alone_has_its_own_training_only(tmp_path: Path) -> None:
    alone = sealed(tmp_path / "elsewhere", "update-1", inputs={"start": "gone", "episodes": ["gone"]}, summary={"updates": 7})
    assert history(alone) == ([], [("update-1", {"updates": 7})])

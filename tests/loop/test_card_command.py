"""The model card of a checkpoint that the tiny loop made, measured by the public command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loop.driving import opentau

pytestmark = pytest.mark.cycles


@pytest.mark.timeout(600)
def test_a_card_is_measured_and_written_and_names_a_perturbation_that_does_not_exist(tmp_path: Path) -> None:
    tiny = ("experiment=tiny", "sft.num_updates=5", "data.demonstrations=2")
    checkpoint = opentau(tmp_path, "sft", *tiny)
    card = ("checkpoint", "card", checkpoint["path"], "experiment=tiny", "--episodes", "2", "--out", str(tmp_path / "CARD.md"))
    plain, made = opentau(tmp_path, *card), opentau(tmp_path, *card, "--under", "noise")
    text = (tmp_path / "CARD.md").read_text()
    (played,) = (path.parents[1] for path in tmp_path.glob("**/evaluate-noise-0-*"))
    assert len([*played.glob("stages/evaluate-0-*")]) == len([*tmp_path.glob("**/card-*")]) == 1
    assert made["score"] == plain["score"]
    assert made["score"]["episodes"] == made["under"]["noise"]["episodes"] == 2
    assert made["score"]["eval_spec"] != made["under"]["noise"]["eval_spec"]
    assert f"eval-spec `{made['score']['eval_spec']}`" in text
    assert "| sft-0 | " in text
    assert "updates 5" in text
    assert "| demonstrations-0 | " in text
    with pytest.raises(AssertionError, match="perturbation is any of camera, light, texture, noise, not 'fog'"):
        opentau(tmp_path, *card, "--under", "fog")

"""`opentau eval --video` films the episodes that it scored."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from opentau.loop.ledger import read_results
from tests.loop.driving import opentau

pytestmark = pytest.mark.loop


@pytest.mark.timeout(600)
def test_films_show_the_scored_episodes_from_beginning_to_end(tmp_path: Path, undisturbed: Path) -> None:
    checkpoint = next((undisturbed / "stages").glob("sft-0-*"))
    words = ("experiment=tiny", "--episodes=3")
    score = opentau(tmp_path, "eval", str(checkpoint), *words, "--video=2")
    scored = read_results(next(tmp_path.glob("eval-*/stages/evaluate-0-*/episodes.jsonl")))
    assert [Path(path).name for path in score["videos"]] == [
        f"tabletop-0-{number:03d}-{scored[number].outcome}.mp4" for number in range(2)
    ]
    for path, result in zip(score["videos"], scored, strict=False):
        with av.open(path) as film:
            rate, frames = film.streams.video[0].average_rate, list(film.decode(video=0))
        assert len(frames) == result.num_steps
        assert frames[0].height == 256
        assert rate == 20
    again = opentau(tmp_path, "eval", str(checkpoint), *words)
    assert again == {name: value for name, value in score.items() if name != "videos"}

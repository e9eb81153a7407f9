"""What a screen reads of a run's directory is what its stages wrote: pictures, sources, values, labels, sizes and inputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opentau.checkpoint import building, write_json
from opentau.cli.run_files import LocalRunFiles
from opentau.data.frames import FrameTable
from opentau.data.labels import LABELLING_FILE, LABELS_FOLDER, Labels
from opentau.data.lerobot.dataset import Dataset
from opentau.labelfacts import label_facts
from opentau.types import Source

SOURCES = (Source.AUTONOMOUS,) * 4 + (Source.INTERVENTION,) * 2


@pytest.fixture
def run(make_episode, open_writer, tmp_path: Path) -> Path:
    """A run of three complete stages: demonstrations, episodes with an intervention, labels."""
    stages = tmp_path / "stages"
    demonstrations = [
        make_episode(n, (Source.DEMONSTRATION,) * 5, episode_id=f"demonstrations/{n:06d}", policy_version="") for n in range(2)
    ]
    for name, episodes in (("demonstrations-0", demonstrations), ("collect-1", [make_episode(7, SOURCES), make_episode(8)])):
        with building(stages / f"{name}-abc", {"content": {"inputs": {"seed": 3}, "summary": {}}}) as partial:
            writer = open_writer(partial)
            for index, episode in enumerate(episodes):
                writer.add(index, episode)
            writer.finish()
    datasets = [Dataset(stages / f"{name}-abc", with_images=False) for name in ("demonstrations-0", "collect-1")]
    table = FrameTable.from_datasets(datasets)
    number = np.arange(len(table), dtype=np.float32)
    labels = Labels.of_table(
        table, returns=-number / 99, values=-number / 100, advantages=number - 3, indicator=number % 2, weight=number
    )
    with building(stages / "label-1-abc", {"content": {"inputs": {"seed": 3}, "summary": {}}}) as partial:
        labels.write(partial / LABELS_FOLDER, info={})
        write_json(partial / LABELLING_FILE, {"thresholds": {"tabletop/0": 0.5}, "notes": []})
    named = {
        name: {"id": name, "directory": f"{name}-abc"} for name in ("demonstrations-0", "collect-1", "label-1", "update-1")
    }
    (tmp_path / "state.json").write_text(json.dumps({"stages": named}))
    return tmp_path


def test_complete_stages_are_listed_with_their_sizes_and_inputs(run: Path) -> None:
    stages = LocalRunFiles(run).stages()
    assert set(stages) == {"demonstrations-0", "collect-1", "label-1"}, "update-1 is not complete"
    assert stages["collect-1"].inputs == {"seed": 3}
    folder = run / "stages" / "collect-1-abc"
    assert stages["collect-1"].num_bytes == sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"
    )
    assert LocalRunFiles(run / "nowhere").stages() == {}


def test_a_film_holds_the_chosen_frames_and_who_acted(run: Path, make_episode) -> None:
    files, episode = LocalRunFiles(run), make_episode(7, SOURCES)
    film = files.film("collect-1", "collect-1/000007", num_pictures=3, camera="wrist")
    assert film is not None
    assert (film.ticks, film.camera, film.cameras) == ((0, 2, 5), "wrist", ("agentview", "wrist"))
    np.testing.assert_array_equal(film.pictures, episode.images["wrist"][[0, 2, 5]])
    np.testing.assert_array_equal(film.source, episode.source)
    np.testing.assert_allclose(film.values, -np.arange(10, 16) / 100, rtol=1e-6)
    np.testing.assert_allclose(film.advantages, np.arange(10, 16) - 3.0)
    assert len(files.film("collect-1", "collect-1/000007", num_pictures=0).pictures) == 0
    assert files.film("collect-1", "collect-1/000099", num_pictures=1) is None
    assert files.film("gate-1", "gate-1/000000", num_pictures=1) is None


def test_labels_are_summed_up_as_the_stage_itself_would(run: Path) -> None:
    number = np.arange(22, dtype=np.float32)
    source = np.repeat([0, 1, 2, 1], [10, 4, 2, 6])
    expected = label_facts(
        iteration=1,
        source=source,
        advantages=number - 3,
        indicator=number % 2,
        values=-number / np.float32(100),
        returns=-number / np.float32(99),
        thresholds={"tabletop/0": 0.5},
    )
    facts = LocalRunFiles(run).labels(1)
    assert facts is not None
    assert facts.counts == expected.counts
    assert facts.positive == expected.positive
    assert np.array(facts.calibration) == pytest.approx(np.array(expected.calibration), rel=1e-5)
    assert LocalRunFiles(run).labels(2) is None


def test_a_station_shows_what_lies_in_its_folder(run: Path) -> None:

    folder = run / "live" / "station-0-1"
    folder.mkdir(parents=True)
    assert LocalRunFiles(run).live("station-0-1") is None
    Image.new("RGB", (8, 6), (200, 10, 10)).save(folder / "agentview.jpg")
    (folder / "shown.json").write_text(json.dumps({"episode_id": "e", "tick": 4, "cameras": ["agentview"], "state": [1.0]}))
    live = LocalRunFiles(run).live("station-0-1")
    assert live is not None
    assert (live.episode_id, live.tick, live.state) == ("e", 4, (1.0,))
    assert live.pictures["agentview"].shape == (6, 8, 3)
    (folder / "shown.json").write_text("{")
    assert LocalRunFiles(run).live("station-0-1") is None

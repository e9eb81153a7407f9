"""A run's numbers read back from TensorBoard's own files are those of its event log."""

from __future__ import annotations

import pytest

from opentau import events
from opentau.cli.main import main
from opentau.events import EventLog, EventReader
from opentau.loop.tensorboard import TensorBoardSink
from tests.unit.report.synthetic_run import run_events

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars_of(folder) -> dict[str, list[tuple[int, float]]]:
    read = event_accumulator.EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(point.step, point.value) for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_every_metric_and_score_of_a_run_comes_back(tmp_path):
    emitted = list(run_events())
    with TensorBoardSink(tmp_path) as sink:
        count = sink.write(emitted)
    trained = [event for event in emitted if event["kind"] == events.TRAIN_METRICS and event["stage"] == "update-1"]
    scalars = scalars_of(sink.directory / "update-1")
    assert scalars
    for name, points in scalars.items():
        wanted = [(event["update"], event["metrics"][name]) for event in trained if name in event["metrics"]]
        assert points == [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted]
    (scores,) = scalars_of(sink.directory / "scores" / events.FINAL).values()
    assert scores == [(0, pytest.approx(23 / 50)), (2, pytest.approx(36 / 50))]
    assert count == sum(len(event.get("metrics", ())) or event["kind"] == events.EVALUATED for event in emitted)


def test_the_command_writes_a_run_again_without_doubling_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path))
    with EventLog(tmp_path / "run-1", "loop") as log:
        log.emit(events.RUN_STARTED, run_id="run-1", command="", plan=["sft-0"], resumed=False)
        log.emit(events.TRAIN_METRICS, stage="sft-0", update=20, metrics={"train/loss": 0.5})
        log.emit(events.RUN_FINISHED, seconds=1.0, cpu_seconds=1.0)
    for _ in range(2):
        assert main(["tensorboard", "run-1", "--follow"]) == 0
    assert "1 numbers: tensorboard --logdir" in capsys.readouterr().out
    assert scalars_of(tmp_path / "run-1/tensorboard/sft-0") == {"train/loss": [(20, 0.5)]}
    assert len(EventReader(tmp_path / "run-1").read_new()) == 3

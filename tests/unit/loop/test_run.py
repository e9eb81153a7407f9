"""Run directories: stages are made once, locked to one process, steered by commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentau import control, events
from opentau.control import Command, LocalRunClient
from opentau.errors import RunError
from opentau.events import EventReader
from opentau.loop.run import Run, RunStopped, StageWork, is_running, open_run


def open_in(directory: Path, **options):
    return open_run(directory, config={"seed": 0}, command="test", expected_s={"a-0": 1.0}, **options)


def make_stage(run: Run, name: str = "a-0", *, inputs: dict | None = None, text: str = "x", fail: bool = False):
    def work(work: StageWork) -> None:
        (work.scratch / "attempts").open("a").write("|")
        (work.output / "file").write_text(text)
        if fail:
            raise ValueError("interrupted")
        work.summary.update(attempts=len((work.scratch / "attempts").read_text()))

    return run.stage(name, iteration=0, inputs=inputs or {}, work=work)


def test_a_complete_stage_is_reused_and_a_changed_input_makes_another(tmp_path: Path) -> None:
    with open_in(tmp_path) as run:
        first = make_stage(run, text="one")
        assert make_stage(run, text="two").id == first.id
        assert (first.path / "file").read_text() == "one"
        other = make_stage(run, inputs={"option": 1}, text="two")
    assert other.path != first.path
    assert other.id != first.id


def test_equal_work_has_equal_ids_in_another_run(tmp_path: Path) -> None:
    with open_in(tmp_path / "one") as one, open_in(tmp_path / "two") as two:
        assert make_stage(one).id == make_stage(two).id


def test_an_interrupted_stage_keeps_its_scratch_and_is_done_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="interrupted"), open_in(tmp_path) as run:
        make_stage(run, fail=True)
    with open_in(tmp_path) as run:
        product = make_stage(run)
    assert product.summary["attempts"] == 2
    assert not (tmp_path / "work" / product.path.name).exists()


def test_a_run_belongs_to_one_process(tmp_path: Path) -> None:
    with open_in(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(RunError, match="already being run"), open_in(tmp_path):
            pass
    assert not is_running(tmp_path)


def test_a_stop_ends_before_the_next_stage_and_is_acknowledged(tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="before b-0"), open_in(tmp_path) as run:
        make_stage(run)
        LocalRunClient(tmp_path).send(Command(verb=control.STOP))
        make_stage(run, "b-0")
    kinds = [(event["kind"], event.get("state")) for event in EventReader(tmp_path).read_new()]
    assert (events.COMMAND, "done") in kinds
    assert kinds[-1][0] == events.RUN_STOPPED


def test_a_command_that_wants_one_stage_ends_after_it(tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="a-0 is done"), open_in(tmp_path, last_stage="a-0") as run:
        make_stage(run)
    assert not is_running(tmp_path)


def test_a_persons_decision_on_a_gate_is_kept(tmp_path: Path) -> None:
    with open_in(tmp_path) as run:
        run.steering.last_iteration = 1
        make_stage(run)
        assert run.gate_override(1) is None
        LocalRunClient(tmp_path).send(Command(verb=control.PROMOTE, args={"iteration": 1}))
        run.obey_commands()
        assert run.gate_override(1) is True
        LocalRunClient(tmp_path).send(Command(verb=control.ROLLBACK, args={"iteration": 1}))
        run.obey_commands()
    with open_in(tmp_path) as run:
        assert run.gate_override(1) is False

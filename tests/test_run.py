"""The run folder: whole or absent, never silently mixed, taken up after an interruption."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from keras_transfer_tests.records import run_record

from keras_transfer.errors import RunError, UsageError
from keras_transfer.run import new_run, open_run

REQUEST = {"source": "photos", "settings": {"seed": 0, "epochs": 3}}


def finish(writer, accuracy=0.9):
    (writer.path / "model.keras").write_bytes(b"model")
    writer.write_record(run_record(metrics={"test": {"accuracy": accuracy}}))


def test_a_finished_run_appears_whole_and_without_traces(tmp_path):
    with new_run(tmp_path / "run", REQUEST) as writer:
        assert not (tmp_path / "run").exists()
        writer.write_rows(
            "history.csv", [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "val_loss": 3.0}]
        )
        (writer.state / "checkpoint").write_text("x")
        finish(writer)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["history.csv", "model.keras", "run.json"]
    assert (tmp_path / "run" / "history.csv").read_text().splitlines()[0] == "epoch,loss,val_loss"
    assert open_run(tmp_path / "run").info["metrics"]["test"]["accuracy"] == 0.9


def test_an_interrupted_run_leaves_nothing_under_its_name_and_is_taken_up(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with new_run(tmp_path / "run", REQUEST) as writer:
            (writer.state / "checkpoint").write_text("half")
            raise KeyboardInterrupt
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="unfinished run"):
        open_run_folder = tmp_path / "run"
        open_run_folder.mkdir()
        open_run(open_run_folder)
    with new_run(tmp_path / "run", REQUEST) as writer:
        assert writer.resumed
        assert (writer.state / "checkpoint").read_text() == "half"
        finish(writer)
    assert open_run(tmp_path / "run").info["schema"] == 1


def test_another_request_is_not_mixed_with_an_unfinished_one(tmp_path):
    with pytest.raises(ValueError, match="stop"):
        with new_run(tmp_path / "run", REQUEST) as writer:
            (writer.state / "checkpoint").write_text("half")
            raise ValueError("stop")
    other = {"source": "photos", "settings": {"seed": 1, "epochs": 3}}
    with pytest.raises(UsageError, match=r"seed: 0 then, 1 now"):
        with new_run(tmp_path / "run", other):
            pytest.fail("the other run's folder was taken")
    with new_run(tmp_path / "run", other, overwrite=True) as writer:
        assert not writer.resumed
        finish(writer)


def test_a_mistake_without_any_work_done_leaves_nothing_in_the_way(tmp_path):
    with pytest.raises(ValueError, match="stop"):
        with new_run(tmp_path / "run", REQUEST) as writer:
            assert writer.state.is_dir()
            raise ValueError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_replaced_only_on_request_and_only_at_the_end(tmp_path):
    with new_run(tmp_path / "run", REQUEST) as writer:
        finish(writer, 0.5)
    with pytest.raises(UsageError, match="--overwrite"):
        with new_run(tmp_path / "run", REQUEST):
            pytest.fail("a finished run was opened for writing")
    with pytest.raises(ValueError, match="stop"):
        with new_run(tmp_path / "run", REQUEST, overwrite=True):
            raise ValueError("stop")
    assert open_run(tmp_path / "run").info["metrics"]["test"]["accuracy"] == 0.5
    with new_run(tmp_path / "run", REQUEST, overwrite=True) as writer:
        finish(writer, 0.8)
    assert open_run(tmp_path / "run").info["metrics"]["test"]["accuracy"] == 0.8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_a_folder_of_something_else_is_never_touched(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="not a run folder"):
            with new_run(tmp_path / "thesis", REQUEST, overwrite=overwrite):
                pytest.fail("opened")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "precious"


def test_two_processes_never_write_one_run(tmp_path):
    code = (
        "import sys; from keras_transfer.run import new_run\n"
        "with new_run(sys.argv[1], {}): print('open', flush=True); sys.stdin.read(1)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert child.stdout.readline() == "open\n"
        with pytest.raises(UsageError, match="another process"):
            with new_run(tmp_path / "run", REQUEST):
                pytest.fail("opened twice")
    finally:
        child.kill()
        child.wait()
    with new_run(tmp_path / "run", REQUEST, overwrite=True) as writer:  # the lock died with its process
        finish(writer)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UsageError, match="cannot be written"):
        with new_run(tmp_path / "file" / "run", REQUEST):
            pytest.fail("opened")


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        ("{", RunError, "cannot be read"),
        ("[]", RunError, "no schema"),
        (json.dumps({"schema": 99}), RunError, "newer keras-transfer"),
        (json.dumps({"schema": 1}), RunError, "model.keras is missing"),
    ],
)
def test_a_damaged_run_is_refused(tmp_path, content, error, said):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(error, match=said):
        open_run(tmp_path)


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        open_run(tmp_path / "missing")
    with pytest.raises(UsageError, match="not a run folder"):
        open_run(tmp_path)


def test_nan_never_reaches_run_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        with new_run(tmp_path / "run", REQUEST) as writer:
            writer.write_record(run_record(metrics={"test": {"accuracy": float("nan")}}))


def test_another_tools_run_json_is_not_ours_to_replace(tmp_path):
    other = tmp_path / "run"
    other.mkdir()
    (other / "run.json").write_text('{"id": 7}')
    with pytest.raises(UsageError, match="not a run folder"):
        with new_run(other, REQUEST, overwrite=True):
            pytest.fail("it was taken")
    assert (other / "run.json").read_text() == '{"id": 7}'


def test_an_interruption_at_the_last_moment_loses_neither_run(tmp_path, monkeypatch):
    with new_run(tmp_path / "run", REQUEST) as writer:
        finish(writer, 0.5)
    rename = Path.rename

    def interrupted(self, target):
        if self.name == ".run.partial":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            with new_run(tmp_path / "run", REQUEST, overwrite=True) as writer:
                finish(writer, 0.9)
    assert open_run(tmp_path / "run").info["metrics"]["test"]["accuracy"] == 0.5
    assert (tmp_path / ".run.partial" / "run.json").is_file()
    with new_run(tmp_path / "run", REQUEST, overwrite=True) as writer:
        finish(writer, 0.7)
    assert open_run(tmp_path / "run").info["metrics"]["test"]["accuracy"] == 0.7
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

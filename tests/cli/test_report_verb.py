"""``keras-transfer report``."""

import json
import shlex
import shutil
from pathlib import Path

import click

from keras_transfer.cli import cli
from keras_transfer.run import open_run
from keras_transfer.testing.command import call
from keras_transfer.workflow.report_facts import command

FILES = Path(__file__).parents[1] / "files" / "before_contracts"


def test_the_command_on_the_page_is_understood():
    record = open_run(FILES / "run").record
    _, verb, *arguments = shlex.split(command(record, "again"))
    told = cli.get_command(click.Context(cli), verb).make_context(verb, arguments).params
    settings = record.request.settings.flat()
    assert {
        name: told[name] for name in ("backbone", "image_size", "engine", "strategy", "decode", "refit")
    } == {
        name: settings[name] for name in ("backbone", "image_size", "engine", "strategy", "decode", "refit")
    }


def test_one_run_several_runs_and_none(tmp_path):
    one, other = (Path(shutil.copytree(FILES / "run", tmp_path / name)) for name in ("one", "other"))
    assert call("report", one, "--bundle", FILES / "bundle")[0] == f"Report: {one / 'report.html'}\n"
    output = tmp_path / "both.html"
    found = json.loads(call("report", one, other, "-o", output, "--json")[0])
    assert found == {"output": str(output), "runs": [str(one), str(other)], "bytes": output.stat().st_size}
    assert "Missing argument 'RUN [RUN ...]'" in call("report", code=2)[1]
    said = call("report", tmp_path, code=2)[1]
    assert f"{tmp_path} is not a run folder: it has no run.json." in said.replace("\n", " ")

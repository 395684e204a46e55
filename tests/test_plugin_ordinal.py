"""examples/plugin_ordinal: a task with a loss of its own is fine-tuned by the core, and its guard asks its metric."""

import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers_plugins import as_installed
from keras_transfer_tests import SMALL

from keras_transfer.workflow.evaluate import evaluate
from keras_transfer.workflow.train import train

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "plugin_ordinal"
TEXT = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


@pytest.fixture
def ordinal(tmp_path, monkeypatch):
    """The example, as if it were installed."""
    site = tmp_path / "site"
    site.mkdir()
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    as_installed(site, project)
    for place in (site, EXAMPLE / "src"):
        monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLE / "src"))


def test_the_document_shows_the_example():
    source = (EXAMPLE / "src" / "kt_ordinal" / "task.py").read_text(encoding="utf-8")
    assert f"```python\n{source}```" in TEXT


@pytest.mark.usefixtures("ordinal")
def test_the_loss_costs_more_the_further_a_grade_is_off():
    from kt_ordinal.task import EarthMoversDistance

    logits = 20.0 * np.eye(4, dtype=np.float32)
    truth = np.eye(4, dtype=np.float32)[[0] * 4]
    costs = EarthMoversDistance(reduction=None)(truth, logits)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(costs), [0, 1, 2, 3], atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("ordinal", "eagerly")
def test_the_network_is_fine_tuned_with_it_and_judged_by_the_tasks_metric(tmp_path):
    from kt_ordinal.sample import brightness

    (tmp_path / "data").mkdir()
    data = brightness(tmp_path / "data")
    settings = {**SMALL, "strategy": "finetune", "epochs": 2, "learning_rate": 1e-3}
    run = train(data, tmp_path / "run", task="ordinal", **settings)
    notes = run.record.contract.notes
    assert notes["guard"]["metric"] == "grades_off" and notes["gradient"]["trained_layers"]
    assert run.record.contract.names == ("0_dark", "1_dim", "2_bright")
    losses = [
        float(row.split(",")[1]) for row in (run.path / "history.csv").read_text().splitlines()[1:] if row
    ]
    assert np.isfinite(losses).all()
    measured = evaluate(run)
    assert 0 <= measured["grades_off"] <= 2 and measured["accuracy"] >= 0.5


@pytest.mark.nightly
@pytest.mark.usefixtures("ordinal")
def test_the_example_keeps_every_promise():
    from keras_transfer.testing import CHECKS, Kit

    kit = Kit("ordinal", settings={"backbone": "tiny"})
    for name in CHECKS:
        kit.check(name)

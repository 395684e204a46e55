"""Promises of a task that the core's verbs rely on: ``train --dry-run``, ``export`` and ``verify``, ``explain``."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from keras_transfer.cli.planning import show_plan
from keras_transfer.export import load_bundle
from keras_transfer.freeze_plan import HEAD
from keras_transfer.run import PLOTS
from keras_transfer.testing.command import call
from keras_transfer.testing.promises import Broken, no_network, require
from keras_transfer.testing.trial import Trial
from keras_transfer.workflow.plan import plan_training
from keras_transfer.workflow.verify import verify


def the_plan_is_told(trial: Trial) -> None:
    """`train --dry-run` tells data, network and files as the training then has them, offline, and writes nothing.

    A task with a ``training_plan`` follows it.
    """
    source, before = trial.source, _files(trial.folder)
    with no_network():
        plan = plan_training(
            source,
            task=trial.name,
            task_options=trial.options,
            settings=trial.settings(strategy=trial.strategy),
        )
    new = sorted(path.name for path in _files(trial.folder) - before)
    require(not new, f"planning wrote {', '.join(new)}.")
    json.dumps(plan, allow_nan=False)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        show_plan(plan, None)
    require(
        plan["network"]["name"] in shown.getvalue(), "what is shown of the plan does not name the network."
    )
    record = trial.run.record
    require(
        plan["data"]["splits"] == record.data.summary["splits"],
        "the plan counts other images than the training.",
    )
    if not plan["plan"]:
        return
    followed = record.contract.notes.get("strategy", plan["strategy"])
    require(
        plan["strategy"] == followed,
        f"training_plan says {plan['strategy']!r}, and the training followed {followed!r}.",
    )
    told = {name.rstrip("/") for name in plan["files"]}
    found = {path.name for path in trial.run.path.iterdir()} | {PLOTS}
    require(
        told == found,
        f"the plan says that a run folder has {', '.join(sorted(told))}; this one has {', '.join(sorted(found))}.",
    )
    if record.contract.notes.get("plan"):
        planned, done = (_trained(each) for each in (plan["plan"][0], record.contract.notes["plan"]))
        require(
            planned == done,
            f"training_plan trains {', '.join(sorted(planned)) or 'nothing'} below the head, and the training "
            f"{', '.join(sorted(done)) or 'nothing'}.",
        )


def _files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def _trained(phase: Mapping[str, Any]) -> set[str]:
    return {row["block"] for row in phase["blocks"] if row["trainable"] and row["block"] != HEAD}


def decisions_fit(trial: Trial) -> None:
    """`decide` gives one decision per image (an array or a list), twice the same for the same outputs; or nothing."""
    task = trial.trained[0]
    first, second = (task.decide(trial.outputs) for _ in range(2))
    require((first is None) == (second is None), "decide gave decisions once, and None the other time.")
    if first is not None and second is not None:
        require(np.array_equal(first, second), "decide gave two decisions for the same outputs.")


def the_bundle_is_proven(trial: Trial) -> None:
    """The run exports to TFLite, the bundle's script passes its self-test, and the bundle is verified on its images."""
    report, bundle = trial.bundle
    require(report.passed, "the exported file does not answer like the Keras model.")
    script = load_bundle(bundle).record.script
    if script is not None:
        done = subprocess.run(
            [sys.executable, script, "--self-test"], cwd=bundle, capture_output=True, text=True, timeout=600
        )
        said = " ".join((done.stderr or done.stdout).split())
        require(done.returncode == 0, f"`python {script} --self-test` of the bundle failed: {said}")
        passed = done.stdout.rstrip().endswith("passed")
        require(passed, f"`python {script} --self-test` of the bundle does not end with 'passed': {said}")
    found = verify(bundle, trial.measured, split="all")
    wrong = [*found.reasons, *(reason for one in found.artefacts for reason in one.reasons)]
    require(found.passed, f"the bundle is not verified: {' '.join(wrong)}")


def it_is_explained_or_refused(trial: Trial) -> None:
    """`explain` draws what a run with one probability a label looks at, and refuses any other with a sentence."""
    photo, looks = trial.folder / "asked.png", trial.folder / "looks"
    Image.fromarray(load_sample_image("china.jpg")).save(photo)
    contract = trial.run.record.contract
    single = contract.kind == "probabilities" and len(contract.shape) == 1
    try:
        told, said = call("explain", trial.run.path, photo, "--output", looks, code=(0, 2) if single else 2)
    except AssertionError as error:
        raise Broken(f"`explain` ended in {' '.join(str(error).split())}") from error
    drawn = (looks / photo.name).is_file()
    require(
        drawn == bool(told.strip()), f"`explain` drew {'a' if drawn else 'no'} picture and said {told!r}."
    )
    require(drawn or len(said) > 20, f"`explain` was refused without a sentence: {said!r}")

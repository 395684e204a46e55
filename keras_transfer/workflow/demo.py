"""The whole street on real images: the ELPV solar cells, from files to proven artefacts.

ELPV (Deitsch et al. 2019, arXiv:1807.02894): 2,624 electroluminescence images of solar cells, 300x300 grey, each with
a probability of being defective (0, 1/3, 2/3, 1). CC BY-NC-SA 4.0; installed by the extra ``demo``, never copied.
"""

from __future__ import annotations

import csv
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path

from keras_transfer.errors import DataError, UsageError
from keras_transfer.evaluation.plots import artefact_chart
from keras_transfer.export import ExportReport
from keras_transfer.outputs import Outputs
from keras_transfer.run import Run
from keras_transfer.settings import TrainSettings
from keras_transfer.workflow.export import export_run
from keras_transfer.workflow.train import train

IMAGES = 2624
DEFECTIVE = 0.5
"""A cell counts as defective above this probability."""


@dataclass(frozen=True)
class DemoResult:
    """The run, the report of its export, and the picture that compares the artefacts."""

    run: Run
    report: ExportReport
    picture: Path


def run_demo(output: str | Path, *, seed: int = 0) -> DemoResult:
    """Train on three quarters of the cells, measure on the rest, export four ways, compare.

    Args:
        output: a folder; ``cells.csv``, ``run/`` and ``export/`` are made in it, those of an earlier demo replaced.
        seed: of the split.

    Raises:
        UsageError: the images are not installed, or something is in the way that no demo made.
        ParityError: an artefact does not answer like the Keras model.
    """
    folder = Path(output)
    images = elpv_folder()
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "cells.csv"
    others = [name for name in ("run", "export") if (folder / name).exists()]
    if others and not table.exists():
        raise UsageError(
            f"{folder} holds {' and '.join(others)}, which no demo made. Choose another --output."
        )
    Outputs().write(table, cell_table(images))
    settings = TrainSettings.of(
        backbone="efficientnet_lite0",
        image_size=224,
        strategy="probe",
        val_fraction=0.0,  # cross-validation chooses: three quarters are few, none is to spare
        test_fraction=0.25,
        image_root=str(images),
        seed=seed,
    )
    run = train(table, folder / "run", settings=settings, overwrite=True)
    report = export_run(
        run,
        folder / "export",
        precisions=("float32", "float16", "int8"),
        overwrite=True,
        title="Defective solar cells",
        data_licence="CC BY-NC-SA 4.0 (ELPV, Deitsch et al. 2019)",
    )
    picture = run.path / "plots" / "artefacts.png"
    artefact_chart(report.to_dict()["artefacts"], picture)
    return DemoResult(run, report, picture)


def elpv_folder() -> Path:
    """Where the installed ELPV images are. Raises ``UsageError`` when they are not installed."""
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or not found.submodule_search_locations:
        raise UsageError("The solar cells are not installed: pip install 'keras-transfer[demo]' (90 MB).")
    return Path(found.submodule_search_locations[0]) / "data"


def cell_table(images: Path) -> str:
    """A CSV of the cells: ``path,label``. Raises ``DataError`` when the package is not what is expected."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label"])
    rows = [
        line.split()
        for line in (images / "labels.csv").read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]
    if len(rows) != IMAGES or any(len(row) != 3 for row in rows):
        raise DataError(f"{images / 'labels.csv'}: {IMAGES} rows of path, probability and type are expected.")
    for path, probability, _ in rows:
        writer.writerow([path, "defective" if float(probability) > DEFECTIVE else "intact"])
    return text.getvalue()

"""Look for what is wrong with data before anything is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer import options as option_tools
from keras_transfer.checking import cleaning
from keras_transfer.checking.everything import check_table
from keras_transfer.checking.grouped import group_names, groups_csv
from keras_transfer.checking.issues import KINDS, SEVERITIES, Issue
from keras_transfer.checking.page import html_page, issues_csv
from keras_transfer.checking.pictures import Pictures, look_at
from keras_transfer.data import ImageTable, load_data
from keras_transfer.errors import UsageError
from keras_transfer.features import extract
from keras_transfer.features.pooling import feature_model
from keras_transfer.inference import engines
from keras_transfer.outputs import Outputs
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import DataSettings, EngineSettings, ModelSettings
from keras_transfer.workflow.train import backbone_for, expected_preprocessing, preprocessing_for

PAGE, TABLE, GROUPS = "report.html", "issues.csv", "groups.csv"


@dataclass(frozen=True, eq=False)
class CheckResult:
    """What :func:`check` gives.

    Attributes:
        issues: every finding, the gravest kind first, and of a kind the worst first.
        clusters: near-duplicates that belong together, rows of ``table``.
        table: the images.
        computed: how many images were run through the network; the others were in the cache.
    """

    issues: list[Issue]
    clusters: list[list[int]]
    table: ImageTable
    computed: int

    def counts(self) -> dict[str, int]:
        """Findings by kind, in the order of :data:`keras_transfer.checking.issues.KINDS`."""
        found = Counter(one.kind for one in self.issues)
        return {name: found[name] for name in KINDS if found[name]}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        severities = Counter(one.severity for one in self.issues)
        return {
            "source": self.table.source,
            "images": len(self.table),
            "computed": self.computed,
            "splits": "given" if self.table.given_splits else "made",
            "severities": {name: severities[name] for name in SEVERITIES},
            "counts": self.counts(),
            "issues": [one.to_dict() for one in self.issues],
            "groups": [[self.table.images.name(row) for row in rows] for rows in self.clusters],
        }

    def groups_csv(self) -> str:
        """``path,group``: the clusters of near-duplicates, as ``train --groups`` takes them."""
        return groups_csv(self.table, self.clusters)

    def write_report(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``report.html``, ``issues.csv`` and ``groups.csv``; gives the page.

        Raises ``UsageError`` where a file is there that this tool did not write, unless ``overwrite``.
        """
        folder = Path(folder)
        places = _report_places(folder, self.table.source, overwrite)
        for name, content in self.report_files().items():
            places.write(folder / name, content)
        return folder / PAGE

    def report_files(self) -> dict[str, bytes]:
        """What :meth:`write_report` writes, by name; the page last."""
        page = html_page(self.table, self.issues, title=f"Check of {self.table.source}", facts=self._facts())
        contents = {TABLE: issues_csv(self.issues), GROUPS: self.groups_csv(), PAGE: page}
        return {name: text.encode("utf-8", "surrogateescape") for name, text in contents.items()}

    def write_cleaned(
        self, path: str | Path, drop: Sequence[str], *, overwrite: bool = False
    ) -> dict[str, int]:
        """Write a CSV without the images of some kinds of findings, and ``NAME.left_out.csv`` beside it.

        Args:
            path: a ``.csv``.
            drop: of :data:`keras_transfer.checking.issues.DROPS`.

        Returns:
            How many images were left out for each kind.

        Raises:
            UsageError: another suffix, an unknown kind, a file that is there, or images of an array.
        """
        path = Path(path)
        places = cleaned_places(path, drop, self.table.source, overwrite)
        without = cleaning.left_out(self.issues, drop)
        text = cleaning.cleaned_csv(
            self.table, without, group_names(self.clusters), path=path, splits=self.table.given_splits
        )
        places.write(
            left_out_of(path), cleaning.left_out_csv(self.table, without).encode("utf-8", "surrogateescape")
        )
        places.write(path, text.encode("utf-8", "surrogateescape"))
        return dict(Counter(issue.kind for issue in without.values()))

    def needs_root(self, path: str | Path) -> Path | None:
        """The ``--image-root`` that a cleaned table at ``path`` has to be trained with; None: it needs none."""
        images: Any = self.table.images
        return images.root if cleaning.needs_root(self.table, Path(path)) else None

    def _facts(self) -> dict[str, str]:
        counts = {split: len(self.table.indices(split)) for split in ("train", "val", "test")}
        made = "given" if self.table.given_splits else "as train makes them"
        return {
            "images": str(len(self.table)),
            "splits": ", ".join(f"{count} {split}" for split, count in counts.items()) + f" ({made})",
            "classes": str(len(self.table.classes)) if self.table.classes else "numbers",
        }


def check(
    source: Any,
    *,
    model: ModelSettings | None = None,
    data: DataSettings | None = None,
    engine: str = "auto",
    engine_precision: str = "float32",
    seed: int = 0,
) -> CheckResult:
    """Look for broken files, copies, near-duplicates, wrong labels, outliers, shortcuts and imbalance.

    Nothing is changed, moved or deleted.

    Args:
        source: what ``load_data`` takes.
        model: the network whose features images are compared by.
        data: how the data are read; unreadable files are findings, however many.
        engine, engine_precision: what computes, see ``features.extract``.
        seed: of the splits and folds.

    Raises:
        UsageError, DataError: the data cannot be read at all; the message says what to do.
    """
    model, data = model or ModelSettings(), data or DataSettings()
    engines.require(EngineSettings(engine, engine_precision))
    table = table_to_check(source, data, seed, expected_preprocessing(model))
    backbone = backbone_for(model)
    found = extract(
        table,
        feature_model(backbone),
        preprocessing=preprocessing_for(model, backbone.input_shape[1:3]),
        engine=engine,
        engine_precision=engine_precision,
    )
    return result_of(table, found.values, look_at(table), seed, found.computed)


def table_to_check(
    source: Any, data: DataSettings, seed: int, preprocessing: Preprocessing | None = None
) -> ImageTable:
    """Data as they are checked: what ``load_data`` refuses elsewhere is a finding. Raises as it does."""
    option_tools.check(data)
    values = {**vars(data), "max_skipped": 1.0, "min_per_class": 0, "min_classes": 1, "torn_groups": True}
    return load_data(source, seed=seed, preprocessing=preprocessing, **values)


def result_of(
    table: ImageTable, features: np.ndarray, pictures: Pictures, seed: int, computed: int
) -> CheckResult:
    """What is found in a table, its features ``(N, D)`` and pictures, wherever these were computed."""
    result = check_table(table, features, pictures, seed)
    return CheckResult(result.issues, result.clusters, table, computed)


def _report_places(folder: Path, source: str, overwrite: bool) -> Outputs:
    places = Outputs([source], overwrite=overwrite)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a folder is expected. Choose another --output.")
    places.check(*(folder / name for name in (PAGE, TABLE, GROUPS)))
    return places


def check_places(folder: str | Path | None, source: Any, overwrite: bool) -> None:
    """Whether the report may be written, before any work is done. Raises ``UsageError``."""
    if folder is not None:
        _report_places(Path(folder), source, overwrite)


def cleaned_places(path: Path, drop: Sequence[str], source: Any, overwrite: bool) -> Outputs:
    """Whether a cleaned table may be written, before any work is done. Raises ``UsageError``."""
    cleaning.require_drops(drop)
    if path.suffix.lower() != ".csv":
        raise UsageError(f"--write {path}: a file that ends in .csv is expected.")
    places = Outputs([source], overwrite=overwrite, option="--write")
    places.check(path, left_out_of(path))
    return places


def left_out_of(path: Path) -> Path:
    """Where it is said what a cleaned table is without."""
    return path.with_name(f"{path.stem}.left_out.csv")

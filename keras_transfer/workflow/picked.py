"""Images that are to be labelled: as a table, a contact sheet, and tasks of a labelling tool."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_transfer.errors import UsageError
from keras_transfer.evaluation.plots_picks import picks_sheet
from keras_transfer.outputs import Outputs
from keras_transfer.picking import label_studio
from keras_transfer.preprocessing import Preprocessing

TABLE, SHEET, TASKS, INTERFACE = "picks.csv", "picks.png", "label_studio.json", "label_studio.xml"
COLUMNS = ("path", "label", "rank", "score", "expected", "probability", "second", "margin", "distance")


@dataclass(frozen=True)
class Pick:
    """An image to label.

    Attributes:
        path: where it is.
        name: the same, relative to ``Picks.root``, with ``/``.
        score: by which it was chosen: doubt from 0 to 1; with ``spread`` the distance. None: no distance is known.
        expected: what the model would answer: a class, any number of labels, or numbers.
        probability: of the class; of several labels that of the least certain answer; None: of numbers.
        second: the second most probable class, or the least certain label; "": of numbers.
        margin: between the two most probable classes, or the least certain label's two answers; None: of numbers.
        distance: of its features (of unit length) to those of the nearest image that the run learned from, 0 (the same)
            to 2; None: those images could not be read.
    """

    path: str
    name: str
    score: float | None
    expected: tuple[str, ...]
    probability: float | None
    second: str
    margin: float | None
    distance: float | None


@dataclass(frozen=True, eq=False)
class Picks:
    """What :func:`keras_transfer.workflow.pick.pick` gives.

    Attributes:
        picks: the images to label, the highest score first (with ``spread`` in the order they were chosen).
        run: the run folder.
        task: of the run.
        by: how they were chosen.
        names: the model's classes, labels or numbers.
        root: the folder that the picks' names are relative to.
        images: how many images of the pool could be chosen from.
        known: how many more are images of the run.
        copies: how many more are copies of others in the pool.
        near: how many were passed over because they show what another pick or a training image shows.
        skipped: unreadable files, ``path`` and ``reason``.
        computed: how many images were run through the network; the others were in the cache.
        preprocessing: how the network sees them.
    """

    picks: list[Pick]
    run: str
    task: str
    by: str
    names: tuple[str, ...]
    root: Path
    images: int
    known: int
    copies: int
    near: int
    skipped: list[dict[str, str]]
    computed: int
    preprocessing: Preprocessing

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        told = [
            {"rank": rank, **vars(one), "expected": list(one.expected)}
            for rank, one in enumerate(self.picks, 1)
        ]
        names = ("run", "task", "by", "images", "known", "copies", "near", "computed", "skipped")
        return {**{name: getattr(self, name) for name in names}, "root": str(self.root), "picks": told}

    def csv_text(self) -> str:
        """The text of ``picks.csv``; its empty column ``label`` is for whoever labels in a table."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for rank, one in enumerate(self.picks, 1):
            expected = ";".join(one.expected)
            values = (rank, one.score, expected, one.probability, one.second, one.margin, one.distance)
            writer.writerow((one.name, "", *map(_shown, values)))
        return text.getvalue()

    def tasks(self) -> list[dict[str, Any]]:
        """Label Studio's tasks, each with what the model expects."""
        return [
            label_studio.task(
                one.name,
                one.expected,
                one.probability or 0.0,
                Path(self.run).name,
                {"rank": rank, "margin": round(one.margin or 0.0, 4)},
            )
            for rank, one in enumerate(self.picks, 1)
        ]

    def write(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write ``picks.csv`` and ``picks.png``; and, where labels are names, Label Studio's two files.

        Raises ``UsageError`` where a file is there that this tool did not write, unless ``overwrite``.
        """
        folder = Path(folder)
        places = pick_places(folder, (self.run, self.root), overwrite)
        contents = {TABLE: self.csv_text()}
        if self.task != "regression":
            contents[TASKS] = json.dumps(self.tasks(), indent=2, ensure_ascii=False) + "\n"
            contents[INTERFACE] = label_studio.interface(self.names, self.task == "multilabel")
        for name, text in contents.items():
            places.write(folder / name, text.encode("utf-8", "surrogateescape"))
        with places.writing(folder / SHEET) as place:
            picks_sheet([one.path for one in self.picks], self._captions(), self.preprocessing, place)
        return [folder / name for name in (*contents, SHEET)]

    def _captions(self) -> list[str]:
        return [
            f"{rank}: {', '.join(one.expected) or 'no label'}"
            + ("" if one.probability is None else f" {one.probability:.0%}")
            for rank, one in enumerate(self.picks, 1)
        ]


def pick_places(folder: Path, inputs: Iterable[Any], overwrite: bool) -> Outputs:
    """Whether the picks may be written there, before any work is done. Raises ``UsageError``."""
    places = Outputs(inputs, overwrite=overwrite)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; a folder is expected. Choose another --output.")
    places.check(*(folder / name for name in (TABLE, SHEET, TASKS, INTERFACE)))
    return places


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)

"""The siamese task: images by class to a model of embeddings that tells classes apart it has never seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras_transfer.quiet import quiet_tensorflow

quiet_tensorflow()
import keras  # noqa: E402
import numpy as np  # noqa: E402

from keras_transfer.data import ImageTable  # noqa: E402
from keras_transfer.errors import DataError, UsageError  # noqa: E402
from keras_transfer.features import extract  # noqa: E402
from keras_transfer.settings import DataSettings, TrainSettings  # noqa: E402
from keras_transfer.tasks.base import Job, OutputContract, Task  # noqa: E402
from keras_transfer_siamese.classes import (  # noqa: E402
    fingerprints,
    in_split,
    read_classes,
    require_unseen,
)
from keras_transfer_siamese.comparison import Comparison  # noqa: E402
from keras_transfer_siamese.episodes import Setting  # noqa: E402
from keras_transfer_siamese.heads import ClosedForm, closed_forms  # noqa: E402
from keras_transfer_siamese.metrics import Measured, Protocol, measure, one_shot  # noqa: E402
from keras_transfer_siamese.networks import pooled, with_head  # noqa: E402
from keras_transfer_siamese.verification import Roc, chosen_thresholds, pairs  # noqa: E402

log = logging.getLogger("keras_transfer")
SEED = 0
"""Of the episodes: whatever was trained is measured on the same ones."""


class Siamese(Task):
    """A backbone and a head: one embedding an image, near those of its class and far from all others."""

    _comparison: Comparison | None = None
    _dim: int | None = None
    _trained_on: Sequence[str] = ()
    _shipped: keras.Model | None = None
    _measured: Measured | None = None

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._settings = tuple(map(Setting.parse, options.episodes_at))

    def settings_for(self, settings: TrainSettings) -> TrainSettings:
        """Frozen features and a head on them. Raises ``UsageError`` for settings that ask for anything else."""
        if settings.fit.strategy not in ("auto", "probe"):
            raise UsageError(
                f"--strategy {settings.fit.strategy} was given; siamese goes with --strategy probe so far."
            )
        settings = super().settings_for(settings)
        return replace(settings, fit=replace(settings.fit, strategy="probe"))

    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """Images by class; see :func:`keras_transfer_siamese.classes.read_classes`."""
        options = self.options
        return read_classes(
            source, settings, seed, levels=options.levels, by_image=options.allow_seen_classes
        )

    def build(self, data: ImageTable, job: Job) -> keras.Model:
        """The backbone's averaged features, divided by their length."""
        if job.backbone is None:
            raise UsageError("The siamese task needs a backbone.")
        return with_head(pooled(job.backbone), ClosedForm("raw").build)

    def fit(self, model: keras.Model, data: ImageTable, job: Job) -> None:
        """The best head in closed form on frozen features, and a threshold from the validation classes."""
        assert job.backbone is not None
        self._require_something_to_measure(data)
        extractor = pooled(job.backbone)
        with job.run.stage("extraction"):
            features = extract(
                data, extractor, preprocessing=job.preprocessing, engine=job.settings.fit.engine
            )
        rows = {split: data.indices(split) for split in ("train", "val", "test")}
        values, labels = features.values, data.labels
        with job.run.stage("probe"):
            forms = closed_forms(
                values[rows["train"]], labels[rows["train"]], self.options.embedding_dim, self.options.head
            )
            scores = [self._score(form.embed(values[rows["val"]]), labels[rows["val"]]) for form in forms]
            best = max(range(len(forms)), key=lambda place: scores[place])
        chosen = forms[best]
        self._shipped = with_head(extractor, chosen.build)
        embeddings = chosen.embed(values)
        self._comparison = Comparison("cosine")
        thresholds = self._choose_threshold(embeddings[rows["val"]], labels[rows["val"]])
        self._dim = embeddings.shape[1]
        self._trained_on = fingerprints(in_split(data, "train"))
        job.notes.update(
            strategy="probe",
            head={"kind": chosen.name, "chosen_on": "validation", "trials": self._trials(forms, scores)},
            comparison=self._comparison.to_dict(),
            thresholds=thresholds,
            embedding_dim=self._dim,
            preprocessing=job.preprocessing.to_dict(),
            trained_on=self._trained_on,
        )

    def _require_something_to_measure(self, data: ImageTable) -> None:
        if not len(data.indices("train")):
            raise DataError(
                "No image is left in the training split. Lower --val-fraction and --test-fraction."
            )
        held_out = [split for split in ("val", "test") if len(data.indices(split))]
        if not held_out and not self.options.allow_seen_classes:
            raise DataError(
                "No class is held out, so nothing can be measured on classes never seen. Raise --test-fraction, or "
                "pass --allow-seen-classes."
            )

    def _score(self, embeddings: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
        comparison = Comparison("cosine")
        roc = Roc.of(*pairs(comparison.scores(embeddings, embeddings), labels))
        found = one_shot(embeddings, labels, comparison, self.options.episodes, SEED)
        return float(found.mean()), roc.auc if roc else 0.0

    def _trials(
        self, forms: Sequence[ClosedForm], scores: Sequence[tuple[float, float]]
    ) -> list[dict[str, Any]]:
        return [
            {
                "head": form.name,
                "shrinkage": form.shrinkage,
                "val_one_shot_accuracy": score[0],
                "val_auc": score[1],
            }
            for form, score in zip(forms, scores, strict=True)
        ]

    def _choose_threshold(self, embeddings: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
        """The equal-error threshold becomes the comparison's; those of false accept rates are returned."""
        assert self._comparison is not None
        roc = Roc.of(*pairs(self._comparison.scores(embeddings, embeddings), labels)) if len(labels) else None
        if roc is None:
            return {}
        self._comparison = self._comparison.at(roc.equal_error[1])
        return chosen_thresholds(roc)

    def restore(self, notes: Mapping[str, Any]) -> None:
        """The comparison, the size of the embeddings, and which classes were trained on."""
        if "comparison" in notes:
            self._comparison = Comparison.from_dict(notes["comparison"])
            self._dim = int(notes["embedding_dim"])
            self._trained_on = list(notes["trained_on"])

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """Episodes, verification, retrieval and open set; see :func:`keras_transfer_siamese.metrics.measure`."""
        if not self.options.allow_seen_classes:
            require_unseen(data, self._trained_on)
        protocol = Protocol(self._settings, self.options.episodes, self.options.protocol == "omniglot", SEED)
        self._measured = measure(outputs, data, self._comparison or Comparison(), protocol)
        return self._measured.metrics

    def predict(self, outputs: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """``embedding``: the numbers that `siamese enroll` keeps and `siamese match` compares."""
        return [{"embedding": [round(float(value), 6) for value in row]} for row in outputs]

    def inference_model(self, model: keras.Model) -> keras.Model:
        """Pixels to embeddings."""
        return self._shipped if self._shipped is not None else model

    def output_contract(self, data: ImageTable) -> OutputContract:
        """One embedding."""
        if self._dim is None:
            raise UsageError("The size of the embeddings is not known before the training.")
        return OutputContract("embeddings", (self._dim,), tuple(f"d{i}" for i in range(self._dim)))

    def plots(self, metrics: Mapping[str, Any], job: Job) -> None:
        """None so far."""

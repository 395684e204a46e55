"""The siamese task: images by class to a model of embeddings that tells classes apart it has never seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transfer.backbone_specs import pyramid_of
from keras_transfer.data import ImageTable
from keras_transfer.errors import DataError, UsageError
from keras_transfer.features.pooling import feature_model
from keras_transfer.settings import DataSettings, TrainSettings
from keras_transfer.tasks.base import (
    NOTHING,
    BuildContext,
    Fitted,
    OutputContract,
    Task,
    TrainingContext,
    TrainingPlan,
)
from keras_transfer.tasks.gradient import outputs_of
from keras_transfer_siamese import pictures
from keras_transfer_siamese.classes import (
    fingerprints,
    in_split,
    read_classes,
    require_unseen,
)
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.episodes import Setting
from keras_transfer_siamese.guarding import SEED
from keras_transfer_siamese.learning import Learner, Learning
from keras_transfer_siamese.metrics import MOST, Compared, Protocol, measure, require_possible, thinned
from keras_transfer_siamese.networks import PROJECTION, SIZES, conv4, koch, pooled, with_head
from keras_transfer_siamese.verification import Roc, chosen_thresholds, pairs


class Siamese(Task):
    """A network and a head: one embedding an image, near those of its class and far from all others."""

    def __init__(
        self, options: Any, notes: Mapping[str, Any] = NOTHING, run_path: Path | None = None
    ) -> None:
        super().__init__(options, notes, run_path)
        if notes:
            self._protocol()  # options may be others than those of the training
        known = notes.get("comparison")
        self._comparison = Comparison() if known is None else Comparison.from_dict(known)
        self._trained_on: Sequence[str] = list(notes.get("trained_on", ()))
        self._thresholds: Mapping[str, float | None] = dict(notes.get("thresholds", {}))

    def settings_for(self, settings: TrainSettings) -> TrainSettings:
        """What goes together: a loss and its comparison, a network and its strategy and image size.

        Raises ``UsageError`` for what does not.
        """
        options = self.options
        self._protocol()
        if options.comparison == "weighted_l1" and options.loss != "bce":
            raise UsageError(
                f"--comparison weighted_l1 is learned by --loss bce; {options.loss} goes with cosine or euclidean."
            )
        if options.loss == "bce" and options.comparison not in ("auto", "weighted_l1"):
            raise UsageError(
                f"--loss bce learns a weighted L1 comparison; --comparison {options.comparison} goes with another loss."
            )
        if options.network == "backbone":
            return settings
        if options.layer is not None or options.pooling != "avg":
            raise UsageError(
                f"--layer and --pooling choose features of a backbone; --network {options.network} is learned from "
                "scratch. Leave them out."
            )
        if settings.fit.strategy not in ("auto", "scratch"):
            raise UsageError(
                f"--network {options.network} has no pretrained weights to {settings.fit.strategy}; it goes with "
                "--strategy scratch."
            )
        size = settings.model.image_size or SIZES[options.network]
        return replace(
            settings,
            fit=replace(settings.fit, strategy="scratch"),
            model=replace(settings.model, image_size=size),
        )

    def takes_backbone(self) -> bool:
        """The networks from scratch are their own."""
        return self.options.network == "backbone"

    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """Images by class; see :func:`keras_transfer_siamese.classes.read_classes`."""
        options = self.options
        return read_classes(
            source, settings, seed, levels=options.levels, by_image=options.allow_seen_classes
        )

    def build(self, data: ImageTable, context: BuildContext) -> keras.Model:
        """The backbone's averaged features; from scratch with a Dense layer, or a network of a paper."""
        options, seed, size = self.options, context.settings.seed, context.preprocessing.size
        unit = options.loss != "bce"
        if options.network == "koch":
            return with_head(koch(size, seed=seed), lambda x: x, unit=unit)
        if options.network == "conv4":
            return with_head(conv4(size, seed=seed), lambda x: x, unit=unit)
        if context.backbone is None:
            raise UsageError("The siamese task needs a backbone.")
        extractor = self._extractor(context.backbone, context.settings.model.backbone)
        if context.settings.fit.strategy != "scratch":
            return extractor
        first = keras.initializers.GlorotUniform(seed=seed)
        dense = keras.layers.Dense(options.embedding_dim, kernel_initializer=first, name=PROJECTION)
        return with_head(extractor, dense, unit=unit)

    def _extractor(self, backbone: keras.Model, name: str) -> keras.Model:
        """Pixels to the features that were asked for."""
        options = self.options
        if options.layer is None and options.pooling == "avg":
            return pooled(backbone)
        levels = pyramid_of(name)
        return feature_model(backbone, layer=options.layer, pooling=options.pooling, pyramid=levels)

    def training_plan(self, model: keras.Model, data: ImageTable, context: BuildContext) -> TrainingPlan:
        """See :meth:`keras_transfer_siamese.learning.Learning.plan`."""
        self._require_measurable(data)
        return Learning(self.options, data, context).plan(model)

    def _require_measurable(self, data: ImageTable) -> None:
        """Raise ``DataError`` or ``UsageError`` where the result of a training could not be measured."""
        if not self.options.allow_seen_classes and not (
            len(data.indices("val")) or len(data.indices("test"))
        ):
            raise DataError(
                "No class is held out, so nothing can be measured on classes never seen. Raise --test-fraction, or "
                "pass --allow-seen-classes."
            )
        last = next(split for split in ("test", "val", "train") if len(data.indices(split)))
        require_possible(data.take(data.indices(last)), self._protocol())

    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> Fitted:
        """See :class:`keras_transfer_siamese.learning.Learner`; then a threshold from classes not learned from."""
        self._require_measurable(data)
        learned = Learner(self.options, data, context).learn(model)
        if learned.history:
            pictures.learning_curve(learned.history, context.run.plots / "learning_curves.png")
        roc = learned.roc or _validation_roc(learned.model, learned.comparison, data, context)
        comparison = learned.comparison if roc is None else learned.comparison.at(roc.equal_error[1])
        notes = {
            **learned.notes,
            "comparison": comparison.to_dict(),
            "thresholds": {} if roc is None else chosen_thresholds(roc),
            "embedding_dim": int(learned.model.outputs[0].shape[-1]),
            "preprocessing": context.preprocessing.to_dict(),
            "trained_on": fingerprints(name for split in learned.splits for name in in_split(data, split)),
        }
        return Fitted(learned.model, notes, learned.history)

    def _protocol(self) -> Protocol:
        """What is to be measured. Raises ``UsageError`` for what cannot be."""
        options = self.options
        settings = tuple(map(Setting.parse, options.episodes_at))
        return Protocol(settings, options.episodes, options.protocol == "omniglot", SEED)

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """Episodes, verification, retrieval and open set; see :func:`keras_transfer_siamese.metrics.measure`."""
        if not self.options.allow_seen_classes:
            require_unseen(data, self._trained_on)
        return measure(outputs, data, self._comparison, self._protocol(), self._thresholds)

    def predict(self, outputs: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """``embedding``: the numbers that are kept of an enrolled image, and compared."""
        return [{"embedding": [round(float(value), 6) for value in row]} for row in outputs]

    def output_contract(self, shape: tuple[int, ...], data: ImageTable) -> OutputContract:
        """One embedding."""
        return OutputContract("embeddings", shape, tuple(f"d{i}" for i in range(shape[-1])))

    def plots(self, outputs: np.ndarray, data: ImageTable, metrics: Mapping[str, Any], folder: Path) -> None:
        """ROC, distances of same and different pairs, a map of the embeddings, the hardest wrong matches."""
        compared = Compared.of(outputs, data, self._comparison, SEED)
        if compared.roc is not None:
            pictures.roc_curves(compared, metrics, self._comparison, folder / "roc.png")
            pictures.score_histograms(compared, self._comparison, folder / "scores.png")
        pictures.embedding_map(compared, data, folder / "embeddings.png")
        pictures.wrong_matches(compared, data, folder / "wrong_matches.png")


def _validation_roc(
    model: keras.Model, comparison: Comparison, data: ImageTable, context: TrainingContext
) -> Roc | None:
    """Of pairs of images of the validation classes; None where there are none of both kinds."""
    val = data.indices("val")
    val = val[thinned(data.labels[val], MOST, SEED)]
    if not len(val):
        return None
    embeddings = outputs_of(model, data, context, val)
    return Roc.of(*pairs(comparison.scores(embeddings, embeddings), data.labels[val]))

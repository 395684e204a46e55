"""The segmentation task: pairs of images and masks to a model that gives every pixel a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_transfer.data import ImageTable
from keras_transfer.data.assemble import apply_recorded_split
from keras_transfer.errors import UsageError
from keras_transfer.evaluation import plots
from keras_transfer.freezing import set_trainable
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.settings import DataSettings, GradientSettings, TrainSettings
from keras_transfer.tasks.base import (
    NOTHING,
    BuildContext,
    Fitted,
    OutputContract,
    Task,
    TrainingContext,
    TrainingPlan,
)
from keras_transfer.tasks.gradient import train_by_gradient
from keras_transfer.tasks.planning import plan_gradient
from keras_transfer.training.phases import Phase, plan_phases
from keras_transfer.training.strategy import SGD_FACTOR, Strategy, choose
from keras_transfer_segmentation.classes import Classes, read_color_table
from keras_transfer_segmentation.masks_column import MaskColumn
from keras_transfer_segmentation.metrics import SegmentationMetrics
from keras_transfer_segmentation.models import deeplab_v3_plus, fpn, unet, unet_from_scratch
from keras_transfer_segmentation.objective import SegmentationObjective
from keras_transfer_segmentation.pairs import load_pairs
from keras_transfer_segmentation.pictures import area_percent, save_picture, strip
from keras_transfer_segmentation.resizing import restore_mask
from keras_transfer_segmentation.weighting import class_weights, parse_weights

ON_BACKBONE: dict[str, Callable[..., keras.Model]] = {"unet": unet, "fpn": fpn, "deeplab": deeplab_v3_plus}
RATE = 1e-3
"""Peak learning rate where none is given: a decoder is new, whatever is below it."""


class Segmentation(Task):
    """Backbone and decoder, a probability for every class in every pixel."""

    def __init__(
        self, options: Any, notes: Mapping[str, Any] = NOTHING, run_path: Path | None = None
    ) -> None:
        super().__init__(options, notes, run_path)
        pixels = notes.get("preprocessing")
        self._preprocessing = Preprocessing.from_dict(pixels) if pixels else None

    def settings_for(self, settings: TrainSettings) -> TrainSettings:
        """A network of its own is trained from scratch.

        Raises ``UsageError`` for another strategy, and for class weights that are none.
        """
        fit = settings.fit
        parse_weights(self.options.class_weights)
        if self.options.architecture == "unet-scratch" and fit.strategy not in ("auto", "scratch"):
            raise UsageError(
                f"--architecture unet-scratch has no backbone to {fit.strategy}; it goes with --strategy scratch."
            )
        if self.options.architecture == "unet-scratch":
            fit = replace(fit, strategy="scratch")
        return replace(settings, fit=fit)

    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """Pairs of images and masks; see :func:`keras_transfer_segmentation.pairs.load_pairs`."""
        pairs = load_pairs(
            source,
            self._known_classes(names),
            encoding=None if self.options.encoding == "auto" else self.options.encoding,
            image_root=settings.image_root,
            tfds_data_dir=settings.tfds_data_dir,
            max_skipped=settings.max_skipped,
            ignore_index=self.options.ignore_index,
            val_fraction=settings.val_fraction,
            test_fraction=settings.test_fraction,
            seed=seed,
        )
        table = ImageTable(
            source=pairs.source,
            images=pairs.images,
            label_mode="targets",
            classes=pairs.classes.names,
            labels=MaskColumn(pairs, np.arange(len(pairs))),
            splits=pairs.splits,
            groups=pairs.groups,
            weights=np.ones(len(pairs), np.float32),
            sha256=pairs.sha256,
            skipped=pairs.skipped,
        )
        if settings.split_from is None:
            return table
        return apply_recorded_split(table, Path(settings.split_from))

    def _known_classes(self, names: Sequence[str] | None) -> Classes | None:
        """What the options, or the outputs of a trained model, say of the classes; None: the masks tell."""
        options = self.options
        if options.color_table is not None:
            if options.class_names:
                raise UsageError("--color-table names the classes; leave --class-names out.")
            return read_color_table(options.color_table, options.ignore_index)
        known = tuple(options.class_names or names or ())
        return Classes(known, ignore_index=options.ignore_index) if known else None

    def build(self, data: ImageTable, context: BuildContext) -> keras.Model:
        """The decoder that ``--architecture`` names, on the backbone."""
        options, seed = self.options, context.settings.seed
        if options.architecture == "unet-scratch":
            return unet_from_scratch(context.preprocessing.size, len(data.classes), seed=seed)
        if context.backbone is None:
            raise UsageError("The segmentation task needs a backbone.")
        make = ON_BACKBONE[options.architecture]
        return make(context.backbone, len(data.classes), dropout=options.decoder_dropout, seed=seed)

    def _follow(
        self, model: keras.Model, data: ImageTable, context: BuildContext
    ) -> tuple[Strategy, list[Phase], GradientSettings, SegmentationObjective]:
        """What is trained, how, and on what. Raises ``UsageError`` for settings that these data cannot follow."""
        fit, gradient, pairs = context.settings.fit, context.settings.gradient, data.labels.pairs
        pixels = pairs.pixels[data.labels.rows[data.indices("train")]].sum(axis=0)
        weights = class_weights(self.options.class_weights, pixels, data.classes)
        strategy = choose(fit, gradient, data)
        factor = SGD_FACTOR if gradient.optimizer == "sgd" else 1.0
        settings = replace(gradient, learning_rate=gradient.learning_rate or factor * RATE)
        objective = SegmentationObjective(self.options.loss, pairs.classes, weights)
        return strategy, plan_phases(model, strategy, fit, gradient, context.backbone), settings, objective

    def training_plan(self, model: keras.Model, data: ImageTable, context: BuildContext) -> TrainingPlan:
        """Gradient training from the first epoch on; the plan refuses a loss that is none, too."""
        strategy, phases, settings, objective = self._follow(model, data, context)
        objective.loss()
        return plan_gradient(model, data, context, strategy, phases, settings.learning_rate or RATE)

    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> Fitted:
        """Gradient training: of the decoder alone (``probe``), of the top of the backbone too, or of everything."""
        strategy, phases, settings, objective = self._follow(model, data, context)
        weights = objective.class_weights
        context.say(f"Strategy: {strategy.name} ({strategy.why}).")
        set_trainable(model, "none")
        done = train_by_gradient(model, data, context, phases, objective, settings)
        plots.learning_curves(done.history, context.run.plots / "learning_curves.png", "pixel_accuracy")
        notes = {
            **done.notes,
            "strategy": strategy.name,
            "why": strategy.why,
            "plan": phases[0].plan.to_dict() if phases[0].plan else None,
            "classes": objective.classes.to_dict(),
            "class_weights": None if weights is None else dict(zip(data.classes, weights, strict=True)),
            "preprocessing": context.preprocessing.to_dict(),
        }
        return Fitted(model, notes, done.history)

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """IoU and its relatives at the model's size; see :class:`SegmentationMetrics`.

        With ``own_size``, also ``own_size_mean_iou``, ``own_size_mean_dice`` and ``own_size_pixel_accuracy``: the
        probabilities interpolated to the size of the untouched mask, as ``keras-transfer segment`` does it. Pixels that
        a crop cut off do not count.
        """
        preprocessing = self._at(outputs)
        metrics = SegmentationMetrics(
            data.classes,
            ignore_index=self.options.ignore_index,
            boundary_tolerance=self.options.boundary_tolerance,
        )
        for i, output in enumerate(outputs):
            metrics.update(data.labels.load(i, preprocessing), output.argmax(axis=-1))
        return {**metrics.result(), **(self._at_own_size(outputs, data) if self.options.own_size else {})}

    def _at_own_size(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        preprocessing, ignored = self._at(outputs), self.options.ignore_index
        metrics = SegmentationMetrics(data.classes, ignore_index=ignored, boundary_tolerance=None)
        for i, output in enumerate(outputs):
            truth = data.labels.own(i)
            found = restore_mask(output, preprocessing, truth.shape, ignored)
            metrics.update(np.where(found == ignored, ignored, truth), found)
        result = metrics.result()
        return {f"own_size_{name}": result[name] for name in ("mean_iou", "mean_dice", "pixel_accuracy")}

    def _at(self, outputs: np.ndarray) -> Preprocessing:
        size = (outputs.shape[1], outputs.shape[2])
        known = self._preprocessing
        return known if known is not None and known.size == size else Preprocessing(size=size)

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """The most probable class of every pixel, ``(N, H, W)``."""
        return outputs.argmax(axis=-1)

    def predict(self, outputs: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """``areas``: the share of each class, in percent of the image, largest first."""
        classes = Classes(tuple(names), ignore_index=self.options.ignore_index)
        results = []
        for mask in outputs.argmax(axis=-1):
            areas = area_percent(mask, classes)
            order = sorted(areas, key=lambda name: -areas[name])
            results.append({"areas": [{"label": name, "percent": round(areas[name], 4)} for name in order]})
        return results

    def output_contract(self, shape: tuple[int, ...], data: ImageTable) -> OutputContract:
        """A probability for every class in every pixel."""
        return OutputContract("probabilities", (*shape[:-1], len(data.classes)), data.classes)

    def plots(self, outputs: np.ndarray, data: ImageTable, metrics: Mapping[str, Any], folder: Path) -> None:
        """The best, the median and the worst image, and the confusion of pixels."""
        names = list(metrics["per_class"])
        plots.confusion_matrix(metrics["confusion_matrix"], names, folder / "confusion_matrix.png")
        save_picture(folder / "examples.png", self._examples(outputs, data))

    def _examples(self, outputs: np.ndarray, data: ImageTable) -> np.ndarray:
        classes = data.labels.pairs.classes
        preprocessing, scores = self._at(outputs), []
        for i, output in enumerate(outputs):
            one = SegmentationMetrics(
                data.classes, ignore_index=self.options.ignore_index, boundary_tolerance=None
            )
            one.update(data.labels.load(i, preprocessing), output.argmax(axis=-1))
            scores.append(one.result()["mean_iou"] if one._matrix.any() else 1.0)
        order = np.argsort(-np.array(scores), kind="stable")
        chosen = dict.fromkeys(int(order[place]) for place in (0, len(order) // 2, len(order) - 1))
        rows = [
            strip(
                data.images.load(i, preprocessing),
                data.labels.load(i, preprocessing),
                outputs[i].argmax(axis=-1),
                classes,
                alpha=0.5,
            )
            for i in chosen
        ]
        gap = np.full((4, rows[0].shape[1], 3), 255, np.uint8)
        parts = [part for row in rows for part in (row, gap)][:-1]
        return np.vstack(parts)

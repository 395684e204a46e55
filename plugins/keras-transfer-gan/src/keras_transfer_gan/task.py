"""The GAN task: images to a generator of more, through the core's runs, metrics and proven exports."""

from __future__ import annotations

import csv
import functools
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_transfer import load_data
from keras_transfer.backbones import load_backbone
from keras_transfer.data import ImageTable
from keras_transfer.data.folder import find_images
from keras_transfer.errors import DataError, UsageError
from keras_transfer.preprocessing import Preprocessing
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
from keras_transfer_gan.adversarial import Adversarial, Recipe
from keras_transfer_gan.augment import parse_changes
from keras_transfer_gan.drawing import draw
from keras_transfer_gan.features import BACKBONE, metric_backbone
from keras_transfer_gan.looking import draw_training, look_for_copies
from keras_transfer_gan.material import channels_of, material_of
from keras_transfer_gan.measuring import generative_metrics, pixels_of, require_enough, spread
from keras_transfer_gan.networks import Facts, make_discriminator, make_generator, to_bytes
from keras_transfer_gan.planning import STRATEGY, plan_adversarial
from keras_transfer_gan.spec import SIZES
from keras_transfer_gan.training import Schedule, accuracy, answers, steps_an_epoch, train
from keras_transfer_gan.transfer import (
    frozen_discriminator,
    load_discriminator,
    load_networks,
    save_networks,
)

log = logging.getLogger("keras_transfer")
RATE = 2e-4
"""Adam's, of the generator, with :data:`BETA_1`: Radford et al. 2015."""
BETA_1 = 0.5
DECAY = 0.999
FEW = 5000
"""Images below which a discriminator soon knows them all by heart."""
LOOK_AFTER = 8
"""Steps between two looks at a training whose epochs have fewer."""
NAMES = {1: ("grey",), 3: ("red", "green", "blue")}
DRAW_SEED = 1


class Gan(Task):
    """Noise to images. The images of a split are what those made are measured against, not what they are made from."""

    def __init__(
        self, options: Any, notes: Mapping[str, Any] = NOTHING, run_path: Path | None = None
    ) -> None:
        super().__init__(options, notes, run_path)
        self._facts = Facts.from_dict(dict(notes["gan"])) if notes.get("gan") else None
        pixels = notes.get("preprocessing")
        self._preprocessing = Preprocessing.from_dict(pixels) if pixels else None

    def settings_for(self, settings: TrainSettings) -> TrainSettings:
        """28 px unless told otherwise.

        Raises ``UsageError`` for settings that cannot be followed.
        """
        gradient = settings.gradient
        if gradient.augment != "none":
            raise UsageError(
                "--augment changes what is learned, and the generator would make changed images. --diff-augment fixed "
                "changes only what the discriminator sees."
            )
        if settings.fit.strategy not in ("auto", "scratch"):
            raise UsageError(
                f"--strategy {settings.fit.strategy} is for models that look at images; leave it out for --task gan."
            )
        options = self.options
        if options.freeze_lower and options.feature_network is not None:
            raise UsageError("--feature-network is frozen as a whole; leave --freeze-lower out.")
        if options.loss == "wgan-gp" and options.normalization == "batch":
            raise UsageError(
                "--normalization batch does not go with --loss wgan-gp, whose penalty is on the gradient at "
                "single images. "
                "Choose spectral or none."
            )
        if options.normalization == "batch" and options.r1:
            raise UsageError(
                "--normalization batch does not go with --r1, whose penalty is on the gradient at single images. "
                "Choose spectral or none."
            )
        if options.normalization == "batch" and options.feature_network is not None:
            raise UsageError(
                "--normalization batch: above a --feature-network there is no batch normalization. Choose spectral or "
                "none."
            )
        if options.freeze_lower and options.start_from is None:
            raise UsageError(
                "--freeze-lower keeps what another run has learned: give that run with --start-from."
            )
        if options.loss in ("hinge", "wgan-gp") and gradient.label_smoothing:
            raise UsageError(f"--label-smoothing does nothing in --loss {options.loss}. Leave it out.")
        parse_changes(options.changes)
        size = settings.model.image_size or SIZES[0]
        if size not in SIZES:
            raise UsageError(
                f"--image-size {size}: the networks make images of {', '.join(map(str, SIZES))} pixels a side."
            )
        return replace(settings, model=replace(settings.model, image_size=size))

    def load_data(
        self, source: Any, settings: DataSettings, seed: int, *, names: Sequence[str] | None = None
    ) -> ImageTable:
        """A folder of images, with or without class folders, or anything else ``load_data`` reads."""
        values = dict(vars(settings))
        classes = self._facts.classes if self._facts is not None and self._facts.conditional else None
        if isinstance(source, (str, Path)) and _is_flat(Path(source)):
            table = _flat(Path(source), values, seed)
        else:
            table = load_data(source, seed=seed, min_classes=1, classes=classes, **values)
        if self.options.conditional and (table.label_mode != "classes" or len(table.classes) < 2):
            raise DataError(
                f"{table.source} tells no classes ({table.label_mode}, {len(table.classes)} names); --conditional "
                "needs at least "
                "two, one folder each. Leave it out to learn all images as one kind."
            )
        return table

    def draw_inputs(self, data: ImageTable) -> np.ndarray:
        """Noise, and for a conditional generator the class of each of the images of ``data``."""
        facts = self._facts or self._facts_of(data, SIZES[0], 3)  # neither has a say in it
        labels = data.labels.astype(np.int64) if facts.conditional else None
        return draw(facts, len(data), DRAW_SEED, labels)

    def build(self, data: ImageTable, context: BuildContext) -> keras.Model:
        """What the average of the generator becomes when it is exported."""
        facts = self._facts_for(data, context)
        return to_bytes(self._networks(facts, context)[0], facts)

    def _facts_for(self, data: ImageTable, context: BuildContext) -> Facts:
        channels = channels_of(data, self.options.channels, context.preprocessing.resize)
        return self._facts_of(data, context.preprocessing.size[0], channels)

    def _facts_of(self, data: ImageTable, size: int, channels: int) -> Facts:
        options = self.options
        return Facts(
            architecture=options.architecture,
            size=size,
            channels=channels,
            noise=options.noise_size,
            width=options.width,
            classes=tuple(data.classes),
            conditional=options.conditional,
            normalization=options.normalization,
            feature_network=options.feature_network,
        )

    def _networks(self, facts: Facts, context: BuildContext) -> tuple[keras.Model, keras.Model]:
        """Generator and discriminator before the training: the same every time."""
        options, backbone = self.options, None
        if options.feature_network is not None:
            model = context.settings.model
            backbone = load_backbone(
                options.feature_network, weights=model.weights, image_size=max(96, facts.size)
            )
        keras.utils.set_random_seed(context.settings.seed)
        generator, discriminator = make_generator(facts), make_discriminator(facts, backbone)
        if options.start_from is not None:
            load_networks(options.start_from, facts, generator, discriminator)
        return generator, discriminator

    def training_plan(self, model: keras.Model, data: ImageTable, context: BuildContext) -> TrainingPlan:
        """Both networks, and what their steps cost; see :func:`keras_transfer_gan.planning.plan_adversarial`."""
        require_enough(data, while_training=self.options.measure_every > 0)
        gradient = context.settings.gradient
        networks = self._networks(self._facts_for(data, context), context)
        return plan_adversarial(*networks, self.options, data, gradient, gradient.learning_rate or RATE)

    def fit(self, model: keras.Model, data: ImageTable, context: TrainingContext) -> Fitted:
        """Train both networks. The history has a row an epoch; the run gets ``networks/``, to go on from."""
        options, gradient = self.options, context.settings.gradient
        facts = self._facts_for(data, context)
        # Before the long part: what could not be measured in the end.
        train_rows = data.indices("train")
        steps = steps_an_epoch(len(train_rows), gradient.batch_size, options.critic_steps)
        require_enough(data, while_training=options.measure_every > 0)
        for name in (BACKBONE, options.metric_backbone):
            if name is not None:
                metric_backbone(name)
        with context.run.stage("decoding"):
            material = material_of(data, facts, context.preprocessing, context.run.state)
        generator, discriminator = self._networks(facts, context)
        average = model.get_layer(generator.name)
        average.set_weights(generator.get_weights())
        few = len(train_rows) < FEW
        kind = options.diff_augment if options.diff_augment != "auto" else "adaptive" if few else "none"
        recipe = Recipe(
            loss=options.loss,
            r1=options.r1,
            gradient_penalty=options.gradient_penalty,
            smoothing=gradient.label_smoothing,
            critic_steps=options.critic_steps,
            decay=DECAY if gradient.ema is None else gradient.ema,
            changes=() if kind == "none" else parse_changes(options.changes),
            adaptive=kind == "adaptive",
        )
        rate = gradient.learning_rate or RATE
        with frozen_discriminator(discriminator, options.freeze_lower) as plan:
            planned = None if plan is None else plan.to_dict()
            tf.config.experimental.enable_op_determinism()
            adversarial = Adversarial(generator, discriminator, average, facts, recipe, context.settings.seed)
            clip = gradient.clip_norm
            adversarial.compile(_adam(rate, clip), _adam(rate * options.rate_ratio, clip))
            schedule = Schedule(
                epochs=gradient.epochs,
                batch_size=gradient.batch_size,
                seed=context.settings.seed,
                measure_every=options.measure_every,
                stop_on_collapse=options.on_collapse == "stop",
                grids=context.run.plots / "epochs",
                look_every=max(1, LOOK_AFTER // steps),
                most_measured=options.metric_images,
            )
            with context.run.stage("training"):
                keeper = train(adversarial, material, schedule, context.run.state)
        save_networks(context.run.path, average, discriminator)
        draw_training(facts, average, keeper.rows, context.settings.seed, context.run.plots)
        notes = {
            "plan": planned,
            "strategy": STRATEGY,
            "gan": facts.to_dict(),
            "preprocessing": context.preprocessing.to_dict(),
            "loss": options.loss,
            "learning_rates": {"generator": rate, "discriminator": rate * options.rate_ratio},
            "average_decay": recipe.decay,
            "diff_augment": {
                "kind": kind,
                "changes": list(recipe.changes),
                "chance": float(adversarial.chance),
            },
            "steps": int(adversarial.steps),
            "epochs": keeper.done,
            "ended": keeper.ended,
            "started_from": None if options.start_from is None else options.start_from.name,
            "memorisation": look_for_copies(
                facts, average, material, options.metric_images, context.settings.seed, context.run.plots
            ),
        }
        return Fitted(model, notes, keeper.rows)

    def evaluate(self, outputs: np.ndarray, data: ImageTable) -> dict[str, Any]:
        """Made images against the real ones of ``data``; see :func:`keras_transfer_gan.measuring.compare`.

        Where the run's discriminator is at hand, ``discriminator_accuracy``, too: on these, 0.5 means that it
        cannot tell.
        """
        facts = self._facts
        assert facts is not None
        rows = spread(min(len(outputs), len(data)), self.options.metric_images)
        chosen = data.take(rows)
        preprocessing = self._preprocessing or Preprocessing(size=(facts.size, facts.size))
        real = pixels_of(chosen, preprocessing, facts.channels)
        made = np.rint(outputs[rows]).clip(0, 255).astype(np.uint8)
        found = generative_metrics(real, made, also=self.options.metric_backbone)
        discriminator = self._discriminator
        if discriminator is not None:
            labels = chosen.labels if facts.conditional else np.zeros(len(rows), np.int64)
            told = [answers(discriminator, facts, images, labels) for images in (real, made)]
            found["discriminator_accuracy"] = accuracy(str(self.notes["loss"]), *told)
        return found

    @functools.cached_property
    def _discriminator(self) -> keras.Model | None:
        """The run's; None without a run."""
        return None if self.run_path is None else load_discriminator(self.run_path)

    def predict(self, outputs: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
        """The mean brightness of each image made, 0 to 255: there is nothing else to tell."""
        return [{"brightness": round(float(image.mean()), 3)} for image in outputs]

    def output_contract(self, shape: tuple[int, ...], data: ImageTable) -> OutputContract:
        """An image."""
        return OutputContract("images", shape, NAMES[shape[-1]])


def _adam(rate: float, clip_norm: float | None) -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(rate, beta_1=BETA_1, global_clipnorm=clip_norm)


def _is_flat(path: Path) -> bool:
    """Whether a folder holds images directly, and no folder of them."""
    return (
        path.is_dir()
        and not any(child.is_dir() for child in path.iterdir())
        and bool(find_images(path).images)
    )


def _flat(path: Path, values: dict[str, Any], seed: int) -> ImageTable:
    """Images without labels: one class, named after the folder."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "images.csv"
        with listed.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.writer(file)
            rows.writerow(("path", "label"))
            rows.writerows((name, path.name or "images") for name in find_images(path).images)
        table = load_data(
            listed, seed=seed, min_classes=1, **{**values, "image_root": path, "label_mode": "classes"}
        )
    return replace(table, source=str(path))

"""The freeze plan: which blocks train, at which rate, and what batch normalization does; checked after training.

A plan is made before anything is touched, can be printed, is stored in ``run.json``, and afterwards proves that what
it called frozen is bit-identical: weights and moving statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from keras_transfer.backbones.blocks import blocks, leaf_layers
from keras_transfer.errors import KerasTransferError, UsageError
from keras_transfer.freezing import BATCHNORM, Rule, chosen_layers, mark_trainable
from keras_transfer.hashing import sha256_of
from keras_transfer.heads import head_layers

HEAD = "head"


@dataclass(frozen=True)
class PlanRow:
    """One block of a plan.

    Attributes:
        block: its name, as ``backbones.blocks`` gives it; ``head`` for everything above the features.
        layers: how many layers it has.
        parameters: how many numbers they hold, moving statistics included.
        trainable: how many of these the optimizer changes.
        batchnorm: ``"-"`` (no batch normalization), ``"frozen"``, ``"train"``, or ``"adapt"``.
        rate: multiplier of the learning rate; 0 where nothing is trained.
    """

    block: str
    layers: int
    parameters: int
    trainable: int
    batchnorm: str
    rate: float


@dataclass(frozen=True)
class FreezePlan:
    """Which layers of a model train. Made by :meth:`for_model`, carried out by :meth:`apply`.

    Attributes:
        rule: what was asked for.
        batchnorm: ``"frozen"``: every batch normalization of the backbone stays in inference mode; ``"train"``: those
            in trained layers learn; ``"adapt"``: as frozen, after their statistics were re-estimated on the target
            images. The head's own always learns.
        rows: the blocks, bottom to top.
        layers: names of the layers that train, batch normalization included where it learns.
        multipliers: block name -> learning-rate multiplier, for the blocks that train.
        head: names of the layers that were put on the backbone.
    """

    rule: str
    batchnorm: str
    rows: tuple[PlanRow, ...]
    layers: tuple[str, ...]
    multipliers: Mapping[str, float]
    head: tuple[str, ...] = ()

    @classmethod
    def for_model(
        cls,
        model: keras.Model,
        rule: Rule,
        *,
        batchnorm: str = "frozen",
        layer_decay: float = 1.0,
        backbone: keras.Model | None = None,
    ) -> FreezePlan:
        """Plan without touching the model.

        Args:
            model: any Keras model. Of a classifier made by ``heads.add_head`` the head always trains.
            rule: ``"none"``, ``"all"``, ``"30%"`` (the top blocks with about so many of its layers), ``"blocks:2"``,
                ``"from:block6a"``, a regular expression over layer names, or a function of the layer.
            batchnorm: ``"frozen"``, ``"train"`` or ``"adapt"``.
            layer_decay: each trained block's learning rate is this times that of the block above it, in (0, 1]
                (discriminative rates: Howard & Ruder 2018, arXiv:1801.06146).
            backbone: what the model was built on: whatever is not one of its layers is the head, which always trains.
                Not needed for heads of ``heads.add_head``.

        Raises:
            UsageError: the rule is none, names nothing, or covers nothing or everything without saying so.
        """
        if batchnorm not in BATCHNORM:
            raise UsageError(f"batchnorm={batchnorm!r} was given; one of {', '.join(BATCHNORM)} is expected.")
        if not 0 < layer_decay <= 1:
            raise UsageError(
                f"layer_decay={layer_decay!r} was given; a number above 0, at most 1, is expected."
            )
        layers = {layer.name: layer for layer in leaf_layers(model)}
        head = set(head_layers(model, backbone))
        body = {name for name, layer in layers.items() if name not in head and _has_kernel(layer)}
        chosen = chosen_layers(model, rule, head) | head
        learns = {
            name
            for name in chosen
            # What was put on the backbone is new: its batch normalization has no statistics worth keeping.
            if batchnorm == "train"
            or name in head
            or not isinstance(layers[name], keras.layers.BatchNormalization)
        }
        some = any(layers[name].weights for name in learns - head)
        _require_some(str(rule), some, bool(body) and chosen & body == body, model.name)
        rows = [row for row in _groups(model, head) if row[1]]
        multipliers: dict[str, float] = {}
        rate = 1.0
        for block, names in reversed(rows):
            if any(layers[name].weights for name in names if name in learns):
                multipliers[block] = rate
                rate *= layer_decay
        return cls(
            rule=str(rule) if isinstance(rule, str) else getattr(rule, "__name__", "function"),
            batchnorm=batchnorm,
            rows=tuple(
                _row(block, [layers[name] for name in names], learns, batchnorm, multipliers.get(block, 0.0))
                for block, names in rows
            ),
            layers=tuple(name for name in layers if name in learns),
            multipliers=multipliers,
            head=tuple(name for name in layers if name in head),
        )

    def apply(self, model: keras.Model) -> list[str]:
        """Set every layer's ``trainable`` flag. Returns the names of the layers whose flag changed."""
        return mark_trainable(model, set(self.layers))

    def variable_multipliers(self, model: keras.Model) -> dict[str, float]:
        """``variable.path`` -> learning-rate multiplier, for every trained variable that has another than 1."""
        layers = {layer.name: layer for layer in leaf_layers(model)}
        names = dict(_groups(model, set(self.head)))
        return {
            variable.path: rate
            for block, rate in self.multipliers.items()
            if rate != 1.0
            for name in names[block]
            for variable in layers[name].trainable_weights
        }

    def snapshot_frozen(self, model: keras.Model) -> dict[str, str]:
        """SHA-256 of every variable the plan freezes, by its path: what :meth:`check` compares."""
        trained = set(self.layers)
        return {
            variable.path: sha256_of(keras.ops.convert_to_numpy(variable).tobytes())
            for layer in leaf_layers(model)
            if layer.name not in trained
            for variable in layer.weights
        }

    def check(self, model: keras.Model, snapshot: Mapping[str, str]) -> None:
        """Prove that everything frozen is bit-identical to when :meth:`snapshot_frozen` was called.

        Raises:
            KerasTransferError: a frozen weight or statistic changed; it is named.
        """
        now = self.snapshot_frozen(model)
        changed = sorted(path for path in {*now, *snapshot} if now.get(path) != snapshot.get(path))
        if changed:
            raise KerasTransferError(
                f"{len(changed)} frozen variables changed in training, the first {changed[0]!r}. The plan was "
                f"{self.rule!r} with batchnorm={self.batchnorm!r}. A callback or a custom layer assigns to it; if "
                "you use neither, report this as a defect of keras-transfer."
            )

    @property
    def trainable(self) -> int:
        """How many numbers the optimizer changes."""
        return sum(row.trainable for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "rule": self.rule,
            "batchnorm": self.batchnorm,
            "parameters": sum(row.parameters for row in self.rows),
            "trainable": self.trainable,
            "blocks": [asdict(row) for row in self.rows],
        }

    def __str__(self) -> str:
        head = ("block", "layers", "parameters", "trainable", "batch norm", "rate")
        cells = [
            head,
            *(
                (
                    row.block,
                    str(row.layers),
                    f"{row.parameters:,}",
                    f"{row.trainable:,}" if row.trainable else "-",
                    row.batchnorm,
                    f"{row.rate:.3g}" if row.rate else "-",
                )
                for row in self.rows
            ),
        ]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        lines = [
            "  ".join(
                c.ljust(w) if i in (0, 4) else c.rjust(w)
                for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        return "\n".join(line.rstrip() for line in lines)


def _has_kernel(layer: keras.layers.Layer) -> bool:
    return bool(layer.weights) and not isinstance(layer, keras.layers.BatchNormalization)


def _require_some(rule: str, some: bool, every: bool, model: str) -> None:
    if not some and rule != "none":
        raise UsageError(
            f"The rule {rule!r} trains no layer of {model} below its head. Choose a larger share or 'none'."
        )
    if every and rule != "all":
        raise UsageError(f"The rule {rule!r} trains every layer of {model}. Say 'all' if that is meant.")


def _groups(model: keras.Model, head: set[str]) -> list[tuple[str, list[str]]]:
    """The blocks, bottom to top, and the head as one block."""
    groups = [(block, [name for name in names if name not in head]) for block, names in blocks(model)]
    return [*groups, (HEAD, [layer.name for layer in leaf_layers(model) if layer.name in head])]


def _row(
    block: str, layers: list[keras.layers.Layer], learns: set[str], batchnorm: str, rate: float
) -> PlanRow:
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    trained = any(layer.name in learns for layer in norms)
    state = "-" if not norms else "train" if trained else "adapt" if batchnorm == "adapt" else "frozen"
    return PlanRow(
        block=block,
        layers=len(layers),
        parameters=sum(layer.count_params() for layer in layers),
        trainable=sum(_learnt(layer) for layer in layers if layer.name in learns),
        batchnorm=state,
        rate=rate,
    )


def _learnt(layer: keras.layers.Layer) -> int:
    """Numbers the optimizer changes in a trained layer; a batch normalization's moving statistics are not learnt."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return sum(
            int(np.prod(variable.shape)) for variable in (layer.gamma, layer.beta) if variable is not None
        )
    if isinstance(layer, keras.layers.SpectralNormalization):  # its own vector is no weight that is learnt
        return _learnt(layer.layer)
    return layer.count_params()

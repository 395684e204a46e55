"""What a model is asked and what it answers: the part that a run and its bundles have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_transfer.records.fields import Fields

if TYPE_CHECKING:
    from keras_transfer.preprocessing import Preprocessing


_OTHER_SPELLINGS = {("pooling", "average"): "avg"}
"""Values of options in records that were written before they were called otherwise."""


def options_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Recorded options of a task, as they are spelled now."""
    return {
        name: _OTHER_SPELLINGS.get((name, value), value) if isinstance(value, str) else value
        for name, value in values.items()
    }


@dataclass(frozen=True)
class ModelContract:
    """What is known of a trained model besides its weights.

    Attributes:
        task: the task it was trained for.
        options: of the task, JSON-able.
        notes: what the training decided and found, JSON-able.
        kind: what the outputs are: ``probabilities``, ``values``, ``score``, ``embeddings`` ...
        shape: of one image's output, without the batch.
        names: of the outputs along the last axis; classes where it classifies.
        pixels: the preprocessing as recorded; see :attr:`preprocessing`.
    """

    task: str
    options: Mapping[str, Any]
    notes: Mapping[str, Any]
    kind: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    pixels: Mapping[str, Any]

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the model's pixels. Heavy: imports NumPy.

        Raises ``DataError`` for a rule that this version does not know.
        """
        from keras_transfer.preprocessing import Preprocessing

        return Preprocessing.from_dict(self.pixels)


@dataclass(frozen=True)
class Origin:
    """The distribution a plugin came from when it was used."""

    distribution: str
    version: str

    @classmethod
    def parse(cls, fields: Fields, key: str) -> Origin | None:
        """From a field that may be missing or null.

        Raises :class:`~keras_transfer.records.fields.DamagedError`.
        """
        if fields.get(key, dict, type(None), default=None) is None:
            return None
        inner = fields.inner(key)
        return cls(inner.text("distribution"), inner.text("version"))

    def to_dict(self) -> dict[str, str]:
        """JSON-able."""
        return {"distribution": self.distribution, "version": self.version}

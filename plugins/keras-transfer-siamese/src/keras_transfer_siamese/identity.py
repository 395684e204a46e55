"""Which model an embedding is from: embeddings of two models say nothing about each other.

A gallery is bound to what was trained, not to a file: images enrolled through the run are matched through the float32
file exported from it, because the export has proven that both give the same numbers. Files of reduced precision give
similar ones; how similar, the answers to the golden images tell that the bundle holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from keras_transfer.errors import DataError

SAME, LEAST = 0.999, 0.9
"""Of the cosine between an image's embeddings in two precisions: from SAME on they are one, below LEAST never mixed."""


@dataclass(frozen=True)
class Identity:
    """A model, as far as its embeddings are concerned.

    Attributes:
        model: 64 hex digits: of the trained network (architecture and weights), or of the file where that is unknown.
        name: what people call it: the run, or the file.
        precision: ``float32``, ``float16``, ``dynamic``, ``int8``, ``int16x8``.
        content: 64 hex digits of the file that computed, equal to ``model`` where a Keras model did.
        cosine: the least between this file's and the float32 file's embeddings of an image, over the bundle's golden
            images; 1 for float32; None where nobody knows.
    """

    model: str
    name: str
    precision: str
    content: str
    cosine: float | None = 1.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Identity:
        """What :meth:`to_dict` gave. Raises ``DataError`` where it is no such dictionary."""
        try:
            found = cls(**{field.name: values[field.name] for field in fields(cls)})
            texts = (found.model, found.name, found.precision, found.content)
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("a field is not a text")
            if not isinstance(found.cosine, (int, float, type(None))):
                raise TypeError("the cosine is not a number")
            return found
        except (KeyError, TypeError) as problem:
            raise DataError(f"This describes no model of a gallery: {problem}.") from problem

    def told(self) -> str:
        """For messages: name, precision and the beginning of the hash."""
        return f"{self.name} ({self.precision}, {self.model[:12]})"


def mixing(gallery: Identity, given: Identity) -> str | None:
    """What must be said before embeddings of ``given`` are compared with those of ``gallery``; None where nothing must.

    Raises:
        DataError: they are of two models, or of two precisions that are too far apart.
    """
    if given.model != gallery.model:
        raise DataError(
            f"The gallery holds embeddings of the model {gallery.told()}; {given.told()} is another model, and their "
            "embeddings cannot be compared. Use the gallery's model, or enrol the images into a new gallery."
        )
    if given.content == gallery.content:
        return None
    pair = f"The gallery was enrolled with {gallery.told()} and is used with {given.told()}"
    if given.cosine is None or gallery.cosine is None:
        return f"{pair}: the distance of their embeddings was not measured. Enrol and match with one file."
    least = min(given.cosine, gallery.cosine)
    if not least >= LEAST:
        raise DataError(
            f"{pair}: the cosine of an image's two embeddings is as low as {least:.3f} (at least {LEAST} is expected). "
            "Enrol the images again with the file that matches, or use the float32 file."
        )
    if least >= SAME:
        return None
    return f"{pair}: the cosine of an image's two embeddings is as low as {least:.3f}. Enrol and match with one file."

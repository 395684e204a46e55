"""A folder of features that other machines computed: what it says of itself. ``features/given.py`` reads it.

    DIR/features.json          this record, written last: a folder without it is not finished
    DIR/shards/NAME.parquet    columns ``path``, ``sha256``, ``reason``, ``values``
    DIR/images.csv             the table, as ``ImageTable.write_csv`` writes it
    DIR/skipped.csv            what was left out, and why

``values`` is the feature vector, float32, of a fixed length; null where ``reason`` tells why the file cannot be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keras_transfer.records.fields import DamagedError, Fields

FEATURES = "features.json"
SHARDS = "shards"
IMAGES = "images.csv"
LEFT_OUT = "skipped.csv"
FORMAT = 1


@dataclass(frozen=True)
class ShardRecord:
    """One file of ``shards``: its name, its rows, and the SHA-256 of its bytes."""

    name: str
    rows: int
    sha256: str


@dataclass(frozen=True)
class FeaturesRecord:
    """What features depend on, and where they are.

    Attributes:
        network: hash of the network that computed them, its pooling included.
        preprocessing: fingerprint of what the images went through.
        dim: numbers an image.
        engine: ``engine``, ``precision`` and ``runtime`` of what computed.
        about: for people: ``backbone``, ``size``.
        source: the data, as the user named them.
        images: how many could be used.
        shards: where the features are.
    """

    network: str
    preprocessing: str
    dim: int
    engine: Mapping[str, str]
    about: Mapping[str, str]
    source: str
    images: int
    shards: tuple[ShardRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`parse` is the inverse."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def parse(cls, values: Any) -> FeaturesRecord:
        """Read back what :meth:`to_dict` gives. Raises ``DamagedError``."""
        fields = Fields(values)
        if fields.whole("format") != FORMAT:
            raise DamagedError(f"format is {fields.whole('format')}, {FORMAT} is known here")
        shards = [Fields(one, "a shard") for one in fields.get("shards", list)]
        return cls(
            network=fields.text("network"),
            preprocessing=fields.text("preprocessing"),
            dim=fields.whole("dim"),
            engine=_texts(fields, "engine"),
            about=_texts(fields, "about"),
            source=fields.text("source"),
            images=fields.whole("images"),
            shards=tuple(
                ShardRecord(one.text("name"), one.whole("rows"), one.text("sha256")) for one in shards
            ),
        )


def _texts(fields: Fields, key: str) -> dict[str, str]:
    return {name: str(value) for name, value in fields.mapping(key).items()}

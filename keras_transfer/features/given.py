"""Features that were computed elsewhere, taken where they are those that would be computed here.

``keras-transfer ray features`` writes such a folder (:mod:`keras_transfer.records.features`). They are found by the
SHA-256 of each image, so the folder may lie anywhere, and the images too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data.remote import local_copy
from keras_transfer.data.table import ImageTable
from keras_transfer.errors import DataError, UsageError
from keras_transfer.hashing import sha256_of_file
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.progress import track
from keras_transfer.records import DamagedError
from keras_transfer.records.features import FEATURES, SHARDS, FeaturesRecord, ShardRecord

logger = logging.getLogger("keras_transfer")


class FeatureFolder:
    """A folder of features, or its address (``s3://...``, copied once into the cache).

    Raises:
        UsageError: it is no such folder, its features are not finished, or pyarrow is missing.
        DataError: its record is damaged.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._folder = local_copy(place)
        self.record = read_record(self._folder, place)

    def require(
        self, network: str, preprocessing: Preprocessing, dim: int, engine: Mapping[str, str]
    ) -> None:
        """``UsageError`` where these features are not what the network gives for the images' pixels.

        Other versions of the packages that computed are a warning: their last digits may differ.
        """
        own, about = self.record, ", ".join(self.record.about.values())
        if own.preprocessing != preprocessing.fingerprint():
            raise UsageError(
                f"{self.place} holds features of images that were prepared in another way ({about}): their size, "
                "resizing, decoding or Pillow's version differ. Give the settings they were made with, or make them "
                "again."
            )
        if (own.network, own.dim) != (network, dim):
            raise UsageError(
                f"{self.place} holds features of another network ({about}): its layers, its weights or its pooling "
                "differ. Give the --backbone and --weights they were made with, or make them again."
            )
        if dict(own.engine) != dict(engine):
            logger.warning(
                "The features in %s were computed by %s, here are %s: the last digits may differ.",
                self.place,
                own.engine.get("runtime", "other versions"),
                engine["runtime"],
            )

    def read(self, places: Mapping[str, int], values: np.ndarray) -> set[str]:
        """Copy the features of images into ``values``.

        Args:
            places: SHA-256 of an image to its row of ``values``.
            values: float32 ``(N, D)``, filled in place.

        Returns:
            The images found.

        Raises:
            DataError: a shard is gone or damaged.
        """
        found: set[str] = set()
        for shard in track(self.record.shards, "Reading features", total=len(self.record.shards)):
            table = self._table(shard)
            digests = table.column("sha256").to_pylist()
            wanted = [i for i, one in enumerate(digests) if one in places and one not in found]
            if wanted:
                column = table.column("values").combine_chunks()
                numbers = column.take(wanted).flatten().to_numpy(zero_copy_only=False)
                values[[places[digests[i]] for i in wanted]] = numbers.reshape(len(wanted), -1)
                found.update(digests[i] for i in wanted)
        return found

    def _table(self, shard: ShardRecord) -> Any:
        parquet = _parquet(self.place)
        path = self._folder / SHARDS / shard.name
        try:
            if sha256_of_file(path) != shard.sha256:
                raise ValueError("its checksum does not match")
            return parquet.read_table(path, columns=["sha256", "values"])
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(
                f"{self.place}: the shard {shard.name} cannot be used: {reason}. Remove it and {FEATURES}, and run the "
                "command that made them again: only this shard is computed."
            ) from error

    def require_all(self, table: ImageTable, rows: np.ndarray, found: set[str]) -> None:
        """``DataError`` where images of a table have no features here."""
        missing = [row for row in rows.tolist() if table.sha256[row] not in found]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(rows)} images have no features in {self.place}, such as "
                f"{table.images.describe(missing[0])}: they are new, or have changed since the features of "
                f"{self.record.source} were computed. Make the features again, or leave --features out."
            )


def read_record(folder: Path, place: str) -> FeaturesRecord:
    """The record of a folder; ``place`` is what messages call it. Raises ``UsageError`` and ``DataError``."""
    try:
        return FeaturesRecord.parse(json.loads((folder / FEATURES).read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        unfinished = (folder / SHARDS).is_dir()
        raise UsageError(
            f"The features in {place} are not finished. Run the command that makes them again; it goes on where it "
            "stopped."
            if unfinished
            else f"{place} is no folder of features: it holds no {FEATURES}. `keras-transfer ray features` (pip "
            "install keras-transfer-ray) writes one."
        ) from None
    except (OSError, ValueError) as error:  # DamagedError is a ValueError
        why = error if isinstance(error, DamagedError) else "it cannot be read"
        raise DataError(f"{place}/{FEATURES} is damaged: {why}. Make the features again.") from error


def _parquet(place: str) -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UsageError(
            f"The features in {place} need pyarrow: pip install 'keras-transfer[parquet]'."
        ) from None
    return parquet

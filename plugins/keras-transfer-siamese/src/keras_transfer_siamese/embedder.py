"""A model of embeddings, opened: files to vectors, and whose vectors they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data.threads import ordered_map
from keras_transfer.decoding import ImageError, decode, read_image_bytes
from keras_transfer.errors import CacheError, DataError, UsageError
from keras_transfer.export.bundle import Bundle, list_bundle
from keras_transfer.export.listing import is_bundle
from keras_transfer.features.identity import model_hash
from keras_transfer.hashing import sha256_of, size_and_sha256
from keras_transfer.inference import KerasRunner
from keras_transfer.inference.tta import tta_views
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ModelContract
from keras_transfer.workflow.loaded_model import LoadedModel, open_model
from keras_transfer_siamese.classes import shows_nothing
from keras_transfer_siamese.comparison import Comparison, unit
from keras_transfer_siamese.gallery import Binding
from keras_transfer_siamese.identity import Identity

KIND = "embeddings"
BATCH = 32


@dataclass(frozen=True, eq=False)
class Embedded:
    """An image file: ``sha256`` and ``embedding`` float32 ``(D,)``; or ``error``, why it has none; or it is known."""

    path: Path
    sha256: str = ""
    embedding: np.ndarray | None = None
    error: str | None = None


class Embedder:
    """A model that gives embeddings. Made by :func:`open_embedder`.

    Attributes:
        binding: identity, preprocessing, comparison with threshold, dimension.
        path: where it was opened from, None for a model in memory.
    """

    def __init__(
        self, loaded: LoadedModel, identity: Identity, comparison: Comparison, path: Path | None
    ) -> None:
        self._subject, self.path = loaded, path
        pixels = np.zeros((1, *loaded.preprocessing.size, 3), np.uint8)
        shape = loaded.predict(pixels).shape
        if len(shape) != 2 or shape[1] < 2:
            raise UsageError(
                f"{loaded.name} gives outputs of shape {shape[1:]}; embeddings (D,) are expected."
            )
        if comparison.weights is not None and len(comparison.weights) != shape[1]:
            raise DataError(
                f"{loaded.name} gives {shape[1]} numbers, and its comparison has {len(comparison.weights)} weights. "
                "Train or export it again."
            )
        self.binding = Binding(identity, loaded.preprocessing, comparison, shape[1])

    def embed(
        self, paths: Iterable[Path], known: Set[str] = frozenset(), views: int = 1
    ) -> Iterator[Embedded]:
        """The embeddings of image files, in order.

        A file that cannot be used has an ``error`` and stops nothing; one whose SHA-256 is ``known`` has neither error
        nor embedding.

        Args:
            paths: of the files.
            known: SHA-256 of files that need no embedding.
            views: test-time augmentation: the mean of the embeddings of so many views of an image, brought to their
                mean length; see :func:`keras_transfer.inference.tta.tta_views`. 1 is the image alone.

        Raises ``UsageError`` for another number of views.
        """
        preprocessing = self.binding.preprocessing
        batch: list[tuple[Embedded, np.ndarray | None]] = []
        for read in ordered_map(lambda path: _read(path, preprocessing, known), paths, ahead=2 * BATCH):
            batch.append(read)
            if len(batch) == BATCH:
                yield from self._answers(batch, views)
                batch = []
        yield from self._answers(batch, views)

    def _answers(self, batch: Sequence[tuple[Embedded, np.ndarray | None]], views: int) -> Iterator[Embedded]:
        pixels = [image for _, image in batch if image is not None]
        found = iter(self._mean(np.stack(pixels), views) if pixels else ())
        for read, image in batch:
            if image is None:
                yield read
                continue
            embedding = next(found)
            if not np.isfinite(embedding).all():
                yield Embedded(
                    read.path, read.sha256, error="its embedding holds numbers that are not finite"
                )
            elif not embedding.any():
                yield Embedded(
                    read.path, read.sha256, error="its embedding is zero: the model sees nothing in it"
                )
            else:
                yield Embedded(read.path, read.sha256, embedding)

    def _mean(self, pixels: np.ndarray, views: int) -> np.ndarray:
        """Of the embeddings of each image's views, as long as they are: views that differ shorten a mean."""
        every = np.stack([self._subject.predict(view) for view in tta_views(pixels, views)])
        mean = every.mean(axis=0)
        if views == 1 or self.binding.comparison.kind == "weighted_l1":
            return mean
        return unit(mean) * np.linalg.norm(every, axis=2).mean(axis=0)[:, None]


def open_embedder(model: Any) -> Embedder:
    """Open a model of embeddings.

    Args:
        model: a run folder of the task siamese; a bundle folder (its first ``.tflite`` answers) or a file in it;
            any other ``.keras``, SavedModel or ``.tflite``, or a Keras model: cosine without a threshold compares.

    Raises:
        UsageError: nothing usable there, or a model of something else than embeddings.
        RunError, BundleError, ExportError: it is damaged.
    """
    path = Path(model) if isinstance(model, (str, Path)) else None
    if path is not None and is_bundle(path):
        path = path / list_bundle(path).artefact().file
    loaded = open_model(model if path is None else path)
    if loaded.run is not None:
        require_embeddings(loaded.name, loaded.contract)
        name = loaded.run.path.resolve().name
        return Embedder(loaded, _of_keras(loaded, name), _comparison(loaded), path)
    if path is not None and is_bundle(path.parent):
        require_embeddings(loaded.name, loaded.contract)
        identity = bundle_identity(list_bundle(path.parent), path.name)
        return Embedder(loaded, identity, _comparison(loaded), path)
    if isinstance(loaded.runtime, KerasRunner):
        identity = _of_keras(loaded, loaded.name if path is None else path.name)
    else:
        assert path is not None  # what is no path is a Keras model
        _, content = size_and_sha256(path)
        identity = Identity(content, path.name, "float32", content)
    return Embedder(loaded, identity, Comparison(), path)


def bundle_identity(bundle: Bundle, file: str) -> Identity:
    """Of a model in a bundle: what was trained, and how near its numbers are.

    Raises ``UsageError`` for an unknown file.
    """
    artefact = bundle.artefact(file)
    _, content = size_and_sha256(bundle.path / artefact.file)
    name = bundle.record.title or bundle.path.resolve().name
    proven = artefact.precision == "float32" and artefact.passed
    cosine = 1.0 if proven else least_cosine(bundle, artefact.file)
    return Identity(
        bundle.record.model or content, f"{name}/{artefact.file}", artefact.precision, content, cosine
    )


def least_cosine(bundle: Bundle, file: str) -> float | None:
    """Between the recorded embeddings of the golden images by ``file`` and by a float32 artefact, None without one."""
    reference = next((one.file for one in bundle.artefacts if one.precision == "float32"), None)
    if reference is None:
        return None
    expected = bundle.golden()["expected"]
    ours, theirs = (unit(np.asarray(expected[name], np.float64)) for name in (file, reference))
    return float((ours * theirs).sum(axis=1).min())


def require_embeddings(name: str, contract: ModelContract) -> None:
    """Raise ``UsageError`` unless a run's or bundle's outputs are embeddings."""
    if contract.kind != KIND:
        raise UsageError(
            f"{name} is a model of the task {contract.task}; one that gives embeddings is expected, as "
            "`keras-transfer train --task siamese` makes it."
        )


def _of_keras(loaded: LoadedModel, name: str) -> Identity:
    """Of a Keras model: what it computes, wherever its file lies."""
    if not isinstance(loaded.runtime, KerasRunner):
        raise UsageError(
            f"{loaded.name} is not the run's model. Give the run folder, or a file of its bundle."
        )
    try:
        trained = model_hash(loaded.runtime.model)
    except CacheError as error:
        raise UsageError(f"{loaded.name} cannot be bound to a gallery. {error}") from error
    return Identity(trained, name, "float32", trained)


def _comparison(loaded: LoadedModel) -> Comparison:
    if "comparison" not in loaded.contract.notes:
        raise DataError(
            f"{loaded.name} does not tell how its embeddings are compared. Train or export it again."
        )
    return Comparison.from_dict(loaded.contract.notes["comparison"])


def _read(path: Path, preprocessing: Preprocessing, known: Set[str]) -> tuple[Embedded, np.ndarray | None]:
    """A file's hash, and its pixels or the reason why there are none."""
    try:
        content = read_image_bytes(path)
        sha256 = sha256_of(content)
        if sha256 in known:
            return Embedded(path, sha256), None
        pixels = preprocessing.load(content)
        # What the model sees may be even where the image is not; black margins are no part of the image.
        even = (preprocessing.resize == "pad" or shows_nothing(pixels)) and shows_nothing(decode(content))
    except ImageError as error:
        return Embedded(path, error=str(error)), None
    if even:
        return Embedded(path, sha256, error="it is of one colour and shows nothing to compare"), None
    return Embedded(path, sha256), pixels

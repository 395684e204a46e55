"""TensorFlow Datasets as a source: ``tfds:NAME[/CONFIG][:VERSION]``.

The encoded images are copied once, byte for byte, into the cache's content-addressed store, so that paths
stream afterwards and features are found again whatever the data set is called. Nothing asks the network
when the data set is on this machine.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer import progress
from keras_transfer.data.arrays import encode_array, unbuffered
from keras_transfer.data.assemble import Rows
from keras_transfer.data.checking import BlobStore
from keras_transfer.data.file_kinds import suffix_of
from keras_transfer.data.labels import Labels, encode_names
from keras_transfer.data.split_names import WORDS
from keras_transfer.data.table import PathImages, Skipped
from keras_transfer.data.threads import ordered_map
from keras_transfer.errors import CacheError, DataError, OfflineError, UsageError
from keras_transfer.paths import offline

logger = logging.getLogger("keras_transfer")

_NAME = re.compile(r"tfds:(\w+(/[\w.-]+)?(:\d+\.\d+\.\d+)?)")


def read_tfds(
    text: str, data_dir: str | os.PathLike[str] | None, label_mode: str, classes: Sequence[str] | None
) -> Rows:
    """Rows of a TFDS data set; its own train, validation and test become the splits.

    Args:
        text: ``tfds:NAME[/CONFIG][:VERSION]``.
        data_dir: TFDS's data directory; its default (``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``) if None.
        label_mode, classes: as for :func:`keras_transfer.data.load_data`. The image and the label are found by
            their types: one image; a class label or a sequence of them; else what ``supervised_keys``
            or the name ``label`` says.

    Raises:
        UsageError: a malformed or unknown name. OfflineError: the data set is not on this machine, and
            ``KERAS_TRANSFER_OFFLINE`` forbids to fetch it. DataError: no image or label to be found.
        CacheError: the images cannot be written to the cache.
    """
    import tensorflow_datasets as tfds

    found = read_columns(text, data_dir, _keys)
    (names, labels), splits = found.columns, found.splits
    feature = found.features[1]
    skipped: tuple[Skipped, ...] = ()
    if isinstance(feature, tfds.features.ClassLabel):  # -1 stands for "withheld"
        known = [i for i, label in enumerate(labels) if label >= 0]
        skipped = tuple(
            Skipped(f"{text} {names[i]}", "no label", counted=False)
            for i, label in enumerate(labels)
            if label < 0
        )
        names, labels, splits = ([column[i] for i in known] for column in (names, labels, splits))
    given = set(splits)
    if "train" not in given and given != {""} and classes is None:
        raise DataError(f"{text} has labelled images in {', '.join(sorted(given))} and none in train.")
    return Rows(
        source=text,
        images=PathImages(found.root, tuple(names)),
        labels=_labels(tfds, feature, labels, label_mode, classes, text),
        splits=None if given == {""} else np.array(splits, dtype="<U5"),
        skipped=skipped,
    )


@dataclass(frozen=True, eq=False)
class Columns:
    """Some features of every example of a TFDS data set.

    Attributes:
        root: the folder of the image files.
        columns: a list for each feature asked for: of an image the name of its file below ``root``, else its value.
        splits: ``train``, ``val`` or ``test`` of each example; "" where a single split is to be divided.
        features: TFDS's descriptions of the features.
    """

    root: Path
    columns: tuple[list[Any], ...]
    splits: list[str]
    features: tuple[Any, ...]


def read_columns(
    text: str, data_dir: str | os.PathLike[str] | None, keys: Callable[[Any, Any], tuple[str, ...]]
) -> Columns:
    """The features that ``keys(tensorflow_datasets, info)`` names, images as files in the cache.

    Args and errors: see :func:`read_tfds`.
    """
    match = _NAME.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} does not name a TFDS data set; expected tfds:NAME[/CONFIG][:VERSION].")
    import tensorflow_datasets as tfds

    rows: list[tuple[Any, ...]] = []
    splits: list[str] = []
    store = BlobStore()
    with _quiet_absl():
        builder = _builder(tfds, match[1], data_dir)
        chosen = keys(tfds, builder.info)
        for split, ours in _splits(builder, text).items():
            for row in _examples(tfds, builder, split, chosen, store):
                rows.append(row)
                splits.append(ours)
    if not rows:
        raise DataError(f"{text} has no examples.")
    features = tuple(builder.info.features[key] for key in chosen)
    return Columns(store.root, tuple(map(list, zip(*rows, strict=True))), splits, features)


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """TFDS warns of its own deprecated calls through absl's logger; errors still come through."""
    chatter = logging.getLogger("absl")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        yield
    finally:
        chatter.setLevel(level)


def _builder(tfds: Any, name: str, data_dir: str | os.PathLike[str] | None) -> Any:
    """The data set as prepared on this machine, or prepared now where downloads are allowed."""
    folder = None if data_dir is None else os.fspath(data_dir)
    shown = folder or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    parsed, wanted = tfds.core.naming.parse_builder_name_kwargs(name)
    try:
        return tfds.core.read_only_builder.builder_from_files(str(parsed), data_dir=folder, **wanted)
    except tfds.core.DatasetNotFoundError as error:
        if offline():
            raise OfflineError(
                f"The TFDS data set {name!r} is not in {shown}, and downloads are forbidden "
                f"(KERAS_TRANSFER_OFFLINE). Prepare it where there is a network and copy {shown}/"
                f"{parsed.name}/ here, or say where it is with --tfds-data-dir."
            ) from error
    try:
        builder = tfds.builder(name, data_dir=folder, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        raise UsageError(
            f"There is no TFDS data set {name!r}, neither in {shown} nor in the TFDS catalog."
        ) from error
    logger.info("Preparing the TFDS data set %s in %s", name, shown)
    if not progress.enabled():
        tfds.disable_progress_bar()
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:
        raise DataError(
            f"The TFDS data set {name!r} could not be prepared in {shown}: {type(error).__name__}: {error}. Prepare it "
            "by hand as its page in the TFDS catalog says, and pass --tfds-data-dir."
        ) from error
    return builder


def _keys(tfds: Any, info: Any) -> tuple[str, str]:
    """The names of the image and of the label."""
    features = info.features
    supervised = info.supervised_keys or ()
    supervised = (
        supervised if len(supervised) == 2 and all(isinstance(key, str) for key in supervised) else ()
    )
    images = [key for key in sorted(features) if isinstance(features[key], tfds.features.Image)]
    image = choose_feature(images, supervised[:1], "image", info, "an image")
    labels = [key for key in sorted(features) if _is_class_label(tfds, features[key])]
    numbers = [key for key in (*supervised[1:], "label") if key in features and key not in labels]
    label = choose_feature(labels or numbers, supervised[1:], "label", info, "a class label")
    return image, label


def choose_feature(found: list[str], supervised: Sequence[str], usual: str, info: Any, what: str) -> str:
    """Of the features that fit: the supervised, the one with the usual name, or the only one; else ``DataError``."""
    for key in (*supervised, usual):
        if key in found:
            return key
    if len(found) == 1:
        return found[0]
    text = f"several ({', '.join(found)})" if found else "none"
    raise DataError(
        f"The TFDS data set {info.full_name} should have {what} among its features "
        f"({', '.join(sorted(info.features))}), and has {text}. Export it to a folder or a CSV instead."
    )


def _is_class_label(tfds: Any, feature: Any) -> bool:
    if isinstance(feature, tfds.features.Sequence):
        feature = feature.feature
    return isinstance(feature, tfds.features.ClassLabel)


def _splits(builder: Any, text: str) -> dict[str, str]:
    """{TFDS split: ours}; a single split of another name is to be divided ("")."""
    names = [name for name, split in builder.info.splits.items() if split.num_examples]
    ours = {name: WORDS[name] for name in names if name in WORDS}
    if not ours and len(names) == 1:
        return {names[0]: ""}
    if not ours:
        raise DataError(
            f"{text} has the splits {', '.join(names) or '(none)'}; expected train, validation, test."
        )
    if len(set(ours.values())) < len(ours):
        raise DataError(f"{text} has two splits of one meaning: {', '.join(ours)}.")
    others = [name for name in names if name not in ours]
    if others:
        logger.info("The splits %s of %s are not used", ", ".join(others), text)
    return ours


def _examples(
    tfds: Any, builder: Any, split: str, keys: Sequence[str], store: BlobStore
) -> Iterator[tuple[Any, ...]]:
    """Those features of every example; images are names in the store, written by threads, a few at a time."""
    import tensorflow as tf

    images = {key for key in keys if isinstance(builder.info.features[key], tfds.features.Image)}
    encoded = {key: tfds.decode.SkipDecoding() for key in images}
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:  # which tf.data does not read
        source = builder.as_data_source(split=split, decoders=encoded)
        data = (source[i] for i in range(len(source)))
    else:
        decoders = tfds.decode.PartialDecoding(dict.fromkeys(keys, True), decoders=encoded)
        dataset = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
        data = unbuffered(dataset).as_numpy_iterator()

    def keep(example: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(_stored(example[key], store) if key in images else example[key] for key in keys)

    found = ordered_map(keep, data, ahead=32)
    total = builder.info.splits[split].num_examples
    try:
        yield from progress.track(found, f"Reading {builder.info.name} ({split})", total=total)
    except OSError as error:
        raise CacheError(
            f"The images cannot be written to {store.root}: {error}. Make room there."
        ) from error
    except tf.errors.OpError as error:
        raise DataError(
            f"The TFDS data set {builder.info.full_name} in {builder.data_dir} cannot be read: {error.message}. "
            "Prepare it again."
        ) from error


def _stored(value: Any, store: BlobStore) -> str:
    content = bytes(value)
    return store.store(content, (suffix_of(content) or ".img")[1:])


def _labels(
    tfds: Any, feature: Any, labels: list[Any], label_mode: str, classes: Sequence[str] | None, source: str
) -> Labels:
    where = [f"example {i} of {source}" for i in range(len(labels))]
    if isinstance(feature, tfds.features.ClassLabel):
        if label_mode not in ("auto", "classes"):
            raise UsageError(f"label_mode={label_mode!r}, and {source} has class labels.")
        rows = [(feature.int2str(int(label)),) for label in labels]
        return encode_names(rows, "classes", classes, where, source, _used(feature.names, rows, source))
    if _is_class_label(tfds, feature):
        if label_mode not in ("auto", "multilabel"):
            raise UsageError(f"label_mode={label_mode!r}, and {source} has several class labels per image.")
        inner = feature.feature
        rows = [tuple(dict.fromkeys(inner.int2str(int(i)) for i in np.ravel(label))) for label in labels]
        return encode_names(rows, "multilabel", classes, where, source, _used(inner.names, rows, source))
    return encode_array(np.array(labels), label_mode, classes, source)


def _used(names: Sequence[str], rows: Sequence[tuple[str, ...]], source: str) -> list[str]:
    """The data set's own order of the classes that have images."""
    found = {name for row in rows for name in row}
    unused = [name for name in names if name not in found]
    if unused:
        logger.warning("%s has no images of %s; these classes are left out", source, ", ".join(unused[:10]))
    return [name for name in names if name in found]

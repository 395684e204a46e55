"""Images from anywhere into one :class:`ImageTable`, and from there in batches to a model.

>>> table = load_data("photos/")                            # doctest: +SKIP
>>> for batch in batches(table, Preprocessing((224, 224))):  # doctest: +SKIP
...     ...
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_transfer.data.assemble import Options, Rows, build_table
from keras_transfer.data.checking import require_max_skipped, write_skipped
from keras_transfer.data.folder import find_images
from keras_transfer.data.forms import Reading, read_source
from keras_transfer.data.grouping import with_groups
from keras_transfer.data.kept import keep_pixels
from keras_transfer.data.labels import require_label_mode
from keras_transfer.data.pipeline import batches, load_image, tf_dataset
from keras_transfer.data.splits import require_fractions
from keras_transfer.data.table import SPLITS, ArrayImages, ImageTable, PathImages, Skipped
from keras_transfer.errors import UsageError
from keras_transfer.preprocessing import Preprocessing

__all__ = [
    "SPLITS",
    "ArrayImages",
    "ImageTable",
    "PathImages",
    "Skipped",
    "batches",
    "find_images",
    "load_data",
    "load_image",
    "tf_dataset",
    "write_skipped",
]

logger = logging.getLogger("keras_transfer")


def load_data(
    source: Any,
    *,
    val_fraction: float = 0.15,
    test_fraction: float = 0.2,
    seed: int = 0,
    max_skipped: float = 0.05,
    min_per_class: int = 2,
    label_mode: str = "auto",
    separator: str = ";",
    image_root: str | os.PathLike[str] | None = None,
    split_from: str | os.PathLike[str] | None = None,
    groups: str | os.PathLike[str] | None = None,
    tfds_data_dir: str | os.PathLike[str] | None = None,
    classes: Sequence[str] | None = None,
    split_by: str = "image",
    levels: int = 1,
    min_classes: int = 2,
    torn_groups: bool = False,
    preprocessing: Preprocessing | None = None,
) -> ImageTable:
    """Find the images of a source, check every one, and deal them out to train, val and test.

    Args:
        source: a folder with one folder per class (with or without ``train/``, ``val/``, ``test/`` above); a
            ``.csv`` with ``path,label`` and optionally ``split,group,weight``;
            ``tfds:NAME[/CONFIG][:VERSION]``; parquet, WebDataset, COCO, Pascal VOC and others, an archive, or an
            address (``s3://...``; ``docs/data.md`` lists the forms); a pair of arrays (images, labels); or a
            ``tf.data.Dataset`` of (image, label).
        val_fraction, test_fraction: shares of the images (of the given train split, where only one of the
            other two is missing), stratified by class. Together exactly 1 leaves no training split.
        seed: of the split. The split depends on it and on the images' content, not on their order or place.
        max_skipped: the largest share of unreadable images that is tolerated.
        min_per_class: the least number of usable images of every class.
        label_mode: ``auto``, ``classes``, ``multilabel`` or ``regression``.
        separator: for a table: what stands between the labels of one image.
        image_root: for a CSV or annotations: the folder their paths are relative to (default: their own folder).
        split_from: a run folder or a ``split.csv``: every image gets the split it has there.
        groups: a CSV with ``path,group``: images of one group are in one split (``data.grouping``).
        tfds_data_dir: where TensorFlow Datasets keeps its data (default: its own choice).
        classes: the class names in a trained model's order. Then an unknown label is an error, a class
            without images is not, and min_per_class is not checked.
        split_by: ``image``, or ``class``: whole classes are dealt out, so that those of val and test are new (one-shot
            learning, metric learning); the fractions are then shares of the classes.
        levels: of a folder: how many folders above an image name its class. With 2 (``alphabet/character``, as in
            Omniglot) the class is called ``alphabet/character``, and an alphabet is a group: all of it in one split.
        min_classes: the least number of classes; 1 for what needs no second one.
        torn_groups: take given splits with images of one group on two sides, which are refused otherwise.
        preprocessing: what the images will go through. Files that have to be decoded for the check are decoded as it
            says, and the pixels are kept for ``extract`` (at most 256 MB): camera photos are decoded once, not twice.

    Raises:
        UsageError: an argument is wrong, or the source does not exist.
        DataError: the data cannot be used; the message says what to do.
        OfflineError: a TFDS data set is not on this machine and downloads are forbidden.
        CacheError: images of a ``tf.data`` or TFDS source cannot be written to the cache.
    """
    require_fractions(val_fraction, test_fraction)
    if not isinstance(min_per_class, int) or min_per_class < 0:
        raise UsageError(f"min_per_class is {min_per_class!r}; expected a whole number of at least 0.")
    if split_by not in ("image", "class"):
        raise UsageError(f"split_by is {split_by!r}; expected image or class.")
    if levels not in (1, 2):
        raise UsageError(f"levels is {levels!r}; expected 1 or 2.")
    if not isinstance(separator, str) or not separator:
        raise UsageError(f"separator is {separator!r}; expected a text such as ';' or '|'.")
    options = Options(
        val_fraction=float(val_fraction),
        test_fraction=float(test_fraction),
        seed=seed,
        max_skipped=require_max_skipped(max_skipped),
        min_per_class=min_per_class,
        min_classes=min_classes,
        split_from=None if split_from is None else Path(split_from),
        by_class=split_by == "class",
        torn_groups=torn_groups,
    )
    rows = _read(
        source, require_label_mode(label_mode), separator, image_root, tfds_data_dir, classes, levels
    )
    if groups is not None:
        rows = with_groups(rows, Path(groups))
    with keep_pixels(preprocessing):
        table = build_table(rows, options)
    counts = ", ".join(f"{len(table.indices(split))} {split}" for split in SPLITS)
    logger.info("%d images from %s: %s", len(table), table.source, counts)
    return table


def _read(
    source: Any,
    label_mode: str,
    separator: str,
    image_root: str | os.PathLike[str] | None,
    tfds_data_dir: str | os.PathLike[str] | None,
    classes: Sequence[str] | None,
    levels: int,
) -> Rows:
    """Choose the source by its form. The heavy ones are imported when they are used."""
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if not text:
            raise UsageError("The data source is empty. Give a folder, a .csv file or tfds:NAME.")
        if text.startswith("tfds:"):
            _refuse_levels(levels, text)
            from keras_transfer.data.tfds_source import read_tfds

            return read_tfds(text, tfds_data_dir, label_mode, classes)
        root = None if image_root is None else Path(image_root)
        return read_source(text, Reading(label_mode, classes, separator, root, levels))
    _refuse_levels(levels, source)
    from keras_transfer.data.arrays import is_dataset, read_arrays, read_dataset

    if isinstance(source, tuple) and len(source) == 2:
        return read_arrays(source[0], source[1], label_mode, classes)
    if is_dataset(source):
        return read_dataset(source, label_mode, classes)
    raise UsageError(
        f"The data source is a {type(source).__name__}; expected a folder, a .csv file, tfds:NAME, a pair "
        "(images, labels) of arrays, or a tf.data.Dataset."
    )


def _refuse_levels(levels: int, source: Any) -> None:
    if levels != 1:
        raise UsageError(f"levels={levels} is for a folder; {source!r:.80} is not a folder. Leave it out.")

"""The one table all segmentation data turn into: images, their masks, splits, and how many pixels each class has."""

from __future__ import annotations

import dataclasses
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_transfer.data.archives import is_archive, unpack_archive
from keras_transfer.data.arrays import require_pixels
from keras_transfer.data.checking import check_images, enforce_limit, require_max_skipped, tell_small_range
from keras_transfer.data.coco import coco_files
from keras_transfer.data.folder import find_images
from keras_transfer.data.labels import Labels
from keras_transfer.data.remote import local_copy
from keras_transfer.data.splits import complete_splits, make_splits, require_fractions
from keras_transfer.data.table import SPLITS, ArrayImages, PathImages, Skipped
from keras_transfer.data.threads import ordered_map
from keras_transfer.decoding import image_size, orientation
from keras_transfer.errors import DataError, KerasTransferError, UsageError
from keras_transfer.hashing import sha256_of
from keras_transfer.preprocessing import Preprocessing
from keras_transfer_segmentation.annotated import is_voc, pair_coco, pair_voc
from keras_transfer_segmentation.classes import IGNORE_INDEX, Classes
from keras_transfer_segmentation.masks import (
    classes_of_values,
    count_values,
    discover_classes,
    find_encoding,
    read_mask,
    require_known,
)
from keras_transfer_segmentation.pairing import (
    ALONE,
    IMAGES,
    MASKS,
    PairedFiles,
    pair_csv,
    pair_folder,
    pair_tfds,
)
from keras_transfer_segmentation.resizing import resize_mask

logger = logging.getLogger("keras_transfer")

_NAMED = 3  # unusable pairs an error quotes


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images with masks, every one read and checked. Row ``i`` of every field is one image.

    Attributes:
        source: what the caller gave, for messages.
        classes: what the masks hold.
        encoding: how mask files are read (see :mod:`~keras_transfer_segmentation.masks`).
        images: files or an array, as in the core's table.
        masks: files, or an array (N, H, W).
        splits: str (N,), ``train``, ``val`` or ``test``.
        groups: str (N,) or None; a group is on one side only.
        pixels: int64 (N, C), how many pixels of each class an image has, ignored ones in none.
        sha256: of each image and its mask together.
        skipped: files that belong to no pair, and pairs that cannot be read.
    """

    source: str
    classes: Classes
    encoding: str
    images: PathImages | ArrayImages
    masks: tuple[Path, ...] | np.ndarray
    splits: np.ndarray
    groups: np.ndarray | None
    pixels: np.ndarray
    sha256: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def indices(self, split: str) -> np.ndarray:
        """int64: the rows of a split."""
        return np.flatnonzero(self.splits == split)

    def mask(self, i: int, preprocessing: Preprocessing | None = None) -> np.ndarray:
        """``classes.dtype`` (h, w): the mask of image ``i``, at the size of ``preprocessing`` when that is given.

        Raises ``DataError`` when the file is gone or damaged.
        """
        if isinstance(self.masks, np.ndarray):
            mask = self.masks[i].astype(self.classes.dtype)
        else:
            mask = read_mask(self.masks[i], self.classes, encoding=self.encoding)
        return mask if preprocessing is None else resize_mask(mask, preprocessing, self.classes.ignore_index)

    def load(self, i: int, preprocessing: Preprocessing | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Image ``i``, uint8 (h, w, 3), and its mask (h, w), at the same size."""
        return self.images.load(i, preprocessing), self.mask(i, preprocessing)

    def summary(self) -> dict[str, Any]:
        """JSON-able counts: images and pixels of each class by split, and a fingerprint of images and masks."""
        splits = {}
        for split in SPLITS:
            pixels = self.pixels[self.indices(split)]
            splits[split] = {
                "images": len(pixels),
                "images_with": dict(zip(self.classes.names, (pixels > 0).sum(axis=0).tolist(), strict=True)),
                "pixels": dict(zip(self.classes.names, pixels.sum(axis=0).tolist(), strict=True)),
            }
        return {
            "source": self.source,
            "images": len(self),
            "classes": self.classes.to_dict(),
            "encoding": self.encoding,
            "splits": splits,
            "groups": None if self.groups is None else len(set(self.groups.tolist())),
            "skipped": [f"{skipped.path}: {skipped.reason}" for skipped in self.skipped],
            "fingerprint": sha256_of(repr((self.classes.to_dict(), sorted(self.sha256))).encode()),
        }


def load_pairs(
    source: str | os.PathLike[str] | tuple[np.ndarray, np.ndarray],
    classes: Classes | None = None,
    *,
    encoding: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    tfds_data_dir: str | os.PathLike[str] | None = None,
    ignore_index: int = IGNORE_INDEX,
    max_skipped: float = 0.05,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
) -> Pairs:
    """Find the pairs, read every image and mask once, and make the splits that are not given.

    Args:
        source: a folder (:func:`~keras_transfer_segmentation.pairing.pair_folder`), a ``.csv``
            (:func:`~keras_transfer_segmentation.pairing.pair_csv`), COCO's annotations or Pascal VOC's layout
            (:mod:`~keras_transfer_segmentation.annotated`), an archive or an address of one of these, ``tfds:NAME``
            (:func:`~keras_transfer_segmentation.pairing.pair_tfds`), or arrays: images (N, H, W), (N, H, W, 1) or
            (N, H, W, 3) in [0, 255] and masks (N, H, W) of class indices.
        classes: None: ``class_0``, ``class_1``, ... as the masks have them, with ``ignore_index``.
        encoding: of mask files; None: found from all of them.
        image_root: for a CSV, what its paths are relative to.
        tfds_data_dir: where TFDS's data sets are; TFDS's default if None.
        ignore_index: where ``classes`` is None: the value of pixels that do not count.
        max_skipped: the largest share of pairs whose image or mask cannot be read that is tolerated: they are left
            out. A mask that can be read and does not fit (its size, its values) is refused, whatever the share.
        val_fraction, test_fraction: shares of the images (of the given train split where only one of the others is
            missing), spread so that every class is in each, as far as its images reach.
        seed: of the split, which depends on it and on the images' content alone.

    Raises:
        UsageError: an argument is wrong, or the source does not exist.
        DataError: pairs that cannot be used, fewer than two classes in all masks; the message quotes the first ones.
    """
    require_fractions(val_fraction, test_fraction)
    max_skipped = require_max_skipped(max_skipped)
    if isinstance(source, tuple):
        pairs = _from_arrays(source, classes, ignore_index)
        given = None
    elif isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        found = _find(text, image_root, tfds_data_dir, classes, ignore_index)
        files = _readable(text, found, max_skipped)
        _warn(files)
        pairs = _from_files(text, files, classes, encoding, ignore_index)
        given = files.splits
    else:
        raise UsageError(
            f"The data source is a {type(source).__name__}; expected a folder, a .csv file, tfds:NAME, or a pair "
            "(images, masks) of arrays."
        )
    _require_two_classes(pairs)
    labels = Labels("multilabel", pairs.classes.names, (pairs.pixels > 0).astype(np.float32))
    shares: dict[str, Any] = {
        "val_fraction": float(val_fraction),
        "test_fraction": float(test_fraction),
        "seed": seed,
    }
    if given is None:
        splits = make_splits(labels, pairs.sha256, pairs.groups, **shares)
    else:
        splits = complete_splits(given, labels, pairs.sha256, pairs.groups, **shares)
    return dataclasses.replace(pairs, splits=splits)


def _find(
    text: str,
    image_root: str | os.PathLike[str] | None,
    tfds_data_dir: str | os.PathLike[str] | None,
    classes: Classes | None,
    ignore_index: int,
) -> PairedFiles:
    if text.startswith("tfds:"):
        return pair_tfds(text, tfds_data_dir)
    path = local_copy(text)
    path = unpack_archive(path) if is_archive(path.name) and path.is_file() else path
    root = None if image_root is None else Path(image_root)
    if path.suffix.lower() == ".csv":
        return pair_csv(path, root)
    if path.suffix.lower() == ".json" and path.is_file():
        root = root or (path.parent.parent if path.parent.name.lower() == "annotations" else path.parent)
        file = os.path.relpath(path, root).replace(os.sep, "/")
        return pair_coco(root, [file], classes, ignore_index)
    if path.is_dir() and is_voc(path):
        return pair_voc(path)
    pairs = (path / IMAGES).is_dir() and (path / MASKS).is_dir()
    if path.is_dir() and not pairs and (files := coco_files(path, find_images(path))):
        return pair_coco(path, files, classes, ignore_index)
    return pair_folder(path)


def _readable(source: str, files: PairedFiles, max_skipped: float) -> PairedFiles:
    """The pairs whose two files decode; the others are among ``skipped``.

    Raises ``DataError`` when these are too many, or all.
    """
    images, masks = PathImages(files.root, files.images), PathImages(files.root, files.masks)
    bad: dict[int, Skipped] = {}
    checked = check_images(images)
    tell_small_range(images, checked)
    for i, (image, mask) in enumerate(zip(checked, check_images(masks), strict=True)):
        if image.reason is not None:
            bad[i] = Skipped(images.describe(i), image.reason)
        elif mask.reason is not None:
            bad[i] = Skipped(images.describe(i), f"its mask {files.masks[i]} cannot be read: {mask.reason}")
    skipped = (*files.skipped, *bad.values())
    candidates = len(images) + sum(skip.counted for skip in files.skipped)
    enforce_limit(skipped, candidates, max_skipped, source)
    keep = [i for i in range(len(images)) if i not in bad]
    if not keep:
        raise DataError(f"There is no usable pair in {source}. Nothing can be done with it.")
    return PairedFiles(
        files.root,
        tuple(files.images[i] for i in keep),
        tuple(files.masks[i] for i in keep),
        None if files.splits is None else files.splits[keep],
        None if files.groups is None else files.groups[keep],
        skipped,
        files.classes,
    )


def _from_files(
    source: str, files: PairedFiles, classes: Classes | None, encoding: str | None, ignore_index: int
) -> Pairs:
    images = PathImages(files.root, files.images)
    masks = tuple(files.root / name for name in files.masks)
    _tell_turned(source, images, masks)
    if classes is None and files.classes:
        classes = Classes(files.classes, ignore_index=ignore_index)
    if classes is None:
        classes = discover_classes(masks, ignore_index)
    encoding = encoding or find_encoding(masks, classes)

    def check(i: int) -> tuple[str, np.ndarray] | str:
        try:
            size = image_size(images.path(i))  # that it decodes is checked
            mask = read_mask(masks[i], classes, encoding=encoding, image_size=size)
        except UsageError:
            raise  # about the arguments, not about this pair
        except KerasTransferError as error:
            return str(error)
        return _digest(images, i, mask), _count(mask, classes)

    found = list(ordered_map(check, range(len(images))))
    wrong = [result for result in found if isinstance(result, str)]
    if wrong:
        more = f"\n... and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise DataError(
            f"{len(wrong)} of {len(found)} pairs cannot be used:\n" + "\n".join(wrong[:_NAMED]) + more
        )
    good = [result for result in found if not isinstance(result, str)]
    return Pairs(
        source=source,
        classes=classes,
        encoding=encoding,
        images=images,
        masks=masks,
        splits=np.full(len(images), "train", "<U5"),
        groups=files.groups,
        pixels=np.stack([pixels for _, pixels in good]),
        sha256=tuple(digest for digest, _ in good),
        skipped=files.skipped,
    )


def _tell_turned(source: str, images: PathImages, masks: tuple[Path, ...]) -> None:
    """A warning where EXIF turns photos and nothing turns their masks."""
    turned = [i for i in range(len(images)) if orientation(images.path(i)) > 1]
    turned = [i for i in turned if orientation(masks[i]) == 1]
    if turned:
        logger.warning(
            "%d of %d photos in %s are turned upright by their EXIF orientation, such as %s; their masks have none, "
            "and must be of the upright photos. If they were drawn on the stored pixels, all of them are turned: look "
            "at plots/examples.png of the run.",
            len(turned),
            len(images),
            source,
            images.name(turned[0]),
        )


def _from_arrays(source: tuple[Any, ...], classes: Classes | None, ignore_index: int) -> Pairs:
    if len(source) != 2:
        raise UsageError(f"{len(source)} arrays were given; expected a pair (images, masks).")
    pixels, masks = np.asarray(source[0]), np.asarray(source[1])
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)) or not pixels.size:
        raise UsageError(
            f"The images are {pixels.shape}; expected (N, H, W), (N, H, W, 1) or (N, H, W, 3), not empty."
        )
    require_pixels(pixels, "The images")
    if masks.shape != pixels.shape[:3] or not np.issubdtype(masks.dtype, np.integer):
        raise UsageError(
            f"The masks are {masks.dtype} {masks.shape}; expected whole numbers {pixels.shape[:3]}."
        )
    if classes is None:
        classes = classes_of_values(count_values(masks), ignore_index)
    require_known(masks, classes, "The array of masks")
    empty = np.flatnonzero((masks == classes.ignore_index).all(axis=(1, 2)))
    if len(empty):
        raise DataError(
            f"The masks of {len(empty)} images have only ignored pixels, such as number {empty[0]}. Leave them out."
        )
    images = ArrayImages(pixels, np.arange(len(pixels)))
    digests = [_digest(images, i, mask) for i, mask in enumerate(masks)]
    return Pairs(
        source="arrays",
        classes=classes,
        encoding="index",
        images=images,
        masks=masks,
        splits=np.full(len(pixels), "train", "<U5"),
        groups=None,
        pixels=np.stack([_count(mask, classes) for mask in masks]),
        sha256=tuple(digests),
    )


def _require_two_classes(pairs: Pairs) -> None:
    present = np.flatnonzero(pairs.pixels.sum(axis=0))
    if len(present) < 2:
        raise DataError(
            f"All masks of {pairs.source} show one class, {pairs.classes.names[present[0]]!r}, and nothing else but "
            "ignored pixels. There is nothing to tell apart: check how the masks are encoded."
        )


def _warn(files: PairedFiles) -> None:
    unused = [skipped.path for skipped in files.skipped if skipped.reason == ALONE]
    if unused:
        logger.warning("%d masks have no image and are left out: %s", len(unused), ", ".join(unused[:5]))


def _count(mask: np.ndarray, classes: Classes) -> np.ndarray:
    return np.bincount(mask[mask != classes.ignore_index], minlength=len(classes)).astype(np.int64)


def _digest(images: PathImages | ArrayImages, i: int, mask: np.ndarray) -> str:
    """Of image ``i`` and its mask together."""
    of_mask = sha256_of(f"{mask.shape} ".encode() + mask.astype(np.int32).tobytes())
    return sha256_of((images.digest(i) + of_mask).encode())

"""Which mask belongs to which image: by folders and file names, by a CSV, or by TFDS. No pixel is read here."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from keras_transfer.data.folder import find_images, is_hidden, tell_left_out
from keras_transfer.data.split_names import WORDS, split_of
from keras_transfer.data.table import Skipped
from keras_transfer.errors import DataError, UsageError

IMAGES, MASKS = "images", "masks"
ALONE = "mask without image"
_COLUMNS = ("image", "mask", "split", "group")


@dataclass(frozen=True, eq=False)
class PairedFiles:
    """Row ``i`` of every field is one image.

    Attributes:
        root: what the names are relative to.
        images, masks: POSIX paths.
        splits: str (N,) where the source gives them.
        groups: str (N,) where the source gives them.
        skipped: masks without image, and files that are no images by their name.
        classes: what the values of the masks mean, from 0 on, where the source says it.
    """

    root: Path
    images: tuple[str, ...]
    masks: tuple[str, ...]
    splits: np.ndarray | None = None
    groups: np.ndarray | None = None
    skipped: tuple[Skipped, ...] = ()
    classes: tuple[str, ...] = ()


def pair_folder(root: Path) -> PairedFiles:
    """Pairs of ``images/NAME.*`` and ``masks/NAME.*``, in a folder or in its ``train/``, ``val/``, ``test/``.

    Folders below ``images/`` must be repeated below ``masks/``. A mask without an image is noted as skipped.

    Raises:
        UsageError: no such folder. DataError: another layout, an image without mask, two files of one name, no image.
    """
    if not root.is_dir():
        raise UsageError(f"There is no folder {root}. {_layout()}")
    tops = {"": root}
    if not (root / IMAGES).is_dir():
        folders = [child for child in sorted(root.iterdir()) if child.is_dir() and not is_hidden(child.name)]
        tops = {child.name: child for child in folders if split_of(child.name)}
        others = [child.name for child in folders if child.name not in tops and (child / IMAGES).is_dir()]
        if others:
            raise DataError(
                f"{', '.join(others)} in {root} hold {IMAGES}/ and do not have the name of a split. Call them "
                "train, val or test, or move them out."
            )
    for top in tops.values():
        for part in (IMAGES, MASKS):
            if not (top / part).is_dir():
                raise DataError(f"There is no folder {top / part}. {_layout()}")
    if not tops:
        raise DataError(
            f"There is neither {IMAGES}/ nor a split folder such as train/ in {root}. {_layout()}"
        )
    meanings = {name: split_of(name) or "train" for name in tops}
    splits = [meanings[name] for name in tops if name]
    if splits and "train" not in splits:
        raise DataError(
            f"{root} has {', '.join(tops)} and no train folder. Add train/ with {IMAGES}/ and {MASKS}/."
        )
    if len(set(splits)) < len(splits):
        raise DataError(f"{root} has two folders for one split: {', '.join(tops)}. Merge them.")
    images: list[str] = []
    masks: list[str] = []
    given: list[str] = []
    skipped: list[Skipped] = []
    for name, top in tops.items():
        paired, left = _pair(top)
        prefix = f"{name}/" if name else ""
        images += [f"{prefix}{IMAGES}/{image}" for image, _ in paired]
        masks += [f"{prefix}{MASKS}/{mask}" for _, mask in paired]
        given += [meanings[name]] * len(paired)
        skipped += left
    tell_left_out(root, [one for one in skipped if one.reason != ALONE])
    return PairedFiles(
        root, tuple(images), tuple(masks), np.array(given, "<U5") if splits else None, skipped=tuple(skipped)
    )


def pair_csv(path: Path, root: Path | None = None) -> PairedFiles:
    """Pairs of a CSV in UTF-8 with the columns ``image,mask`` and optionally ``split,group``; others are passed over.

    Args:
        path: the CSV. root: what its paths are relative to, the CSV's folder by default; paths outside are refused.

    Raises:
        UsageError: no such file or folder. DataError: a missing column, value or file, an image twice; with its line.
    """
    root = path.parent if root is None else root
    if not path.is_file():
        raise UsageError(f"There is no CSV {path}. Expected one with the columns image,mask.")
    if not root.is_dir():
        raise UsageError(f"There is no folder {root} that the paths in {path} could be relative to.")
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path} has no rows below its header. Expected one for each image.")
    images: list[str] = []
    masks: list[str] = []
    for place, row in rows:
        for column, names in (("image", images), ("mask", masks)):
            names.append(_relative(row[column], root, f"the {column} of {place}"))
    twice = (
        next((name for name in images if images.count(name) > 1), None)
        if len(set(images)) < len(images)
        else None
    )
    if twice:
        raise DataError(f"{path} has the image {twice!r} twice. Keep one row for each image.")
    splits = [split_of(row["split"]) for _, row in rows]
    for (place, row), split in zip(rows, splits, strict=True):
        if split is None and any(row["split"] for _, row in rows):
            raise DataError(
                f"The split of {place} is {row['split']!r}; expected one of {', '.join(WORDS)}, or none in all rows."
            )
    groups = [row["group"] or f"alone: {image}" for (_, row), image in zip(rows, images, strict=True)]
    return PairedFiles(
        root,
        tuple(images),
        tuple(masks),
        np.array(splits, "<U5") if any(splits) else None,
        np.array(groups) if any(row["group"] for _, row in rows) else None,
    )


def pair_tfds(text: str, data_dir: str | os.PathLike[str] | None = None) -> PairedFiles:
    """Pairs of a TFDS data set such as ``tfds:oxford_iiit_pet``: an image, and an image of one channel as its mask.

    Args and errors: see :func:`keras_transfer.data.tfds_source.read_columns`. Where several features fit, the
    supervised ones are taken, or those that are called ``image`` and ``segmentation_mask``.
    """
    from keras_transfer.data.tfds_source import read_columns

    found = read_columns(text, data_dir, _features)
    images, masks = found.columns
    splits = None if set(found.splits) == {""} else np.array(found.splits, "<U5")
    if splits is not None and "train" not in splits:
        raise DataError(f"{text} has images in {', '.join(sorted(set(found.splits)))} and none in train.")
    return PairedFiles(found.root, tuple(images), tuple(masks), splits)


def _features(tfds: Any, info: Any) -> tuple[str, str]:
    """The names of the image and of the mask."""
    from keras_transfer.data.tfds_source import choose_feature

    supervised = [key for key in info.supervised_keys or () if isinstance(key, str)]
    pictures = {
        key: one for key, one in sorted(info.features.items()) if isinstance(one, tfds.features.Image)
    }
    masks = [key for key, one in pictures.items() if one.shape[-1] == 1]
    mask = choose_feature(
        masks, supervised[1:], "segmentation_mask", info, "a mask (an image of one channel)"
    )
    images = [key for key in pictures if key not in masks] or [key for key in masks if key != mask]
    return choose_feature(images, supervised[:1], "image", info, "an image"), mask


def _pair(top: Path) -> tuple[list[tuple[str, str]], list[Skipped]]:
    """(image, mask) names below ``images/`` and ``masks/`` of one folder, and what is left over."""
    stems, skipped = {}, []
    for part in (IMAGES, MASKS):
        found = find_images(top / part)
        skipped += found.skipped
        stems[part] = _by_stem(found.images, top / part)
    missing = [name for stem, name in stems[IMAGES].items() if stem not in stems[MASKS]]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(stems[IMAGES])} images in {top / IMAGES} have no mask in {top / MASKS}: "
            f"{_some(missing)}. A mask has the name of its image (any suffix of images); where names differ, give a "
            "CSV with image,mask."
        )
    if not stems[IMAGES]:
        raise DataError(f"There are no images in {top / IMAGES}. {_layout()}")
    for stem, name in stems[MASKS].items():
        if stem not in stems[IMAGES]:
            skipped.append(Skipped(str(top / MASKS / name), ALONE, counted=False))
    return [(name, stems[MASKS][stem]) for stem, name in stems[IMAGES].items()], skipped


def _by_stem(names: list[str], folder: Path) -> dict[str, str]:
    same: dict[str, list[str]] = defaultdict(list)
    for name in names:
        same[str(PurePosixPath(name).with_suffix(""))].append(name)
    twice = next((files for files in same.values() if len(files) > 1), None)
    if twice:
        raise DataError(f"Two files in {folder} have one name: {' and '.join(twice)}. Rename or remove one.")
    return {stem: files[0] for stem, files in same.items()}


def _rows(path: Path) -> list[tuple[str, dict[str, str]]]:
    """[("line 7 of pairs.csv", {column: value})]; every column of ``_COLUMNS`` has a value."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [column.strip().lower() for column in next(reader, [])]
            missing = [column for column in ("image", "mask") if column not in header]
            if missing:
                raise DataError(
                    f"{path} has no column {missing[0]!r}; its first line is {','.join(header)!r}. Expected image,mask "
                    "and optionally split,group, separated by commas."
                )
            rows = []
            for fields in reader:
                place = f"line {reader.line_num} of {path}"
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(header):
                    raise DataError(f"There are {len(fields)} values in {place}, and {len(header)} columns.")
                values = dict(zip(header, fields, strict=True))
                rows.append((place, {column: values.get(column, "").strip() for column in _COLUMNS}))
            return rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV in UTF-8: {error}.") from error


def _relative(text: str, root: Path, what: str) -> str:
    base = os.path.abspath(root)  # noqa: PTH100  (lexically: a link stays a link)
    full = os.path.normpath(os.path.join(base, text))  # noqa: PTH118
    if not text or full == base or os.path.commonpath([full, base]) != base:
        raise DataError(f"{what[0].upper()}{what[1:]} is {text!r}; expected a path below {root}.")
    if not Path(full).is_file():
        raise DataError(f"{what[0].upper()}{what[1:]} is {text!r}, and there is no such file below {root}.")
    return Path(full).relative_to(base).as_posix()


def _layout() -> str:
    return (
        f"Expected {IMAGES}/ and {MASKS}/ with files of the same names, or the same inside train/, val/ and test/, or "
        "a CSV with image,mask."
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")

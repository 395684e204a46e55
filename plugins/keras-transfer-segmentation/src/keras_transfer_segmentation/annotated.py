"""Pairs of data sets whose masks come from annotations: COCO's regions, and Pascal VOC's ``SegmentationClass/``."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from keras_transfer.data.coco import CocoImage, coco_files, load_coco
from keras_transfer.data.folder import Found, find_images
from keras_transfer.data.unpacking import unpacked_as
from keras_transfer.data.voc import load_xml, voc_splits
from keras_transfer.decoding import image_size
from keras_transfer.errors import DataError
from keras_transfer.hashing import sha256_of_file, sha256_of_json
from keras_transfer_segmentation.classes import IGNORE_INDEX, Classes
from keras_transfer_segmentation.masks import write_mask
from keras_transfer_segmentation.pairing import PairedFiles
from keras_transfer_segmentation.shapes import region

BACKGROUND = "background"
VOC_IMAGES, VOC_MASKS = "JPEGImages", "SegmentationClass"
VOC_NAMES = (
    *(BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *(
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
        "tvmonitor",
    ),
)
"""What the masks of Pascal VOC (Everingham et al. 2010) show, 0 to 20."""
_VERSION = 1


def is_voc(root: Path) -> bool:
    """Whether a folder has Pascal VOC's layout with masks."""
    return (root / VOC_IMAGES).is_dir() and (root / VOC_MASKS).is_dir()


def pair_voc(root: Path) -> PairedFiles:
    """Pairs of ``JPEGImages/`` and ``SegmentationClass/``; ``ImageSets/Segmentation`` has the splits.

    Images without a mask are passed over: VOC segments only some. The classes are VOC's where its 20 names are all
    that ``Annotations/`` holds.

    Raises ``DataError`` where no image has a mask.
    """
    found = find_images(root)
    images = {_stem(name): name for name in found.images if name.startswith(f"{VOC_IMAGES}/")}
    masks = {_stem(name): name for name in found.images if name.startswith(f"{VOC_MASKS}/")}
    splits = voc_splits(root, found, "Segmentation")
    stems = sorted(stem for stem in images.keys() & masks.keys() if not splits or stem in splits)
    if not stems:
        raise DataError(f"No image in {root / VOC_IMAGES} has a mask of its name in {root / VOC_MASKS}.")
    given = [splits[stem] for stem in stems] if splits else []
    if splits and "train" not in given:
        raise DataError(f"ImageSets/Segmentation in {root} names no image of train. Add train.txt.")
    return PairedFiles(
        root,
        tuple(images[stem] for stem in stems),
        tuple(masks[stem] for stem in stems),
        np.array(given, "<U5") if splits else None,
        classes=VOC_NAMES if _names(root, found) <= set(VOC_NAMES) else (),
    )


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _names(root: Path, found: Found) -> set[str]:
    """The names of the objects in ``Annotations/``; of a sample, as all files of a data set use the same names."""
    files = [name for name in found.others if name.startswith("Annotations/") and name.endswith(".xml")]
    names = {
        item.findtext("name") or "" for file in files[:200] for item in load_xml(root / file).iter("object")
    }
    return names or {""}


def pair_coco(
    root: Path,
    files: list[str] | None = None,
    classes: Classes | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> PairedFiles:
    """Pairs of the images of COCO files and masks that are drawn from their regions, once, into the cache.

    Class 0 is the background, the others are the categories in the order of the file; small regions lie on large ones,
    and crowds (``iscrowd``) are ignored.

    Args:
        root: the folder with the images.
        files: the COCO files, relative to it; None: those that are found.
        classes: a trained model's: categories are found by their names.
        ignore_index: of the masks.

    Raises ``DataError``: no regions, a category that the classes lack, or a file that contradicts itself.
    """
    found = find_images(root)
    files = coco_files(root, found) if files is None else files
    coco = load_coco(root, files, found)
    used = {
        shape["category_id"] for image in coco.images for shape in image.shapes if shape.get("segmentation")
    }
    if not used:
        raise DataError(f"Not one annotation in {root / files[0]} has a segmentation: boxes tell no pixels.")
    names = tuple(dict.fromkeys((BACKGROUND, *(name for key, name in coco.names.items() if key in used))))
    known = Classes(names, ignore_index=ignore_index) if classes is None else classes
    unknown = [name for name in names[1:] if name not in known.names]
    if unknown:
        raise DataError(
            f"{root / files[0]} has the category {unknown[0]!r}, which is none of the classes "
            f"{', '.join(known.names[:10])}. Leave it out, or name it alike."
        )
    index = {key: known.names.index(name) for key, name in coco.names.items() if key in used}
    told = [[file, sha256_of_file(root / file)] for file in files]
    key = ["masks of COCO", _VERSION, told, list(known.names), known.ignore_index]
    drawn = [image for image in coco.images if image.height or (root / image.name).is_file()]

    def fill(folder: Path) -> None:
        for number, image in enumerate(drawn):
            write_mask(folder / f"{number:07d}.png", _mask(image, root, index, known), known)

    folder = unpacked_as(sha256_of_json(key), f"masks of {files[0]}", fill)
    splits = [image.split for image in drawn]
    if any(splits) and not all(splits):
        raise DataError(
            f"Some COCO files in {root} have a split in their name and others do not. Name all or none."
        )
    return PairedFiles(
        root,
        tuple(image.name for image in drawn),
        tuple((folder / f"{number:07d}.png").as_posix() for number in range(len(drawn))),
        np.array(splits, "<U5") if any(splits) else None,
        classes=known.names,
    )


def _mask(image: CocoImage, root: Path, index: dict[int, int], classes: Classes) -> np.ndarray:
    """Class indices (h, w) of an image."""
    size = (image.height, image.width) if image.height else image_size(root / image.name)
    background = classes.names.index(BACKGROUND) if BACKGROUND in classes.names else 0
    mask = np.full(size, background, classes.dtype)
    shapes = [shape for shape in image.shapes if shape.get("segmentation")]
    regions = [(region(shape["segmentation"], *size, image.place), shape) for shape in shapes]
    for pixels, shape in sorted(regions, key=lambda one: (not one[1].get("iscrowd"), -int(one[0].sum()))):
        mask[pixels] = classes.ignore_index if shape.get("iscrowd") else index[shape["category_id"]]
    return mask

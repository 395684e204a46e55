"""Enrolling, matching and verifying image files: one function for each thing a user asks for in one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from keras_transfer import progress
from keras_transfer.data.folder import read_folder
from keras_transfer.errors import DataError, UsageError
from keras_transfer.inference.tta import require_views
from keras_transfer.workflow.predict import find_images
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.embedder import Embedded, Embedder, open_embedder
from keras_transfer_siamese.gallery import Gallery, Picture, create_gallery, open_gallery, proper_name
from keras_transfer_siamese.identity import mixing
from keras_transfer_siamese.search import Search

log = logging.getLogger("keras_transfer")

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Enrolment:
    """What became of the images of one name: how many are ``new``, how many were there ``already``, and ``errors``."""

    name: str
    new: int
    already: int
    errors: tuple[dict[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"name": self.name, "new": self.new, "already": self.already, "errors": list(self.errors)}


def enroll(
    gallery: str | Path,
    images: Sequence[str | Path],
    name: str,
    *,
    model: Any = None,
    add: bool = False,
    threshold: float | None = None,
    views: int = 1,
) -> Enrolment:
    """Enrol images under a name.

    Args:
        gallery: the file; made where it is missing, and then ``model`` is needed.
        images: files, or folders that are searched.
        name: who or what they show.
        model: see :func:`keras_transfer_siamese.embedder.open_embedder`; by default where the gallery says it was.
        add: the name may be enrolled already.
        threshold: of a gallery that is made; by default the model's own.
        views: test-time augmentation of what is enrolled; see
            :meth:`keras_transfer_siamese.embedder.Embedder.embed`.

    Raises:
        UsageError: a path that is missing, no model, a name that cannot be kept.
        DataError: no image can be used, the name is enrolled (without ``add``), or the model is another.
    """
    return next(
        enroll_all(
            gallery, {name: find_images(images)}, model=model, add=add, threshold=threshold, views=views
        )
    )


def enroll_folder(
    gallery: str | Path,
    folder: str | Path,
    *,
    model: Any = None,
    add: bool = False,
    threshold: float | None = None,
    views: int = 1,
) -> Iterator[Enrolment]:
    """Enrol a folder with one folder of images per name, name by name. See :func:`enroll` for arguments and errors."""
    rows = read_folder(Path(folder), None)
    pictures: dict[str, list[Path]] = {name: [] for name in rows.labels.classes}
    for place, label in enumerate(rows.labels.values):
        pictures[rows.labels.classes[label]].append(Path(rows.images.describe(place)))
    for name in [name for name, paths in pictures.items() if not paths]:
        log.warning("The folder of %r holds no image; the name is not enrolled.", name)
        del pictures[name]
    return enroll_all(gallery, pictures, model=model, add=add, threshold=threshold, views=views)


def enroll_all(
    gallery: str | Path,
    pictures: dict[str, list[Path]],
    *,
    model: Any = None,
    add: bool = False,
    threshold: float | None = None,
    views: int = 1,
) -> Iterator[Enrolment]:
    """Enrol the image files of several names; what was enrolled before an error stays. See :func:`enroll`."""
    require_views(views)
    names = {name: proper_name(name) for name in pictures}
    path = Path(gallery)
    if path.is_file() and path.stat().st_size:
        if threshold is not None:
            raise UsageError(
                f"{path} has its threshold already. Leave --threshold out here, and give it to `match`, or make a new "
                "gallery."
            )
        with open_gallery(path) as opened:
            for name in names.values():
                opened.check_new(name, add)
            embedder = _embedder_for(opened, model)
            opened.note_model(embedder.path)
            yield from _enrolments(opened, embedder, pictures, add, views)
        return
    if model is None:
        raise UsageError(
            f"There is no gallery {path} yet: say with --model which model its embeddings are from."
        )
    if not pictures:
        raise UsageError("There is no name to enrol. Give images and a name.")
    embedder = open_embedder(model)
    binding = embedder.binding
    if threshold is not None:
        binding = replace(binding, comparison=deciding(binding.comparison, threshold))
    # The file is made when there is something to put into it.
    first = next(iter(pictures))
    ready = {first: _usable(embedder, first, pictures[first], frozenset(), views)}
    with create_gallery(path, binding, embedder.path) as made:
        yield from _enrolments(made, embedder, pictures, add, views, ready)


_Read = tuple[list[Picture], tuple[dict[str, str], ...]]
"""What can be enrolled of a name's images, and what is wrong with the others."""


def _enrolments(
    gallery: Gallery,
    embedder: Embedder,
    pictures: dict[str, list[Path]],
    add: bool,
    views: int,
    ready: Mapping[str, _Read] = MappingProxyType({}),
) -> Iterator[Enrolment]:
    """Name by name; those that are ``ready`` were read before."""
    for name, paths in progress.track(pictures.items(), "Enrolling", len(pictures)):
        read = ready.get(name) or _usable(embedder, name, paths, gallery.images_of(name), views)
        usable, errors = read
        new = gallery.enroll(name, usable, add=add) if usable else 0
        yield Enrolment(name, new, len(paths) - len(errors) - new, errors)


def _usable(embedder: Embedder, name: str, paths: list[Path], known: Set[str], views: int) -> _Read:
    """Raises ``DataError`` when none of the images can be used."""
    read = list(embedder.embed(paths, known=known, views=views))
    errors = tuple({"path": str(one.path), "error": one.error} for one in read if one.error is not None)
    if len(errors) == len(read):
        raise DataError(
            f"None of the images of {name!r} can be used: {errors[0]['path']}: {errors[0]['error']}"
            + (f"; and {len(errors) - 1} more" if len(errors) > 1 else "")
            + ". Nothing was enrolled under this name."
        )
    usable = [Picture(str(one.path), one.sha256, one.embedding) for one in read if one.embedding is not None]
    return usable, errors


def match(
    gallery: str | Path,
    images: Sequence[str | Path],
    *,
    model: Any = None,
    top: int = 3,
    threshold: float | None = None,
    score: str = "best",
    engine: str = "auto",
) -> Iterator[dict[str, Any]]:
    """Which enrolled name do images show, or none of them?

    Args:
        gallery: the file.
        images: files, or folders that are searched.
        model: see :func:`enroll`.
        top: how many names to tell of each image.
        threshold: instead of the gallery's.
        score: see :class:`keras_transfer_siamese.search.Search`, as for ``engine``.
        engine: see there.

    Yields:
        ``path``, ``name`` (None: nobody's score reaches the threshold), ``score`` of the most alike, ``threshold``, and
        ``candidates`` (``name``, ``score``), best first; or ``path`` and ``error``.

    Raises:
        UsageError: a path that is missing, an impossible argument.
        DataError: nobody is enrolled, the gallery is damaged, the model is another, there is no threshold.
    """
    if top < 1:
        raise UsageError(f"top={top} was given; at least 1 is expected.")
    paths = find_images(images)
    with open_gallery(gallery) as opened:
        comparison = deciding(opened.binding.comparison, threshold)
        entries = opened.entries()
        search = Search(entries.names, entries.embeddings, comparison, score=score, engine=engine)
        embedder = _embedder_for(opened, model)
    return _matches(search, embedder, paths, comparison, top)


def _matches(
    search: Search, embedder: Embedder, paths: Sequence[Path], comparison: Comparison, top: int
) -> Iterator[dict[str, Any]]:
    for one in embedder.embed(paths):
        if one.embedding is None:
            yield {"path": str(one.path), "error": one.error}
            continue
        found = search.top(one.embedding[None], top)[0]
        best = found[0]
        known = bool(comparison.same(np.array(best.score, np.float32)))
        yield {
            "path": str(one.path),
            "name": best.name if known else None,
            "score": best.score,
            "threshold": comparison.threshold,
            "candidates": [{"name": row.name, "score": row.score} for row in found],
        }


def verify(
    model: Any, first: str | Path, second: str | Path, *, threshold: float | None = None
) -> dict[str, Any]:
    """Do two images show the same?

    Args:
        model: see :func:`keras_transfer_siamese.embedder.open_embedder`.
        first: an image file.
        second: another.
        threshold: instead of the model's.

    Returns:
        ``same``, ``score``, ``threshold``, ``comparison`` (its kind).

    Raises:
        UsageError: a path that is missing.
        DataError: an image cannot be used; there is no threshold.
    """
    paths = find_images([first, second])
    if len(paths) != 2:
        raise UsageError(f"{first} and {second} hold {len(paths)} images; two image files are expected.")
    embedder = open_embedder(model)
    comparison = deciding(embedder.binding.comparison, threshold)
    one, other = (_required(read) for read in embedder.embed(paths))
    score = float(comparison.scores(one[None], other[None])[0, 0])
    return {
        "same": bool(comparison.same(np.array(score, np.float32))),
        "score": score,
        "threshold": comparison.threshold,
        "comparison": comparison.kind,
    }


def deciding(comparison: Comparison, threshold: float | None) -> Comparison:
    """A comparison with a threshold: the given one, or its own.

    Raises:
        UsageError: the given one is no number. DataError: there is none.
    """
    if threshold is not None:
        if not np.isfinite(threshold):
            raise UsageError(f"The threshold {threshold} is not a finite number; give a score.")
        return comparison.at(threshold)
    comparison.same(np.zeros(0))
    return comparison


def _embedder_for(gallery: Gallery, model: Any) -> Embedder:
    """The gallery's model, or the given one where the two may be mixed.

    Raises:
        UsageError: none was given, and it is not where it was.
        DataError: it is another one.
    """
    if model is None:
        model = gallery.model_path
        if model is None or not model.exists():
            where = f" It was {model}, where nothing is any more." if model is not None else ""
            raise UsageError(f"Say with --model which model {gallery.path} is to be asked with.{where}")
    embedder = open_embedder(model)
    bound, given = gallery.binding, embedder.binding
    warning = mixing(bound.identity, given.identity)
    if warning is not None:
        log.warning("%s", warning)
    if given.preprocessing != bound.preprocessing or given.dimension != bound.dimension:
        raise DataError(
            f"{gallery.path} and {given.identity.name} disagree on the preprocessing or on the size of an embedding. "
            "Enrol the images into a new gallery."
        )
    return embedder


def _required(read: Embedded) -> np.ndarray:
    if read.embedding is None:
        raise DataError(f"{read.path}: {read.error}. Two readable images are expected.")
    return read.embedding

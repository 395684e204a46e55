"""A gallery elsewhere: as JSON, as NumPy arrays, or inside the bundle of its model."""

from __future__ import annotations

import io
import json
import logging
import tempfile
from pathlib import Path

import numpy as np

from keras_transfer.errors import UsageError
from keras_transfer.paths import atomic_write
from keras_transfer_siamese.gallery import SCHEMA, Binding, Entries, Gallery, open_gallery
from keras_transfer_siamese.identity import mixing

log = logging.getLogger("keras_transfer")

KIND = "keras-transfer gallery"
IN_BUNDLE = "gallery.sqlite"
"""The gallery's file in a bundle."""


def export_gallery(gallery: str | Path, to: Path, *, overwrite: bool = False) -> Path:
    """Write a gallery for other programs, or into a bundle.

    Args:
        gallery: the file.
        to: a ``.json`` file; a ``.npz`` file (``names``, ``files``, ``sha256``, ``created``: arrays of texts;
            ``embeddings`` float32 ``(n, D)``; ``binding``, a JSON text); or the folder of a bundle of its model.
        overwrite: replace what is there.

    Returns:
        The file that was written. Embeddings of people are personal data, there as here.

    Raises:
        UsageError: another suffix, no bundle, something is there already.
        DataError: the gallery is damaged, or of another model than the bundle.
        BundleError: the bundle is damaged.
    """
    with open_gallery(gallery) as opened:
        if to.is_dir():
            return _into_bundle(opened, to, overwrite)
        if to.suffix not in (".json", ".npz"):
            raise UsageError(
                f"{to}: a file that ends in .json or .npz, or the folder of a bundle, is expected."
            )
        if to.exists() and not overwrite:
            raise UsageError(f"{to} is there already. Choose another name, or pass --overwrite.")
        binding, entries = opened.binding, opened.entries()
    atomic_write(to, as_json(binding, entries) if to.suffix == ".json" else as_arrays(binding, entries))
    return to


def as_json(binding: Binding, entries: Entries) -> str:
    """One JSON document."""
    columns = (entries.names, entries.files, entries.sha256, entries.created, entries.embeddings)
    rows = [
        {"name": name, "file": file, "sha256": sha256, "created": created, "embedding": embedding.tolist()}
        for name, file, sha256, created, embedding in zip(*columns, strict=True)
    ]
    content = {"kind": KIND, "schema": SCHEMA, **binding.to_dict(), "entries": rows}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_arrays(binding: Binding, entries: Entries) -> bytes:
    """An ``.npz`` file without pickled objects."""
    file = io.BytesIO()
    np.savez(
        file,
        names=np.array(entries.names, str),
        files=np.array(entries.files, str),
        sha256=np.array(entries.sha256, str),
        created=np.array(entries.created, str),
        embeddings=entries.embeddings,
        binding=np.array(json.dumps(binding.to_dict(), ensure_ascii=False)),
    )
    return file.getvalue()


def _into_bundle(gallery: Gallery, folder: Path, overwrite: bool) -> Path:
    from keras_transfer.export.bundle import load_bundle
    from keras_transfer.export.carrying import carry
    from keras_transfer_siamese.embedder import bundle_identity, require_embeddings

    bundle = load_bundle(folder)
    require_embeddings(str(folder), bundle.record.contract)
    if (folder / IN_BUNDLE).exists() and not overwrite:
        raise UsageError(f"{folder} carries a gallery already. Replace it with --overwrite.")
    gallery.entries()  # every row is whole
    for artefact in bundle.artefacts:
        if artefact.file.endswith(".tflite"):
            warning = mixing(gallery.binding.identity, bundle_identity(bundle, artefact.file))
            if warning is not None:
                log.warning("%s", warning)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / IN_BUNDLE
        gallery.copy(copy)
        return carry(bundle, IN_BUNDLE, copy.read_bytes())

"""A gallery elsewhere: as JSON, as NumPy arrays, for the clients of a bundle, or inside the bundle of its model."""

from __future__ import annotations

import io
import json
import logging
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from keras_transfer.errors import UsageError
from keras_transfer.paths import atomic_write
from keras_transfer_siamese.comparison import KINDS
from keras_transfer_siamese.gallery import SCHEMA, Binding, Entries, Gallery, open_gallery
from keras_transfer_siamese.identity import mixing

log = logging.getLogger("keras_transfer")

KIND = "keras-transfer gallery"
IN_BUNDLE = "gallery.sqlite"
"""The gallery's file in a bundle."""
FOR_CLIENTS = "gallery.bin"
"""The same beside it, for ``clients/``: see :func:`as_bytes`."""
MAGIC, VERSION = b"KTGALLRY", 1


def export_gallery(gallery: str | Path, to: Path, *, overwrite: bool = False) -> Path:
    """Write a gallery for other programs, or into a bundle.

    Args:
        gallery: the file.
        to: a ``.json`` file; a ``.npz`` file (``names``, ``files``, ``sha256``, ``created``: arrays of texts;
            ``embeddings`` float32 ``(n, D)``; ``binding``, a JSON text); a ``.bin`` file (:func:`as_bytes`); or the
            folder of a bundle of its model, which gets it as SQLite and as a ``.bin`` file.
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
        if to.suffix not in _WRITERS:
            raise UsageError(
                f"{to}: a file that ends in .json, .npz or .bin, or the folder of a bundle, is expected."
            )
        if to.exists() and not overwrite:
            raise UsageError(f"{to} is there already. Choose another name, or pass --overwrite.")
        binding, entries = opened.binding, opened.entries()
    atomic_write(to, _WRITERS[to.suffix](binding, entries))
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


def as_bytes(binding: Binding, entries: Entries) -> bytes:
    """What programs on a device read without a library, little-endian.

    Bytes 0 to 7 are ``KTGALLRY``. From 8: uint32 version (1), D, images n, names m, comparison (its place in
    :data:`~keras_transfer_siamese.comparison.KINDS`). At 28 the threshold, float32 (NaN where none was chosen); at 32
    the bias, float64; at 40 uint32 the bytes of the names; at 44 nothing; at 48 the model, 64 hex digits. From 112: the
    weights of ``weighted_l1``, float32 ``(D,)``; uint32 ``(m,)``, how many images each name has; the embeddings,
    float32 ``(n, D)``, name by name; the names in UTF-8, each with a NUL behind it, sorted.
    """
    comparison = binding.comparison
    names, owner, counts = np.unique(np.array(entries.names, str), return_inverse=True, return_counts=True)
    letters = "".join(f"{name}\0" for name in names).encode()
    threshold = np.nan if comparison.threshold is None else comparison.threshold
    head = struct.pack(
        "<8s5IfdII64s",
        MAGIC,
        VERSION,
        binding.dimension,
        len(owner),
        len(names),
        KINDS.index(comparison.kind),
        threshold,
        comparison.bias,
        len(letters),
        0,
        binding.identity.model.encode(),
    )
    weights = np.zeros(0) if comparison.weights is None else comparison.weights
    embeddings = entries.embeddings[np.argsort(owner, kind="stable")]
    parts = (weights.astype("<f4"), counts.astype("<u4"), embeddings.astype("<f4"))
    return head + b"".join(part.tobytes() for part in parts) + letters


_WRITERS: Mapping[str, Callable[[Binding, Entries], str | bytes]] = {
    ".json": as_json,
    ".npz": as_arrays,
    ".bin": as_bytes,
}


def _into_bundle(gallery: Gallery, folder: Path, overwrite: bool) -> Path:
    from keras_transfer.export.bundle import list_bundle, load_bundle
    from keras_transfer.export.carrying import carry
    from keras_transfer_siamese.embedder import bundle_identity, require_embeddings

    bundle = load_bundle(folder)
    require_embeddings(str(folder), bundle.record.contract)
    if (folder / IN_BUNDLE).exists() and not overwrite:
        raise UsageError(f"{folder} carries a gallery already. Replace it with --overwrite.")
    plain = as_bytes(gallery.binding, gallery.entries())  # every row is whole
    for artefact in bundle.artefacts:
        if artefact.file.endswith(".tflite"):
            warning = mixing(gallery.binding.identity, bundle_identity(bundle, artefact.file))
            if warning is not None:
                log.warning("%s", warning)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / IN_BUNDLE
        gallery.copy(copy)
        written = carry(bundle, IN_BUNDLE, copy.read_bytes())
    carry(list_bundle(folder), FOR_CLIENTS, plain)
    return written

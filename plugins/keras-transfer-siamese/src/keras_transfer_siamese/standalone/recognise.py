#!/usr/bin/env python3
"""Tell whom or what images show, with the model beside this file. TensorFlow is not needed.

    python recognise.py --match IMAGE...       the enrolled name, or "unknown" (the gallery that the bundle carries)
    python recognise.py --verify A B           whether two images show the same
    python recognise.py --model model_int8.tflite --match IMAGE...
    python recognise.py --self-test            replay the golden images; exit code 1 on any deviation

It needs: pip install ai-edge-litert numpy pillow   (tflite-runtime will do, too)

`keras-transfer siamese gallery export GALLERY --to BUNDLE` puts gallery.sqlite into the bundle. classify.py, which
knows how an image becomes pixels, must lie beside this file, and bundle.json and one .tflite.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sqlite3
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.dont_write_bytecode = True  # the bundle stays as it was exported
from classify import HERE, Problem, argument_parser, positive, read_image, run

GALLERY = "gallery.sqlite"
APPLICATION, SCHEMA = 0x4B545347, 1
LEAST_RANGE = 3


class Gallery:
    """The enrolled names, embeddings float32 (n, D), and the rule by which they are compared."""

    def __init__(self, path: Path, bundle: dict[str, Any]) -> None:
        if not path.is_file():
            raise Problem(
                f"There is no gallery {path}. `keras-transfer siamese gallery export GALLERY --to BUNDLE` puts one "
                "into the bundle; --gallery FILE takes another."
            )
        try:
            with contextlib.closing(
                sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
            ) as file:
                self._read(path, file)
        except (sqlite3.Error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Problem(f"The gallery {path.name} is damaged: {error}") from None
        trained = (bundle.get("training") or {}).get("model")
        if self.identity["model"] != trained:
            raise Problem(
                f"The gallery {path.name} holds embeddings of the model {self.identity['name']} "
                f"({self.identity['model'][:12]}); this bundle is of another, {bundle.get('title')} "
                f"({str(trained)[:12]})."
            )

    def _read(self, path: Path, file: sqlite3.Connection) -> None:
        found = [file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
        if found != [APPLICATION, SCHEMA]:
            raise Problem(f"{path.name} is not a gallery of schema {SCHEMA}. Export it again.")
        text, checksum = file.execute("SELECT binding, checksum FROM gallery").fetchone()
        if zlib.crc32(text.encode()) != checksum:
            raise ValueError("what it is bound to is not what was written")
        binding = json.loads(text)
        self.identity, self.rule, size = binding["identity"], binding["comparison"], binding["dimension"]
        names, rows = [], []
        for name, image, sha256, created, values, checksum in file.execute(
            "SELECT name, file, sha256, created, embedding, checksum FROM entries ORDER BY id"
        ):
            told = f"{name}\0{image}\0{sha256}\0{created}\0".encode()
            if len(values) != 4 * size or zlib.crc32(values, zlib.crc32(told)) != checksum:
                raise ValueError(f"an embedding of {name!r} is not what was written")
            names.append(name)
            rows.append(np.frombuffer(values, "<f4"))
        if not names:
            raise Problem(f"Nothing is enrolled in {path.name}.")
        self.names, self._owner = np.unique(np.array(names), return_inverse=True)
        self.embeddings = np.stack(rows)

    def best(self, embedding: np.ndarray, count: int) -> list[tuple[str, float]]:
        """The ``count`` best names and their scores, those of their most alike images; best first."""
        scores = alike(self.rule, embedding, self.embeddings)
        found = np.full(len(self.names), -np.inf, np.float32)
        np.maximum.at(found, self._owner, scores)
        best = np.argsort(-found, kind="stable")[:count]
        return [(str(self.names[place]), float(found[place])) for place in best]


def alike(rule: dict[str, Any], query: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Scores (n,) of a query (D,) and entries (n, D): higher for more alike."""
    if rule["kind"] == "cosine":
        lengths = np.maximum(np.linalg.norm(entries, axis=1), 1e-12)
        return entries @ (query / max(float(np.linalg.norm(query)), 1e-12)) / lengths
    if rule["kind"] == "euclidean":
        return -np.linalg.norm(entries - query, axis=1)
    if rule["kind"] == "weighted_l1":
        found = np.abs(entries - query) @ np.array(rule["weights"], np.float32)
        return 1 / (1 + np.exp(np.clip(found - rule["bias"], -60, 60)))
    raise Problem(f"The comparison {rule['kind']!r} is not known to this file. Use the one it came with.")


def threshold_of(rule: dict[str, Any], options: argparse.Namespace) -> float:
    chosen = rule["threshold"] if options.threshold is None else options.threshold
    if chosen is None or not math.isfinite(chosen):
        raise Problem("No threshold was chosen for this model. Pass one: --threshold X")
    return float(chosen)


def recognise(
    bundle: dict[str, Any], options: argparse.Namespace, path: Path, pixels: np.ndarray, answer: np.ndarray
) -> Sequence[str]:
    """The name of what one image shows; or, at the second of two, whether they show the same."""
    padded = bundle["preprocessing"]["resize"] == "pad"
    if (padded or _shows_nothing(pixels)) and _shows_nothing(np.asarray(read_image(path))):
        raise Problem(f"{path} is of one colour and shows nothing to compare.")
    if not np.isfinite(answer).all() or not answer.any():
        raise Problem(f"{path}: the model gives no usable embedding.")
    if options.verify:
        options.seen.append(answer)
        if len(options.seen) < 2:
            return []
        rule = bundle["notes"]["comparison"]
        score, threshold = (
            float(alike(rule, options.seen[0], options.seen[1][None])[0]),
            threshold_of(rule, options),
        )
        told = "same" if np.float32(score) >= threshold else "different"
        return [f"{told}: {rule['kind']} {score:.3f}, threshold {threshold:.3f}"]
    if options.opened is None:
        options.opened = Gallery(options.gallery.absolute(), bundle)
    gallery = options.opened
    threshold = threshold_of(gallery.rule, options)
    best = gallery.best(answer, options.top)
    lines = [f"{name} {score:.3f}" for name, score in best]
    return lines if np.float32(best[0][1]) >= threshold else ["unknown", *lines]


def _shows_nothing(pixels: np.ndarray) -> bool:
    """Whether an image (H, W, 3) is of one even colour."""
    return int(np.ptp(pixels.reshape(-1, 3), axis=0).max()) < LEAST_RANGE


def main() -> int:
    parser = argument_parser((__doc__ or "").splitlines()[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--match", action="store_true", help="print the enrolled name (the default)")
    what.add_argument("--verify", action="store_true", help="print whether two images show the same")
    parser.add_argument(
        "--gallery", type=Path, default=HERE / GALLERY, metavar="FILE", help=f"default: {GALLERY}"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="score from which images show the same (default: recorded)",
    )
    parser.add_argument(
        "--top", type=positive, default=3, metavar="K", help="how many names to list (default: 3)"
    )
    parser.set_defaults(seen=[], opened=None)
    options = parser.parse_args()
    if options.verify and len(options.images) != 2:
        parser.error("--verify takes two images")
    return run(parser, recognise)


if __name__ == "__main__":
    sys.exit(main())

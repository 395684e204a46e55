"""What the plugin's tests share: images with two bad files among them, and workers without Ray."""

from __future__ import annotations

import contextlib
import shutil

import numpy as np
from keras_transfer_ray.settings import ClusterSettings
from keras_transfer_ray.shards import FOLDER

from keras_transfer.settings import DataSettings, ModelSettings

TINY = ModelSettings(backbone="tiny", image_size=64)
DATA = DataSettings(max_skipped=0.2)


def with_bad_files(photos, folder):
    """A copy of a folder of photos, in which one file is no image and one is cut off."""
    shutil.copytree(photos, folder)
    (folder / "china" / "bad.png").write_bytes(b"no image")
    whole = sorted((folder / "flower").glob("*.png"))[0].read_bytes()
    (folder / "flower" / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder


def in_this_process(monkeypatch, workers=1):
    """Shards are computed here, one after the other: everything but Ray is as ever. Gives the blocks as they come."""
    from keras_transfer_ray import job
    from keras_transfer_ray.worker import Worker

    seen = []

    def here(blocks, work, _cluster, outcome):
        outcome.workers = workers
        worker = Worker(work)
        for block in blocks:
            seen.append(block)
            yield worker(block).to_pylist()[0]

    monkeypatch.setattr(job, "by_ray", here)
    return seen


def features_in(folder):
    """``{sha256: vector}`` of everything in a folder's shards."""
    import pyarrow.parquet as parquet

    found = {}
    for path in sorted((folder / FOLDER).glob("*.parquet")):
        table = parquet.read_table(path)
        for digest, values in zip(
            table.column("sha256").to_pylist(), table.column("values").to_pylist(), strict=True
        ):
            if digest is not None:
                found[digest] = np.array(values, np.float32)
    return found


def on_one_machine(photos):
    """The table and the features that ``keras-transfer features --engine litert`` gives."""
    from keras_transfer.workflow.features import save_features

    with contextlib.suppress(FileNotFoundError):
        (photos.parent / "one.npz").unlink()
    return save_features(photos, photos.parent / "one.npz", model=TINY, data=DATA, engine="litert")


def same_bits(folder, table, found):
    """Whether a folder of shards holds the features of a table, bit for bit, and no others."""
    there = features_in(folder)
    return set(there) == set(table.sha256) and all(
        np.array_equal(there[digest], values)
        for digest, values in zip(table.sha256, found.values, strict=True)
    )


def shards(folder):
    """The shards of a folder that are finished."""
    return sorted(path for path in (folder / FOLDER).glob("[!.]*.parquet"))


def small_shards(**values):
    """Settings of a cluster, with shards of four images."""
    return ClusterSettings(**{"shard_images": 4, **values})

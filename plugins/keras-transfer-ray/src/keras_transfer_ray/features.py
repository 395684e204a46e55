"""``ray features``: what ``keras-transfer features --engine litert`` gives, from many machines, in shards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from keras_transfer import options as option_tools
from keras_transfer.backbone_specs import pyramid_of
from keras_transfer.data import ImageTable, PathImages, load_data
from keras_transfer.data.checking import Checked, checked_by
from keras_transfer.data.kept import KeptPixels
from keras_transfer.features.pooling import feature_model
from keras_transfer.inference import engines
from keras_transfer.records.features import FEATURES, IMAGES, LEFT_OUT, FeaturesRecord
from keras_transfer.settings import DataSettings, ModelSettings
from keras_transfer.workflow.train import backbone_for, preprocessing_for
from keras_transfer_ray.job import Job, Outcome, checked, opened
from keras_transfer_ray.listing import require_files, skipped_csv
from keras_transfer_ray.networks import ENGINE, converted
from keras_transfer_ray.settings import ClusterSettings, VectorSettings


@dataclass(frozen=True, eq=False)
class Written:
    """What :func:`features` gives: the images, the folder's record, and what was done for it."""

    table: ImageTable
    record: FeaturesRecord
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "images": len(self.table),
            "skipped": sum(one.counted for one in self.table.skipped),
            "dimensions": self.record.dim,
            **self.outcome.to_dict(),
        }


def features(
    source: str,
    output: str,
    *,
    model: ModelSettings | None = None,
    data: DataSettings | None = None,
    vectors: VectorSettings | None = None,
    cluster: ClusterSettings | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Written:
    """Compute one vector for every image, by the workers of a cluster, and leave a folder that ``train`` reads.

    What is there of the same work is kept: an interrupted call goes on where it stopped.

    Args:
        source: what ``load_data`` takes, but arrays.
        output: a folder or its address, which every machine of the cluster reaches.
        model, data, seed: as of ``save_features``.
        vectors: which layer, which pooling.
        cluster: where, and in which pieces.
        overwrite: remove what an earlier call wrote there.

    Raises:
        UsageError, DataError, KerasTransferError: the message says what to do.
    """
    model, data = model or ModelSettings(), data or DataSettings(min_per_class=1)
    vectors, cluster = vectors or VectorSettings(), cluster or ClusterSettings()
    for group in (data, model, vectors, cluster):
        option_tools.check(group)
    done: list[tuple[Outcome, FeaturesRecord]] = []
    with opened("features", output, cluster, overwrite=overwrite) as job:

        def check(images: PathImages, _keep: KeptPixels | None) -> list[Checked]:
            outcome, record = _computed(job, images, model, vectors)
            done.append((outcome, record))
            return checked(job.tables(outcome.shards))

        with checked_by(check):
            table = load_data(source, seed=seed, **vars(data))
        require_files(done, source)
        outcome, record = done[0]
        record = FeaturesRecord(**{**vars(record), "source": table.source, "images": len(table)})
        job.store.write(IMAGES, table.csv_text().encode("utf-8", "surrogateescape"))
        job.store.write(LEFT_OUT, skipped_csv(table.skipped))
        job.store.write(FEATURES, json.dumps(record.to_dict(), indent=1).encode())
    return Written(table, record, outcome)


def _computed(
    job: Job, images: PathImages, model: ModelSettings, vectors: VectorSettings
) -> tuple[Outcome, FeaturesRecord]:
    backbone = backbone_for(model)
    extractor = feature_model(
        backbone, layer=vectors.layer, pooling=vectors.pooling, pyramid=pyramid_of(model.backbone)
    )
    preprocessing = preprocessing_for(model, backbone.input_shape[1:3])
    pooled = engines.pooled_model(extractor, preprocessing.size)
    ready = converted(pooled, preprocessing, images)
    outcome = job.run(images, ready)
    height, width = preprocessing.size
    record = FeaturesRecord(
        network=ready.identity,
        preprocessing=preprocessing.fingerprint(),
        dim=int(pooled.output_shape[1]),
        engine=engines.identity(ENGINE.engine, ENGINE.engine_precision),
        about={"backbone": model.backbone, "size": f"{height}x{width}"},
        source="",
        images=0,
        shards=tuple(outcome.shards),
    )
    return outcome, record

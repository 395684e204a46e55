"""``ray check``: the findings of ``keras-transfer check``; the machines of a cluster read the files and compute."""

from __future__ import annotations

import numpy as np
import pyarrow

from keras_transfer.data import PathImages
from keras_transfer.data.checking import Checked, checked_by
from keras_transfer.data.kept import KeptPixels
from keras_transfer.features.pooling import feature_model
from keras_transfer.inference import engines
from keras_transfer.settings import DataSettings, ModelSettings
from keras_transfer.workflow.check import CheckResult, result_of, table_to_check
from keras_transfer.workflow.train import backbone_for, preprocessing_for
from keras_transfer_ray.job import Outcome, checked, opened
from keras_transfer_ray.listing import require_files
from keras_transfer_ray.networks import converted
from keras_transfer_ray.settings import ClusterSettings
from keras_transfer_ray.shards import pictures_of, values_of


def check(
    source: str,
    output: str,
    *,
    model: ModelSettings | None = None,
    data: DataSettings | None = None,
    cluster: ClusterSettings | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[CheckResult, Outcome]:
    """Look for what is wrong with data: the workers read every file, this process compares.

    Memory here is what ``keras_transfer.check`` takes: features and small grey pictures, some 10 KB an image.

    Args:
        output: a folder or its address: the report, and the shards it was made from.

    Raises:
        UsageError, DataError, KerasTransferError: the message says what to do.
    """
    model, data, cluster = model or ModelSettings(), data or DataSettings(), cluster or ClusterSettings()
    gathered: list[pyarrow.Table] = []
    done: list[Outcome] = []
    with opened("check", output, cluster, overwrite=overwrite) as job:

        def look(images: PathImages, _keep: KeptPixels | None) -> list[Checked]:
            backbone = backbone_for(model)
            preprocessing = preprocessing_for(model, backbone.input_shape[1:3])
            network = engines.pooled_model(feature_model(backbone), preprocessing.size)
            done.append(job.run(images, converted(network, preprocessing, images), looks=True))
            gathered.extend(job.tables(done[0].shards))
            return checked(iter(gathered))

        with checked_by(look):
            table = table_to_check(source, data, seed)
        require_files(done, source)
        features = np.concatenate([values_of(one) for one in gathered])
        result = result_of(table, features, pictures_of(gathered), seed, done[0].computed)
        for name, content in result.report_files().items():
            job.store.write(name, content)
    return result, done[0]

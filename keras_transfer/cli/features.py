"""``keras-transfer features``."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from keras_transfer.cli.kit import offline_option, options_of, output_options, prepare, print_json
from keras_transfer.engine_choice import require_engine
from keras_transfer.settings import DataSettings, EngineSettings, FeatureSettings, ModelSettings


@click.command()
@click.argument("data")
@click.option(
    "--output", "-o", required=True, metavar="FILE", help="The .npz, .parquet or .npy file to write."
)
@click.option(
    "--seed", default=0, show_default=True, help="Fixes the split that is written beside the features."
)
@options_of(EngineSettings, FeatureSettings, ModelSettings, DataSettings)
@click.option("--overwrite", is_flag=True, help="Replace existing files (never the data).")
@offline_option
@output_options
def features(
    data: str,
    output: str,
    engine: str,
    engine_precision: str,
    seed: int,
    overwrite: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Save features of the images in DATA: paths, labels, and one vector per image.

    \b
    keras-transfer features photos/ --output features.npz
    keras-transfer features photos/ --layer P4 --pooling gem --pca 64 --dtype float16 --output features.npy
    """
    require_engine(EngineSettings(engine, engine_precision))
    prepare(quiet, offline)
    from keras_transfer.options import from_dict
    from keras_transfer.workflow.features import save_features

    groups = [
        from_dict(group, {field.name: values[field.name] for field in dataclasses.fields(group)})
        for group in (ModelSettings, DataSettings, FeatureSettings)
    ]
    table, found = save_features(
        data,
        output,
        model=groups[0],
        data=groups[1],
        features=groups[2],
        engine=engine,
        engine_precision=engine_precision,
        seed=seed,
        overwrite=overwrite,
    )
    facts = {
        "output": output,
        "images": len(table),
        "dimensions": int(found.values.shape[1]),
        "dtype": str(found.values.dtype),
        "engine": found.engine,
        "engine_precision": found.engine_precision,
        "computed": found.computed,
        "cached": found.cached,
        "seconds": round(found.seconds, 3),
    }
    if as_json:
        print_json(facts)
    else:
        click.echo(
            f"{facts['images']} images, {facts['dimensions']} features each ({found.cached} from the cache): {output}"
        )

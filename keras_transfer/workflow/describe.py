"""Looking into a network: a backbone of the catalog, a run, a ``.keras`` file, or a Keras model at hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_transfer.backbone_specs import get_spec
from keras_transfer.backbones import load_backbone
from keras_transfer.backbones.description import Description, describe_model
from keras_transfer.backbones.own import FILES, read_model
from keras_transfer.catalog import OWN
from keras_transfer.errors import UsageError
from keras_transfer.outputs import Outputs
from keras_transfer.run import is_run, open_run


def describe(model: Any, image_size: int | tuple[int, int] | None = None) -> Description:
    """What every layer and block of a network gives, sees, holds and costs.

    Args:
        model: the name of a backbone, the path of a run folder or of a model's file (``.keras``, ``.h5``, a SavedModel
            that Keras 2 has written; ``path:FILE`` is the same file), or a Keras model.
        image_size: a side or (height, width) in pixels; a backbone's default otherwise. A finished model has its own.

    Returns:
        A :class:`~keras_transfer.backbones.description.Description`: ``layers``, ``blocks``, ``totals``;
        ``print()`` shows the table of blocks, ``to_dict()`` is JSON-able.

    Raises:
        UsageError: no such backbone or file, a size it does not take, or a model that keeps its layers in code.
        WeightsError: a damaged file.
    """
    if not isinstance(model, (str, os.PathLike)):
        return describe_model(model, image_size)
    path = Path(os.fspath(model).removeprefix(OWN)).expanduser()
    if path.is_dir() and is_run(path):
        return describe_model(open_run(path).load_model(), image_size)
    if path.suffix in FILES or str(model).startswith(OWN) or (path / "saved_model.pb").is_file():
        return describe_model(read_model(path), image_size)
    if path.exists() and not _is_backbone(str(model)):
        raise UsageError(
            f"{path} cannot be described: a .keras or .h5 file, a SavedModel, a run folder or a backbone's "
            "name is expected."
        )
    # What a network costs does not depend on its weights: none are read, nothing is downloaded.
    return describe_model(load_backbone(str(model), weights="none", image_size=image_size))


def side_by_side(first: Description, second: Description) -> list[dict[str, Any]]:
    """The totals of two networks, JSON-able: ``what``, ``first``, ``second``, and ``ratio`` (second / first)."""
    rows: list[dict[str, Any]] = []
    for what in ("parameters", "multiply_adds", "weight_bytes", "activation_bytes", "peak_bytes", "layers"):
        one, other = getattr(first.totals, what), getattr(second.totals, what)
        rows.append({"what": what, "first": one, "second": other, "ratio": other / one if one else None})
    return rows


def draw(descriptions: Sequence[Description], path: str | Path, *, overwrite: bool = False) -> None:
    """Write the bar picture of what each block costs, networks side by side.

    Raises ``UsageError`` where a file is there that this tool did not write, unless ``overwrite``.
    """
    from keras_transfer.evaluation.plots_cost import cost_chart

    with Outputs(overwrite=overwrite).writing(path) as place:
        cost_chart(descriptions, place)


def _is_backbone(name: str) -> bool:
    try:
        get_spec(name)
    except UsageError:
        return False
    return True

"""What ``predict`` and ``explain`` share: a model of the user's, or a pretrained network as it is, and images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click
from click.core import ParameterSource

from keras_transfer.backbone_specs import get_spec
from keras_transfer.catalog import OWN
from keras_transfer.cli.kit import click_option, prepare
from keras_transfer.errors import UsageError
from keras_transfer.options import option_infos
from keras_transfer.settings import ModelSettings

_AS_IS = {"resize": "crop", "decode": "full"}
"""What a network as it is was measured with, where a training has other defaults (``workflow/as_is.py``)."""
_NETWORK = [
    replace(info, default=_AS_IS.get(info.name, info.default))
    for info in option_infos(ModelSettings)
    if info.name not in ("backbone", "cut", "input_mode")
]


def model_arguments(function: Any) -> Any:
    """Add ``[MODEL] IMAGES...``, ``--backbone`` and ``--labels-file``."""
    for decorate in (
        click.option(
            "--labels-file",
            metavar="FILE",
            help="File with the class names, one per line, if there is none beside MODEL.",
        ),
        click.option(
            "--backbone",
            metavar="NAME",
            help="Instead of MODEL: a pretrained network as it is, with the 1,000 ImageNet classes.",
        ),
        click.argument("model_and_images", nargs=-1, required=True, metavar="[MODEL] IMAGES..."),
    ):
        function = decorate(function)
    return function


def network_options() -> list[click.Option]:
    """The options of a pretrained network, to be put behind a command's own."""
    return [click_option(info) for info in _NETWORK]


def open_arguments(
    ctx: click.Context,
    arguments: Sequence[str],
    backbone: str | None,
    network: dict[str, Any],
    *,
    quiet: bool,
    offline: bool,
) -> tuple[Any, tuple[str, ...]]:
    """The model (a path, or an opened network) and the images, with TensorFlow imported.

    Raises ``UsageError`` for too few arguments, an unknown network or option, and missing images.
    """
    given = {name for name in network if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if backbone is None and given:
        raise UsageError(
            f"--{min(given).replace('_', '-')} is for a pretrained network (--backbone); a model brings its own."
        )
    if backbone is None and len(arguments) < 2:
        raise UsageError("MODEL and IMAGES are expected, or --backbone NAME and IMAGES.")
    if backbone is not None:
        if backbone.startswith(OWN):
            raise UsageError(
                f"--backbone {backbone}: a file of your own has classes of its own. Give it as MODEL: "
                f"{backbone.removeprefix(OWN)}, before the images."
            )
        get_spec(backbone)  # before TensorFlow is imported
    prepare(quiet, offline)
    if backbone is None:
        return arguments[0], tuple(arguments[1:])
    from keras_transfer.workflow.as_is import as_is
    from keras_transfer.workflow.predict import find_images

    find_images(arguments)  # a missing file is found before a network is built
    return as_is(backbone, **{name: network[name] for name in given | {"weights"}}), tuple(arguments)

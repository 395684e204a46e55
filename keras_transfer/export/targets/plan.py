"""What an export's targets ask of it, before any work is done. Light."""

from __future__ import annotations

from dataclasses import replace

from keras_transfer.errors import UsageError
from keras_transfer.export.targets.specs import TargetSpec, target_spec
from keras_transfer.records.export_options import ExportOptions
from keras_transfer.records.layout import ALL_INTEGER


def with_targets(options: ExportOptions) -> ExportOptions:
    """The options with the precision that their targets are made from.

    Raises:
        UsageError: an unknown target, one that makes nothing, or precisions that it does not take.
        PluginError: a target's plugin is broken.
        ExportError: what a target needs is not installed; the message has the command.
    """
    specs = [target_spec(name) for name in dict.fromkeys(options.targets)]
    if options.arena_limit is not None and "microcontroller" not in options.targets:
        raise UsageError("--arena-limit is for --target microcontroller, which was not asked for.")
    for spec in specs:
        _require_made(spec, options)
        spec.require()
    if any(spec.all_integer for spec in specs) and not _has_all_integer(options):
        if options.makes("int8") and not options.all_integer:  # its name is taken
            options = replace(options, precisions=(*options.precisions, ALL_INTEGER))
        else:
            options = replace(options, precisions=(*options.precisions, "int8"), all_integer=True)
    return options


def _has_all_integer(options: ExportOptions) -> bool:
    return ALL_INTEGER in options.asked or (options.all_integer and "int8" in options.asked)


def source_precision(spec: TargetSpec, options: ExportOptions) -> str:
    """The precision of the ``.tflite`` that a target is made from: the first it takes of those asked for."""
    if spec.all_integer:
        return ALL_INTEGER if ALL_INTEGER in options.asked else "int8"
    return next(name for name in options.asked if name in spec.precisions)


def _require_made(spec: TargetSpec, options: ExportOptions) -> None:
    if not spec.factory:
        raise UsageError(
            f"Nothing is made for the target {spec.name!r}; `keras-transfer inspect FILE.tflite --target {spec.name}` "
            "says whether it takes a file."
        )
    if "tflite" not in options.formats:
        raise UsageError(
            f"The target {spec.name!r} is made from a .tflite, and the format 'tflite' was not asked for."
        )
    if not spec.all_integer and not set(spec.precisions) & set(options.asked):
        raise UsageError(
            f"The target {spec.name!r} takes {', '.join(spec.precisions)}; {', '.join(options.asked)} was asked for. "
            f"Add --quantize {spec.precisions[0]}."
        )

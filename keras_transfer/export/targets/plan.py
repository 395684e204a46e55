"""What an export's targets ask of it, before any work is done. Light."""

from __future__ import annotations

from dataclasses import replace

from keras_transfer.errors import UsageError
from keras_transfer.export.targets.specs import TargetSpec, target_spec
from keras_transfer.records.export_options import EDGES, PIXELS, ExportOptions
from keras_transfer.records.layout import ALL_INTEGER

RANGES = ("litert", "microcontroller")
"""Targets that take a ``.tflite`` of any input range as it is."""


def with_targets(options: ExportOptions) -> ExportOptions:
    """The options with the precision that their targets are made from.

    Raises:
        UsageError: an unknown target, one that makes nothing, or precisions that it does not take.
        PluginError: a target's plugin is broken.
        ExportError: what a target needs is not installed; the message has the command.
    """
    specs = [target_spec(name) for name in dict.fromkeys(options.targets)]
    for flag, given, owners in (
        ("--arena-limit", options.arena_limit is not None, ("microcontroller",)),
        ("--batch", options.batch is not None, ("litert",)),
        ("--accelerator", options.accelerator is not None, ("ethos-u",)),
        ("--require-full-placement", options.require_full_placement, ("ethos-u", "edgetpu")),
    ):
        if given and not set(owners) & set(options.targets):
            raise UsageError(f"{flag} is for --target {' or '.join(owners)}, which was not asked for.")
    wanted = any(spec.all_integer for spec in specs) and "tflite" in options.formats
    sure = ALL_INTEGER in options.asked or (options.all_integer and "int8" in options.asked)
    if wanted and not sure and (options.all_integer or ALL_INTEGER in options.candidates):
        raise UsageError(
            "A target is made from an all-integer file, and --accuracy-budget may leave it out. Ask for it by "
            "--quantize all-integer, without --all-integer, and without all-integer in --fallback."
        )
    if wanted and not sure:
        if options.makes("int8"):  # its name is taken
            options = replace(options, precisions=(*options.precisions, ALL_INTEGER))
        else:
            options = replace(options, precisions=(*options.precisions, "int8"), all_integer=True)
    if options.input_range != PIXELS:
        others = [spec.name for spec in specs if spec.name not in RANGES]
        if others:
            raise UsageError(
                f"--input-range {options.input_range} is for .tflite files; {', '.join(others)} takes pixels from 0 to "
                "255. Export them by themselves."
            )
    for spec in specs:
        _require_made(spec, options)
        spec.require()
    if options.edges != EDGES[0] and not options.makes_all_integer:
        raise UsageError(
            f"--edges {options.edges} is for an all-integer model (--quantize all-integer), which was not asked for."
        )
    return options


def source_precisions(spec: TargetSpec, options: ExportOptions) -> tuple[str, ...]:
    """The precisions of the ``.tflite`` files that a target is made from, in the order asked for."""
    if spec.all_integer:
        return (ALL_INTEGER if ALL_INTEGER in options.asked else "int8",)
    taken = tuple(name for name in options.asked if name in spec.precisions)
    if spec.sources == "first":
        return (ALL_INTEGER,) if ALL_INTEGER in taken else taken[:1]
    return taken


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

"""``keras-transfer cache``."""

from __future__ import annotations

import click

from keras_transfer.cli.kit import output_options, prepare, print_json, print_table, size_of
from keras_transfer.paths import cache_dir


@click.group()
def cache() -> None:
    """Look at, shrink or clear the cache of features and converted backbones.

    It lives where KERAS_TRANSFER_CACHE says, or in the platform's cache directory.
    """


@cache.command("ls")
@output_options
def ls(as_json: bool, quiet: bool) -> None:
    """List what is in the cache."""
    prepare(quiet, tensorflow=False)
    from keras_transfer.features.cache import entries

    rows = entries()
    if as_json:
        print_json({"path": str(cache_dir()), "entries": rows})
        return
    click.echo(f"{cache_dir()}: {size_of(sum(row['bytes'] for row in rows))}")
    shown = [
        (row["kind"], row["summary"], row["images"] or "-", size_of(row["bytes"]), row["last_used"])
        for row in rows
    ]
    print_table(["kind", "what", "images", "size", "last used"], shown)


@cache.command("prune")
@click.option("--max-size", metavar="SIZE", help="Keep at most this much, for example 2GB.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Remove entries not used for this many days.",
)
@output_options
def prune(max_size: str | None, older_than: float | None, as_json: bool, quiet: bool) -> None:
    """Remove the least recently used entries, and leftovers of interrupted work."""
    prepare(quiet, tensorflow=False)
    from keras_transfer.features.cache import parse_size
    from keras_transfer.features.cache import prune as prune_cache

    freed = prune_cache(max_bytes=parse_size(max_size) if max_size else None, older_than_days=older_than)
    if as_json:
        print_json({"freed_bytes": freed})
    else:
        click.echo(f"Freed {size_of(freed)}.")


@cache.command("clear")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@output_options
def clear(yes: bool, as_json: bool, quiet: bool) -> None:
    """Remove everything from the cache. It can all be computed again."""
    prepare(quiet, tensorflow=False)
    from keras_transfer.features.cache import clear as clear_cache

    if not yes:
        click.confirm(f"Remove everything in {cache_dir()}?", abort=True, err=True)
    freed = clear_cache()
    if as_json:
        print_json({"freed_bytes": freed})
    else:
        click.echo(f"Freed {size_of(freed)}.")

"""Which split a shard is of, by its name: the words and the signs around them that the Hugging Face Hub knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from keras_transfer.errors import DataError

_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_WORD = re.compile(rf"(?:^|[-._ 0-9/])({'|'.join(sorted(_WORDS, key=len, reverse=True))})(?=[-._ 0-9/])")


def split_of_shard(name: str) -> str:
    """``train``, ``val`` or ``test`` as the name (a POSIX path) says, "" where it says nothing.

    >>> split_of_shard("data/validation-00000-of-00001.parquet")
    'val'
    """
    found = _WORD.findall(name.lower())
    return _WORDS[found[-1]] if found else ""


def shard_splits(shards: Sequence[Path], root: Path, source: str) -> list[str]:
    """The split of each shard; all "" of a single one, or where no name says any.

    Raises ``DataError`` where some names say a split and others none.
    """
    if len(shards) == 1:
        return [""]
    splits = [split_of_shard(shard.relative_to(root).as_posix()) for shard in shards]
    if any(splits) and not all(splits):
        silent = [shard.name for shard, split in zip(shards, splits, strict=True) if not split]
        raise DataError(
            f"Of the {len(shards)} shards in {source}, some have a split in their name and others do not, such as "
            f"{silent[0]}. Call all of them train-…, validation-… or test-…, or none."
        )
    return splits

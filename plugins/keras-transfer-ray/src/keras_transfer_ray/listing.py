"""What the workflows share about data: files only, and the list of those that were left out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from keras_transfer.data import Skipped
from keras_transfer.errors import UsageError


def require_files(done: Sequence[Any], source: Any) -> None:
    """``UsageError`` where the data were no files, and no worker was asked."""
    if not done:
        raise UsageError(
            f"{source!r:.80} holds no files; the workers of a cluster read files. Give a folder or a CSV."
        )


def skipped_csv(skipped: Sequence[Skipped]) -> bytes:
    """What ``keras_transfer.data.write_skipped`` writes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "reason", "counted"))
    writer.writerows((one.path, one.reason, "yes" if one.counted else "no") for one in skipped)
    return text.getvalue().encode("utf-8", "surrogateescape")

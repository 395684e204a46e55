"""How fast is a match? Ratios measured side by side in one run, medians of interleaved rounds.

    python benchmarks/gallery_search.py [--entries 100000] [--sizes 128,1280] [--rounds 15] [--index] [--json]
        [--report docs/results.md]

One query against a gallery, with cosine: ``Search.top(query, 5)`` against one NumPy matrix product of that size
(``query (1, D) @ gallery (D, N)``), for a gallery of as many names as entries, and one of five entries per name.
Entries are random directions: time does not depend on what they are. With ``--index``, the same through the faiss
index, with the share of queries (noisy copies of entries) for which it finds the name that the exact search finds.

Exit code 1 when a ratio is above its bar: match/product 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from reporting import machine, write_section

BAR = 2.0
TOP = 5


def seconds(function) -> float:
    """Wall-clock seconds of one call."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(entries: int, size: int, rounds: int, with_index: bool) -> dict:
    """Medians in milliseconds and ratios for one size of embeddings."""
    import numpy as np
    from keras_transfer_siamese.comparison import Comparison
    from keras_transfer_siamese.search import Search

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(entries, size)).astype(np.float32)
    query = rng.normal(size=(1, size)).astype(np.float32)
    searches = {
        "match": Search([f"{i:07d}" for i in range(entries)], vectors, Comparison(), engine="exact"),
        "match, five entries per name": Search(
            [f"{i // 5:07d}" for i in range(entries)], vectors, Comparison(), engine="exact"
        ),
    }
    tasks = {"product": lambda: query @ vectors.T}
    tasks |= {name: (lambda search=search: search.top(query, TOP)) for name, search in searches.items()}
    found: dict = {"entries": entries, "size": size}
    if with_index:
        begin = time.perf_counter()
        indexed = Search([f"{i:07d}" for i in range(entries)], vectors, Comparison(), engine="index")
        found["index built in seconds"] = time.perf_counter() - begin
        tasks["match, index"] = lambda: indexed.top(query, TOP)
        near = vectors[rng.integers(0, entries, 200)]
        near = near + 0.5 * rng.normal(size=near.shape).astype(np.float32)
        same = zip(searches["match"].top(near), indexed.top(near), strict=True)
        found["index agrees"] = float(np.mean([one[0].name == other[0].name for one, other in same]))
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            times[name].append(seconds(task))
    found["milliseconds"] = {name: 1000 * median(values[1:]) for name, values in times.items()}
    product = found["milliseconds"]["product"]
    found["ratios"] = {
        f"{name} / product": value / product
        for name, value in found["milliseconds"].items()
        if name != "product"
    }
    return found


def table(rows: list[dict]) -> str:
    """The ratios as Markdown."""
    asked = " --index" if "index agrees" in rows[0] else ""
    lines = [
        f"    python benchmarks/gallery_search.py{asked} --report docs/results.md",
        "",
        f"Time of one query against {rows[0]['entries']:,} enrolled images, divided by the time of one NumPy matrix",
        "product of the same size; medians of interleaved rounds.",
        "",
        f"| embedding size | {' | '.join(name.removesuffix(' / product') for name in rows[0]['ratios'])} |",
        f"|{'---|' * (1 + len(rows[0]['ratios']))}",
    ]
    for row in rows:
        lines.append(f"| {row['size']} | {' | '.join(f'{ratio:.2f}x' for ratio in row['ratios'].values())} |")
    return "\n".join([*lines, "", f"Machine: {machine()}."])


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--sizes", default="128,1280")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--index", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--report", type=Path, help="write the ratios into this page")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds must be at least 2: the first is not counted")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["KERAS_TRANSFER_CACHE"] = cache
        rows = [
            measure(options.entries, int(size), options.rounds, options.index)
            for size in options.sizes.split(",")
        ]
    if options.report:
        write_section(options.report, "Matching against a gallery", table(rows))
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(f"{row['entries']} entries of {row['size']} numbers")
            for name, value in row["milliseconds"].items():
                ratio = row["ratios"].get(f"{name} / product")
                print(
                    f"  {name:<28}{value:9.2f} ms" + ("" if ratio is None else f"{ratio:7.2f} x the product")
                )
            if "index agrees" in row:
                built, agrees = row["index built in seconds"], row["index agrees"]
                print(
                    f"  index: built in {built:.0f} s, finds the exact search's name for {agrees:.1%} of the queries"
                )
    slow = [
        value
        for row in rows
        for name, value in row["ratios"].items()
        if not name.startswith("match, index") and value > BAR
    ]
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())

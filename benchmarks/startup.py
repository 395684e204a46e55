"""How long the command line takes to say anything, and what it imports for that.

Prints the median of whole processes, a bare ``python -c pass`` beside them in the same run, and fails when
``--help`` or ``backbones`` takes 0.3 s or more, or imports TensorFlow, Keras or NumPy.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

RUNS = 15
LIMIT = 0.3
HEAVY = ("tensorflow", "keras", "numpy")
CASES = {
    "python -c pass": ["-c", "pass"],
    "keras-transfer --help": ["-m", "keras_transfer", "--help"],
    "keras-transfer backbones": ["-m", "keras_transfer", "backbones"],
}


def seconds(arguments: list[str]) -> float:
    """Wall-clock seconds of one whole process."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def imported(arguments: list[str]) -> list[str]:
    """Heavy packages that a process imports, read from Python's own import log."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], check=True, capture_output=True, text=True
    )
    names = {
        line.rsplit("|", 1)[-1].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    return [name for name in HEAVY if name in names]


def main() -> int:
    """Measure and print; 1 when a bar is missed."""
    for arguments in CASES.values():
        seconds(arguments)
    times: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(RUNS):
        for name, arguments in CASES.items():
            times[name].append(seconds(arguments))
    base = statistics.median(times["python -c pass"])
    missed = False
    for name, arguments in CASES.items():
        median, heavy = statistics.median(times[name]), imported(arguments)
        ratio, said = f"{median / base:.1f}x bare Python", heavy or "nothing heavy"
        print(f"{name:<26} {median:.3f} s median of {RUNS}, {ratio}, imports {said}")
        missed |= name != "python -c pass" and (median >= LIMIT or bool(heavy))
    if "--json" in sys.argv:
        print(json.dumps({name: statistics.median(values) for name, values in times.items()}))
    print("missed" if missed else f"ok: both under {LIMIT} s, nothing heavy imported")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())

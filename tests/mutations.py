"""Does a test notice when a promise is broken? Small faults, one at a time, in a copy of the source.

::

    .venv/bin/python tests/mutations.py                          # every fault
    .venv/bin/python tests/mutations.py guard-prefers-a-tie      # the named ones
    .venv/bin/python tests/mutations.py --list                   # which there are
    .venv/bin/python tests/mutations.py --jobs 2                 # two at a time

Each fault is a change that a programmer could make by mistake and that no error message would tell. The tests that must
notice it run in a process of their own, without those marked nightly: ``make test`` alone has to notice every fault. A
fault is noticed when one of these tests fails; a test that cannot be imported or set up is no proof. First the same
tests run without a fault, and must pass.

Exit code 0: every fault was noticed. 1: one was missed, or its tests could not run. 2: nothing could be tried, because
a fault does not fit the source any more, a test file is gone, or the tests fail without any fault.

``make test`` does not run this script, and pytest does not collect it.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click
from faults import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "keras_transfer",
    "keras_transfer_segmentation",
    "keras_transfer_siamese",
    "keras_transfer_gan",
    "keras_transfer_ray",
    "keras_transfer_tests",
)
"""What must be imported from the copy."""
PATHS = ("plugins/*/src", "tests/support/src")
"""Where the copy holds packages besides its root. ``PYTHONPATH`` comes before every editable install."""
BASELINE_SECONDS = 3600.0
TAIL = 25
"""Lines of the output that are shown of tests that could not run."""


class CannotBegin(Exception):
    """Nothing can be tried; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What became of a fault.

    Attributes:
        mutation: the fault.
        state: ``noticed``, ``MISSED`` or ``could not run``.
        by: the tests that failed.
        seconds: wall-clock.
        output: of pytest.
    """

    mutation: Mutation
    state: str
    by: tuple[str, ...] = ()
    seconds: float = 0.0
    output: str = field(default="", repr=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse(arguments)
    chosen = [one for one in MUTATIONS if not options.names or one.name in options.names]
    if options.list:
        for one in chosen:
            click.echo(f"{one.name:45} {one.file}\n    {one.why}")
        return 0
    for stop in (signal.SIGINT, signal.SIGTERM):  # both end the tests too, also in the background
        signal.signal(stop, signal.default_int_handler)
    try:
        require_fitting(chosen)
        with tempfile.TemporaryDirectory(prefix="mutations_") as folder:
            outcomes = try_all(chosen, Path(folder), options)
    except CannotBegin as problem:
        click.echo(str(problem), err=True)
        return 2
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        return 130
    report(outcomes)
    return 0 if all(one.state == "noticed" for one in outcomes) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the program with exit code 2 where they cannot be."""
    parser = argparse.ArgumentParser(description="Apply small faults to a copy of the source, one at a time.")
    parser.add_argument("names", nargs="*", help="of the faults; all by default")
    parser.add_argument("--list", action="store_true", help="tell the faults and run nothing")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults at a time (default 1)")
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="for the tests of a fault"
    )
    parser.add_argument("--skip-baseline", action="store_true", help="do not run the tests without a fault")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - {one.name for one in MUTATIONS})
    if unknown:
        parser.error(f"there is no fault {', '.join(unknown)}; --list tells which there are")
    if options.jobs < 1 or not options.timeout > 0:
        parser.error("--jobs and --timeout must be above 0")
    return options


def require_fitting(mutations: Sequence[Mutation]) -> None:
    """Raise :class:`CannotBegin` for a fault that does not fit the source, or whose tests are gone; all are named."""
    wrong = []
    for one in mutations:
        path = ROOT / one.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        count = text.count(one.before)
        if not path.is_file():
            wrong.append(f"{one.name}: there is no {one.file}")
        elif count != 1:
            wrong.append(f"{one.name}: {one.file} holds the text {one.before!r} {count} times, not once")
        else:
            try:
                compile(text.replace(one.before, one.after), one.file, "exec")
            except SyntaxError as error:
                wrong.append(f"{one.name}: what comes out is not Python ({error})")
        for test in one.tests:
            if not (ROOT / test.partition("::")[0]).is_file():
                wrong.append(f"{one.name}: there is no {test.partition('::')[0]}")
    if len({one.name for one in mutations}) < len(mutations):
        wrong.append("a name is given to two faults")
    if wrong:
        raise CannotBegin("These faults do not fit the source any more:\n  " + "\n  ".join(wrong))


def try_all(mutations: Sequence[Mutation], folder: Path, options: argparse.Namespace) -> list[Outcome]:
    """The outcomes, in the order of ``mutations``. Each job has a copy of the source in ``folder``."""
    jobs = min(options.jobs, len(mutations))
    copies = [Copy(folder / str(number), jobs) for number in range(jobs)]
    click.echo(f"{jobs} {'copy' if jobs == 1 else 'copies'} of the source in {folder}")
    copies[0].require_own_packages()
    if not options.skip_baseline:
        copies[0].require_passing(tuple(dict.fromkeys(test for one in mutations for test in one.tests)))
    free: queue.Queue[Copy] = queue.Queue()
    for copy in copies:
        free.put(copy)

    def attempt(one: Mutation) -> Outcome:
        copy = free.get()
        try:
            return copy.attempt(one, options.timeout)
        finally:
            free.put(copy)

    found: dict[str, Outcome] = {}
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(attempt, one) for one in mutations]
        try:
            for future in as_completed(waiting):
                one = future.result()
                found[one.mutation.name] = one
                by = one.by[0] if one.by else ""
                click.echo(
                    f"[{len(found):2}/{len(mutations)}] {one.state:13} {one.seconds:6.1f} s  {one.mutation.name}  {by}"
                )
        except BaseException:  # Ctrl-C: the tests have a session of their own and do not hear it
            pool.shutdown(wait=False, cancel_futures=True)
            for copy in copies:
                copy.stop()
            raise
    return [found[one.name] for one in mutations]


class Copy:
    """A copy of the repository's source that may be changed, and the environment in which its tests run.

    Args:
        folder: where it is made.
        jobs: how many copies are worked on at a time; they share the cores.
    """

    def __init__(self, folder: Path, jobs: int) -> None:
        self.folder, self.jobs = folder, jobs
        self._process: subprocess.Popen[bytes] | None = None
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        for name in map(os.fsdecode, listed.stdout.split(b"\0")):
            if name and (ROOT / name).is_file():  # one that was removed is still listed
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
        self.environment = self._environment()

    def _environment(self) -> Mapping[str, str]:
        found = (path for pattern in PATHS for path in sorted(self.folder.glob(pattern)))
        places = [str(path) for path in (self.folder, *found)]
        # No compiled files: a fault and its undoing within a second and of one length would not be seen.
        values = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONDONTWRITEBYTECODE": "1"}
        for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
            values.pop(name, None)
        if self.jobs > 1:
            threads = str(max(1, (os.cpu_count() or 1) // self.jobs))
            for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
                values[name] = threads
        return values

    def require_own_packages(self) -> None:
        """Raise :class:`CannotBegin` where a package would come from elsewhere: no fault would be seen then."""
        code = f"import {', '.join(PACKAGES)}\nfor one in ({', '.join(PACKAGES)}): print(one.__file__)"
        status, output = self._run([sys.executable, "-c", code], 120.0)
        places = output.split()
        if status or not all(Path(place).is_relative_to(self.folder) for place in places):
            raise CannotBegin(f"The copy's packages are not those that are imported:\n{output}")

    def require_passing(self, tests: tuple[str, ...]) -> None:
        """Raise :class:`CannotBegin` unless the tests pass without a fault."""
        click.echo(f"Without a fault: {len(tests)} files and tests ...")
        begin = time.monotonic()
        parallel = ("-n", str(self.jobs), "--dist", "loadfile") if self.jobs > 1 else ()
        status, output = self._pytest(*parallel, *tests, timeout=BASELINE_SECONDS)
        if status:
            raise CannotBegin(f"These tests do not pass without a fault:\n{tail(output)}")
        click.echo(f"They pass ({time.monotonic() - begin:.0f} s).")

    def attempt(self, mutation: Mutation, timeout: float) -> Outcome:
        """Make the fault, run its tests, undo it."""
        begin = time.monotonic()
        with self._changed(mutation):
            status, output = self._pytest("-x", *mutation.tests, timeout=timeout)
        by = tuple(re.findall(r"^FAILED (.+?)(?: - .*)?$", output, re.MULTILINE))
        state = "MISSED" if status == 0 else "noticed" if status == 1 and by else "could not run"
        return Outcome(mutation, state, by, time.monotonic() - begin, output)

    @contextmanager
    def _changed(self, mutation: Mutation) -> Iterator[None]:
        path = self.folder / mutation.file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(mutation.before, mutation.after), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(text, encoding="utf-8")

    def _pytest(self, *arguments: str, timeout: float) -> tuple[int | None, str]:
        place = self.folder.with_name(f"{self.folder.name}_files")
        fixed = ("-m", "not nightly", "-q", "--color=no", "-p", "no:cacheprovider", f"--basetemp={place}")
        return self._run([sys.executable, "-m", "pytest", *fixed, *arguments], timeout)

    def _run(self, command: Sequence[str], timeout: float) -> tuple[int | None, str]:
        """Exit status (None: it took too long) and what was printed; no process of it is left."""
        with tempfile.TemporaryFile() as printed:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            late = ""
            try:
                status: int | None = self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                status, late = None, f"\nStopped after {timeout:.0f} s."
            finally:
                self.stop()
            printed.seek(0)
            return status, printed.read().decode("utf-8", "replace") + late

    def stop(self) -> None:
        """Kill the tests that run, with all processes they started."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def tail(output: str) -> str:
    """The last lines, indented."""
    return "\n".join(f"    {line}" for line in output.rstrip().splitlines()[-TAIL:])


def report(outcomes: Sequence[Outcome]) -> None:
    """Print the table, and what is to be known of faults that were not noticed."""
    rows = [("fault", "file", "noticed by", "seconds")]
    for one in outcomes:
        rows.append(
            (
                one.mutation.name,
                one.mutation.file,
                one.by[0] if one.state == "noticed" else one.state,
                f"{one.seconds:.1f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    click.echo()
    for row in rows:
        click.echo("  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]]))
    for one in outcomes:
        if one.state == "MISSED":
            click.echo(f"\n{one.mutation.name} was missed. {one.mutation.why}")
        elif one.state != "noticed":
            click.echo(f"\n{one.mutation.name}: its tests could not run.\n{tail(one.output)}")
    noticed = sum(one.state == "noticed" for one in outcomes)
    seconds = sum(one.seconds for one in outcomes)
    click.echo(f"\n{noticed} of {len(outcomes)} faults were noticed ({seconds:.0f} s of tests).")


if __name__ == "__main__":
    sys.exit(main())

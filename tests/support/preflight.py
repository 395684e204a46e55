"""What ``make`` asks of a Python before it makes an environment with it: ``python preflight.py FOLDER``.

Any Python can run this, the oldest too. Prints a sentence and exits with 2 where something is missing.
"""

import sys

OLDEST, NEWEST = (3, 11), (3, 13)
GIGABYTES = 5
"""Of disk space: 4 are what `make test` installs, and pip needs room to unpack."""


def problem(python, version, modules, free):
    """A sentence, or "" where all is well.

    Args:
        python: how the interpreter was called.
        version: (major, minor).
        modules: names of the modules of ``venv`` and ``ensurepip`` that are there.
        free: bytes.
    """
    if not OLDEST <= version <= NEWEST:
        return (
            "Python {}.{} to {}.{} is needed; {} is {}.{}. Try another: make PYTHON=python{}.{} ...".format(
                *(OLDEST + NEWEST + (python,) + version + NEWEST)
            )
        )
    missing = [name for name in ("venv", "ensurepip") if name not in modules]
    if missing:
        return (
            "{} has no module {}, which makes environments. Install it (Debian, Ubuntu: apt-get install "
            "python{}.{}-venv), or try another: make PYTHON=... ".format(python, missing[0], *version).strip()
        )
    if free < GIGABYTES * 10**9:
        return (
            "{} GB of disk space are needed for the environment; {:.1f} GB are free. Make room, or work on "
            "another disk.".format(GIGABYTES, free / 1e9)
        )
    return ""


def main(python, folder):
    """Ask the Python that runs this."""
    version = tuple(sys.version_info[:2])
    modules, free = (), 0
    if OLDEST <= version <= NEWEST:
        import importlib.util
        import shutil

        modules = tuple(name for name in ("venv", "ensurepip") if importlib.util.find_spec(name))
        free = shutil.disk_usage(folder).free
    said = problem(python, version, modules, free)
    if said:
        sys.stderr.write(said + "\n")
    return 2 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))

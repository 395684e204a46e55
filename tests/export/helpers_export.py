"""Running a bundle's script in a process of its own."""

import os
import subprocess
import sys


def run_script(folder, *arguments, script="classify.py", python=sys.executable, code=0, block=True):
    """Run the bundle's script; TensorFlow, Keras and this package cannot be imported."""
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONIOENCODING": "utf-8"}
    if block:
        start = (
            "import os, runpy, sys\n"
            "for name in ('tensorflow', 'keras', 'keras_transfer'): sys.modules[name] = None\n"
            "sys.argv = sys.argv[1:]; sys.path.insert(0, os.path.dirname(sys.argv[0]))\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        command = [str(python), "-c", start, str(folder / script)]
    else:
        command = [str(python), str(folder / script)]
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        timeout=120,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr

"""Running a bundle's script in a process of its own."""

import os
import subprocess
import sys


def run_script(folder, *arguments, python=sys.executable, code=0, block=True):
    """Run the bundle's script; TensorFlow, Keras and this package cannot be imported."""
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONIOENCODING": "utf-8"}
    if block:
        start = "import sys, runpy\nfor name in ('tensorflow', 'keras', 'keras_transfer'): sys.modules[name] = None\n"
        start += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        command = [str(python), "-c", start, str(folder / "classify.py")]
    else:
        command = [str(python), str(folder / "classify.py")]
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

"""The guard that keeps tests on this machine is itself tested: without it every offline test could pass online."""

import socket
import subprocess
import sys

import pytest

REACHING = """
import socket
for reach in (lambda: socket.create_connection(("192.0.2.1", 80), 1), lambda: socket.getaddrinfo("example.org", 80)):
    try:
        reach()
    except ConnectionError as error:
        print("tests must not leave this machine" in str(error))
    else:
        print("reached")
"""


def test_this_process_may_not_connect_or_look_up():
    with pytest.raises(ConnectionError, match="must not leave this machine"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(ConnectionError, match="must not leave this machine"):
        socket.getaddrinfo("example.org", 80)


def test_nor_may_a_child():
    done = subprocess.run([sys.executable, "-c", REACHING], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_the_machine_itself_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()

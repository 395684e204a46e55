"""Makes any connection outside this machine an error, in this process and (through PYTHONPATH) in its children."""

import ipaddress
import socket

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


class OutsideConnection(ConnectionError):
    """A test reached for the network."""


def _check(family, address):
    if family == getattr(socket, "AF_UNIX", None):
        return
    host = address[0]
    try:
        inside = ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        inside = host == "localhost"
    if not inside:
        raise OutsideConnection(f"connection to {host!r}: tests must not leave this machine")


def _guarded_connect(self, address):
    _check(self.family, address)
    return _connect(self, address)


def _guarded_connect_ex(self, address):
    _check(self.family, address)
    return _connect_ex(self, address)


def _guarded_getaddrinfo(host, *args, _real=socket.getaddrinfo, **kwargs):
    if host not in (None, "", "localhost", socket.gethostname()):
        text = host.decode() if isinstance(host, bytes) else host
        try:
            ipaddress.ip_address(text.split("%")[0])
        except ValueError:
            raise OutsideConnection(f"look-up of {text!r}: tests must not leave this machine") from None
    return _real(host, *args, **kwargs)


socket.socket.connect = _guarded_connect
socket.socket.connect_ex = _guarded_connect_ex
socket.getaddrinfo = _guarded_getaddrinfo

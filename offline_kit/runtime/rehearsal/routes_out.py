"""The routes of a network namespace, led to where nobody answers, and its addresses.

Rules: standard library alone (the kernel's netlink, no ``ip`` program); the route is made last: gate.py takes it as the sign
that everything else stands.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import List, Tuple

ADDRESS = "192.0.2.1"  # of documentation (RFC 5737): nobody has it
_NEWADDR, _NEWROUTE, _ERROR = 20, 24, 2
_REQUEST, _ACK, _REPLACE, _CREATE = 1, 4, 0x100, 0x400
_UNIVERSE, _LINK, _MAIN, _STATIC, _UNICAST, _LOCAL = 0, 253, 254, 4, 1, 2
_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B


def lead_to_nobody() -> None:
    """Makes whatever has no other way leave through the loopback. Raises OSError."""
    loopback = socket.if_nametoindex("lo")
    address = socket.inet_aton(ADDRESS)
    _ask(_NEWADDR, struct.pack("=BBBBI", socket.AF_INET, 32, 0, _UNIVERSE, loopback) + _text(1, address) + _text(2, address))
    if _has_ipv6():
        # The kernel takes no other route of IPv6 over the loopback: all addresses are this host's, and nothing listens there.
        _ask(
            _NEWROUTE, struct.pack("=BBBBBBBBI", socket.AF_INET6, 0, 0, 0, _MAIN, _STATIC, 0, _LOCAL, 0) + _number(4, loopback)
        )
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, _MAIN, _STATIC, _LINK, _UNICAST, 0)
    _ask(_NEWROUTE, body + _number(4, loopback) + _text(7, address))


def addresses() -> List[Tuple[str, str]]:
    """Address and mask of each interface (IPv4)."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            try:
                own = fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, request)[20:24]
                mask = fcntl.ioctl(asked.fileno(), _SIOCGIFNETMASK, request)[20:24]
            except OSError:  # has none
                continue
            found.append((socket.inet_ntoa(own), socket.inet_ntoa(mask)))
    return found


def _has_ipv6() -> bool:
    try:
        with Path("/proc/net/if_inet6").open(encoding="ascii") as table:
            return bool(table.read(1))
    except OSError:
        return False


def _number(kind: int, value: int) -> bytes:
    return _text(kind, struct.pack("=I", value))


def _text(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _ask(kind: int, body: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | _CREATE | _REPLACE, 1, 0)
        link.send(header + body)
        answer = link.recv(4096)
    code = struct.unpack("=i", answer[16:20])[0] if struct.unpack("=H", answer[4:6])[0] == _ERROR else 0
    if code:
        raise OSError(-code, os.strerror(-code))

"""IP packets and questions for names: what a capture must read of them, and the packets that refuse an attempt.

Rules: pure; of TCP only attempts to connect count; a packet that is too short to be one is none.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple, Optional

_PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_SYN, _ACK = 0x02, 0x10


class Packet(NamedTuple):
    """One packet that was sent; ports are 0 where there are none."""

    version: int
    protocol: str
    source: str
    source_port: int
    target: str
    port: int
    payload: bytes  # of UDP
    data: bytes  # all of it


def parse(kind: int, data: bytes) -> Optional[Packet]:
    """A packet as a cooked socket gives it (``kind``: its EtherType); None: no attempt, or no IP."""
    if kind == 0x0800 and len(data) >= 20:
        version, number, rest = 4, data[9], data[(data[0] & 15) * 4 :]
        source, target = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    elif kind == 0x86DD and len(data) >= 40:
        version, number, rest = 6, data[6], data[40:]
        source, target = (socket.inet_ntop(socket.AF_INET6, data[at : at + 16]) for at in (8, 24))
    else:
        return None
    protocol = _PROTOCOLS.get(number, str(number))
    if protocol == "tcp" and (len(rest) < 14 or rest[13] & (_SYN | _ACK) != _SYN):
        return None
    ports = struct.unpack(">HH", rest[:4]) if protocol in ("tcp", "udp") and len(rest) >= 4 else (0, 0)
    return Packet(version, protocol, source, ports[0], target, ports[1], rest[8:] if protocol == "udp" else b"", data)


def stays(address: str) -> bool:
    """Whether an IPv6 address is of this host, of the link, or of multicast on it."""
    return address in ("::", "::1") or address.startswith(("fe80:", "ff0", "fd", "fc"))


def question(data: bytes) -> Optional[str]:
    """The name that a DNS message asks for; None where it is none."""
    if len(data) < 17 or data[2] & 0x80 or data[4:6] != b"\0\1":
        return None
    labels, at = [], 12
    while at < len(data) and data[at]:
        label = data[at + 1 : at + 1 + data[at]]
        if data[at] > 63 or len(label) != data[at]:
            return None
        labels.append(label.decode("ascii", "replace"))
        at += 1 + data[at]
    return ".".join(labels) if labels and at < len(data) else None


def ask_name(name: str) -> bytes:
    """A question for the address of a name."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    return struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def no_such_name(query: bytes) -> bytes:
    """The answer to a question: there is no such name."""
    end = 12
    while end < len(query) and query[end]:
        end += 1 + query[end]
    return query[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + query[12 : end + 5]


def refusal(seen: Packet) -> Optional[bytes]:
    """The packet that ends an attempt over IPv4 at once; None: there is none for it."""
    if seen.version != 4 or seen.protocol not in ("tcp", "udp"):
        return None
    start = (seen.data[0] & 15) * 4
    here, there = socket.inet_aton(seen.source), socket.inet_aton(seen.target)
    if seen.protocol == "tcp":
        sequence = struct.unpack(">I", seen.data[start + 4 : start + 8])[0]
        head = struct.pack(">HHIIBBHHH", seen.port, seen.source_port, 0, (sequence + 1) & 0xFFFFFFFF, 5 << 4, 0x14, 0, 0, 0)
        check = _sum(there + here + struct.pack(">BBH", 0, 6, len(head)) + head)
        return _datagram(there, here, 6, head[:16] + struct.pack(">H", check) + head[18:])
    quoted = struct.pack(">BBHI", 3, 3, 0, 0) + seen.data[: start + 8]
    return _datagram(there, here, 1, quoted[:2] + struct.pack(">H", _sum(quoted)) + quoted[4:])


def _datagram(source: bytes, target: bytes, protocol: int, body: bytes) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0) + source + target
    return head[:10] + struct.pack(">H", _sum(head)) + head[12:] + body


def _sum(data: bytes) -> int:
    """The checksum of IP, TCP and ICMP."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)

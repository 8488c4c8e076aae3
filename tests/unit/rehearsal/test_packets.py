"""What the capture of a rehearsal makes of packets: attempts, questions for names, and the packets that refuse them."""

from __future__ import annotations

import socket
import struct

import pytest

from offline_kit.runtime.rehearsal import packets


def ip(protocol: int, body: bytes, source: str = "192.0.2.1", target: str = "198.51.100.7") -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    return head + socket.inet_aton(source) + socket.inet_aton(target) + body


def tcp(flags: int) -> bytes:
    return ip(6, struct.pack(">HHIIBBHHH", 40000, 443, 7, 0, 0x50, flags, 1000, 0, 0))


def folded(data: bytes) -> int:
    """The ones' complement sum, which is 0xFFFF over data with its checksum in it."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


def test_a_connection_is_an_attempt_and_what_follows_it_is_none() -> None:
    seen = packets.parse(0x0800, tcp(0x02))
    assert seen is not None and (seen.protocol, seen.target, seen.port, seen.source_port) == ("tcp", "198.51.100.7", 443, 40000)
    assert packets.parse(0x0800, tcp(0x12)) is None and packets.parse(0x0800, tcp(0x10)) is None


@pytest.mark.parametrize("data", [b"", b"\x45" + b"\0" * 10, ip(6, b"\0" * 5)])
def test_what_is_too_short_is_none(data: bytes) -> None:
    assert packets.parse(0x0800, data) is None


def test_an_attempt_over_ipv6() -> None:
    body = struct.pack(">HHHH", 40000, 53, 8, 0)
    source, target = (socket.inet_pton(socket.AF_INET6, text) for text in ("2001:db8::1", "2001:db8::2"))
    seen = packets.parse(0x86DD, struct.pack(">IHBB", 6 << 28, len(body), 17, 64) + source + target + body)
    assert seen is not None and (seen.target, seen.port) == ("2001:db8::2", 53)
    assert not packets.stays(seen.target) and packets.stays("::1") and packets.refusal(seen) is None


def test_a_question_for_a_name_and_its_answer() -> None:
    query = packets.ask_name("weights.example.org")
    assert packets.question(query) == "weights.example.org"
    answer = packets.no_such_name(query)
    assert answer[:2] == query[:2] and answer[3] & 15 == 3 and answer[12:] == query[12:]
    assert packets.question(answer) is None, "an answer is no question"
    assert packets.question(b"\0" * 40) is None and packets.question(query[:20]) is None


@pytest.mark.parametrize("data", [tcp(0x02), ip(17, struct.pack(">HHHH", 40000, 123, 8, 0))])
def test_the_packet_that_refuses_fits_the_attempt(data: bytes) -> None:
    seen = packets.parse(0x0800, data)
    assert seen is not None
    refusal = packets.refusal(seen)
    assert refusal is not None and folded(refusal[:20]) == 0xFFFF
    assert (socket.inet_ntoa(refusal[12:16]), socket.inet_ntoa(refusal[16:20])) == (seen.target, seen.source)
    if seen.protocol == "tcp":
        assert struct.unpack(">HH", refusal[20:24]) == (443, 40000)
        assert struct.unpack(">I", refusal[28:32]) == (8,), "it acknowledges the attempt, else it does not count"
        assert folded(refusal[12:20] + struct.pack(">BBH", 0, 6, 20) + refusal[20:]) == 0xFFFF
    else:
        assert refusal[20:22] == b"\x03\x03" and refusal[28:] == data[:28] and folded(refusal[20:]) == 0xFFFF

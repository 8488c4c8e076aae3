"""A packet capture of a network namespace, and the verdict on it: who tried to reach anything but the host itself.

Rules: (1) a raw socket sees all interfaces of the namespace, in both directions; a packet that the kernel could not hand
over makes the verdict an error, never a pass; (2) kept are TCP's connection attempts, everything that is not TCP, and all
that touches the uplink; (3) a trespass is any packet on the uplink, any DNS query wherever it goes, any packet to an
address that is neither the host's nor in one of its containers' networks, and any search for the gateway of an internal
network: nobody is there, and only what wants to leave looks for it (from Docker 26 on there is no route to it: what is
tried there fails inside the container and is seen by nobody); (4) run as `python -m tests.testbed.servers.capture FILE`
it is the capture itself, and ends on TERM.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.process import Process, TestbedError, run
from tests.testbed.servers.world import UPLINK

DNS_PORTS = (53, 853, 5353, 5355)
# scopes that never leave a link or a host: loopback, link-local, and the multicast that kernels send when a link comes up
OWN = ("127.0.0.0/8", "::1/128", "::/128", "fe80::/10", "ff02::/16", "224.0.0.0/24")
_SOL_PACKET, _PACKET_STATISTICS, _ETH_P_ALL, _SO_RCVBUFFORCE = 263, 6, 3, 33
_PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 58: "icmpv6"}


@dataclass(frozen=True)
class Packet:
    """One packet that was seen; `port` is the destination's, 0 where there is none."""

    time: float
    interface: str
    protocol: str
    source: str
    target: str
    port: int = 0

    def __str__(self) -> str:
        return f"{self.protocol} {self.source} -> {self.target}:{self.port} on {self.interface}"


class Capture:
    """The capture of a dockerd's namespace, from `with` on; `verdict()` at any time."""

    def __init__(self, dockerd: Dockerd, file: Path) -> None:
        self._dockerd, self._file = dockerd, file
        self._process: Process | None = None
        self._excused: list[tuple[float, float]] = []
        self._own = set(map(ipaddress.ip_network, OWN))
        self._nobody = set[str]()

    def __enter__(self) -> Capture:
        argv = [*self._dockerd.nsenter, sys.executable, "-m", "tests.testbed.servers.capture", str(self._file)]
        self._process = Process(argv, self._file.with_suffix(".log"), {"PYTHONPATH": str(REPOSITORY)})
        self._process.wait_until(self._file.exists, 20, "the packet capture")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process:
            self._process.stop()
            self._process = None

    def packets(self) -> list[Packet]:
        """All kept packets so far. Raises TestbedError when the capture has ended or lost any."""
        time.sleep(0.5)  # what is on its way arrives
        if not self._process or not self._process.alive:
            raise TestbedError(f"the packet capture does not run: {self._file.with_suffix('.log').read_text()}")
        lines = [json.loads(line) for line in self._file.read_text().splitlines()]
        lost = sum(line["lost"] for line in lines if "lost" in line)
        if lost:
            raise TestbedError(f"the packet capture lost {lost} packets")
        return [Packet(**line) for line in lines if "lost" not in line]

    def trespasses(self) -> list[Packet]:
        """The packets that went, or wanted to go, anywhere but to the host itself, outside of `excused` times."""
        return [packet for packet in self._judged() if not any(a <= packet.time <= b for a, b in self._excused)]

    @contextlib.contextmanager
    def excused(self) -> Iterator[list[Packet]]:
        """For a control that does reach out: what it tried is in the list at the end and not in `trespasses()`."""
        began, seen = time.time(), list[Packet]()
        try:
            yield seen
        finally:
            judged = self._judged()
            ended = time.time()
            self._excused.append((began, ended))
            seen += [packet for packet in judged if began <= packet.time <= ended]

    def _judged(self) -> list[Packet]:
        packets = self.packets()
        for link in json.loads(run([*self._dockerd.nsenter, "ip", "-json", "address"])):
            self._own.update(ipaddress.ip_network(address["local"]) for address in link.get("addr_info", []))
        names = self._dockerd.docker("network", "ls", "--quiet").split()
        for network in json.loads(self._dockerd.docker("network", "inspect", *names)):
            for each in network["IPAM"]["Config"] or []:
                self._own.add(ipaddress.ip_network(each["Subnet"]))
                if network["Internal"] and "Gateway" in each:
                    self._nobody.add(each["Gateway"])
        return [packet for packet in packets if self._is_trespass(packet)]

    def _is_trespass(self, packet: Packet) -> bool:
        if packet.interface == UPLINK or (packet.protocol in ("tcp", "udp") and packet.port in DNS_PORTS):
            return True
        target = ipaddress.ip_address(packet.target)
        return packet.target in self._nobody or not any(target in network for network in self._own)


def parse(interface: str, kind: int, data: bytes) -> Packet | None:
    """What is to be kept of a packet as a cooked socket gives it; None for the middle of a TCP connection on an inner link."""
    now = time.time()
    if kind == 0x0806 and len(data) >= 28:
        return Packet(now, interface, "arp", socket.inet_ntoa(data[14:18]), socket.inet_ntoa(data[24:28]))
    if kind == 0x0800 and len(data) >= 20:
        number, rest = data[9], data[(data[0] & 15) * 4 :]
        source, target = socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20])
    elif kind == 0x86DD and len(data) >= 40:
        number, rest = data[6], data[40:]
        source, target = (socket.inet_ntop(socket.AF_INET6, data[start : start + 16]) for start in (8, 24))
    else:
        return None
    if number == 6 and len(rest) >= 14 and rest[13] & 0x12 != 0x02 and interface != UPLINK:
        return None
    port = struct.unpack(">H", rest[2:4])[0] if number in (6, 17) and len(rest) >= 4 else 0
    return Packet(now, interface, _PROTOCOLS.get(number, str(number)), source, target, port)


def main(file: Path) -> None:
    """Captures into `file`, a line of JSON each, until TERM; lost packets are told once a second."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as link:
        link.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
        link.settimeout(1)
        with file.open("w", buffering=1) as sink:
            while True:
                with contextlib.suppress(TimeoutError):
                    data, (interface, kind, *_) = link.recvfrom(128)
                    if packet := parse(interface, kind, data):
                        sink.write(json.dumps(asdict(packet)) + "\n")
                _, lost = struct.unpack("II", link.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
                if lost:
                    sink.write(json.dumps({"lost": lost}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

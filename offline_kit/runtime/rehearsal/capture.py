"""Who asks for a network: the capture of one network namespace, and of everything that runs in it.

Run as root with NET_ADMIN, NET_RAW and SYS_PTRACE in the network and process namespaces of what is watched, before anything of
interest starts there (``START`` is the command: none of the image's own start-up code runs). It ends on TERM.

Rules: (1) standard library alone; (2) what has no other way leaves through the loopback, where
nobody takes it: an attempt becomes a packet even where there is no network; (3) while a program waits for its answer, the
process that holds the socket is looked up; then it is refused, so that nobody waits for a time-out; (4) first the capture sees
a name and a connection of its own, else it ends with 3: one that sees nothing passes nothing; packets that the kernel could
not hand over make the end 3, too; (5) each attempt is a line of JSON on stdout, by process and target once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from . import packets, routes_out

START = (
    "python3", "-I", "-S", "-c",
    "import sys; sys.path.insert(0, '/opt/offline-kit'); from runtime.rehearsal import capture; sys.exit(capture.main())",
)  # fmt: skip
ADDRESS, NOBODY = routes_out.ADDRESS, "192.0.2.254"
_RESOLVER, _CONTROL = ("127.0.0.1", 53), "control.invalid"
_ANCESTORS = 20
_PATIENCE = 10.0  # seconds that the capture has to see its own attempts
_SOL_PACKET, _PACKET_STATISTICS, _ETH_P_ALL, _OUTGOING, _SO_RCVBUFFORCE = 263, 6, 3, 4, 33


class Holder(NamedTuple):
    """The process that holds a socket; ``parents``: who started it, nearest first."""

    pid: int
    command: str
    parents: List[int]


class Report:
    """What was seen, a line each; attempts of this process itself are the control."""

    def __init__(self) -> None:
        self._lock, self._told = threading.Lock(), set()  # type: Tuple[threading.Lock, Set[Tuple[int, str]]]
        self.control: Set[str] = set()

    def attempt(self, kind: str, target: str, holder: Optional[Holder]) -> None:
        found = holder or Holder(0, "", [])
        with self._lock:
            if found.pid == os.getpid():
                self.control.add(kind)
            elif (found.pid, target) not in self._told:
                self._told.add((found.pid, target))
                self.line({"asked": kind, "target": target, **found._asdict()})

    def line(self, record: Dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()


def holder_of(protocol: str, port: int) -> Optional[Holder]:
    """Who holds the socket with this local port; None where it is gone already."""
    inodes = set()
    for name in (protocol, f"{protocol}6"):
        with contextlib.suppress(OSError), Path("/proc/net", name).open(encoding="ascii") as table:
            inodes |= {row.split()[9] for row in list(table)[1:] if int(row.split()[1].rpartition(":")[2], 16) == port}
    wanted = {f"socket:[{inode}]" for inode in inodes if inode != "0"}
    for folder in Path("/proc").iterdir():
        if wanted and folder.name.isdigit():
            with contextlib.suppress(OSError):
                if any(_link(entry) in wanted for entry in (folder / "fd").iterdir()):
                    return Holder(int(folder.name), _command(folder), _parents(int(folder.name)))
    return None


def _link(entry: Path) -> str:
    try:
        return os.readlink(str(entry))  # noqa: PTH115  Path has it from Python 3.9 on
    except OSError:
        return ""


def _command(folder: Path) -> str:
    words = (folder / "cmdline").read_bytes().split(b"\0")
    return " ".join(word.decode("utf-8", "replace") for word in words if word)[:300]


def _parents(pid: int) -> List[int]:
    found: List[int] = []
    while pid > 1 and len(found) < _ANCESTORS:
        try:
            pid = int(Path("/proc", str(pid), "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
        found.append(pid)
    return found


def answer_names(server: socket.socket, report: Report) -> None:
    """Refuses every question for a name, after who asks it was looked up."""
    while True:
        data, sender = server.recvfrom(4096)
        report.attempt("name", packets.question(data) or "a name", holder_of("udp", sender[1]))
        if len(data) >= 12:
            server.sendto(packets.no_such_name(data), sender)


def watch(link: socket.socket, report: Report) -> Iterator[int]:
    """Reports every attempt that passes, and refuses it; gives the number of packets that were lost, about once a second."""
    while True:
        with contextlib.suppress(socket.timeout):
            data, (interface, kind, direction, *_) = link.recvfrom(2048)
            seen = packets.parse(kind, data) if direction == _OUTGOING else None
            if seen is not None:
                _judge(seen, interface, link, report)
        yield struct.unpack("II", link.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]


def _judge(seen: packets.Packet, interface: str, link: socket.socket, report: Report) -> None:
    name = packets.question(seen.payload) if seen.protocol == "udp" else None
    if seen.target == "127.0.0.11" and name is not None:
        if "." in name:  # Docker's own name server; the services of a project have names without a dot
            report.attempt("name", name, holder_of("udp", seen.source_port))
        return
    if packets.stays(seen.target) if seen.version == 6 else _within(seen.target, _own_networks()):
        return
    if name is not None and seen.port == 53:
        report.attempt("name", name, holder_of("udp", seen.source_port))
    else:
        known = seen.protocol in ("tcp", "udp")
        target = f"{seen.target}:{seen.port}" if known else f"{seen.target} ({seen.protocol})"
        report.attempt("address", target, holder_of(seen.protocol, seen.source_port) if known else None)
    refusal = packets.refusal(seen)
    if refusal is not None and interface == "lo":
        with contextlib.suppress(OSError):
            link.sendto(refusal, ("lo", 0x0800, 0, 0, b"\0" * 6))


def _own_networks() -> List[Tuple[int, int]]:
    """Network and mask of every interface, and what never leaves a host or a link."""
    always = [("127.0.0.0", "255.0.0.0"), (ADDRESS, "255.255.255.255"), ("224.0.0.0", "255.255.255.0")]
    return [(_number(net) & _number(mask), _number(mask)) for net, mask in always + routes_out.addresses()]


def _within(address: str, networks: List[Tuple[int, int]]) -> bool:
    return any(_number(address) & mask == network for network, mask in networks)


def _number(address: str) -> int:
    return int(struct.unpack(">I", socket.inet_aton(address))[0])


def try_control() -> List[socket.socket]:
    """A question for a name and a connection, of this process itself; they must be seen."""
    ask, connect = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    ask.sendto(packets.ask_name(_CONTROL), _RESOLVER)
    connect.setblocking(False)
    connect.connect_ex((NOBODY, 9))
    return [ask, connect]


def main() -> int:
    report, lost, ready, sockets = Report(), 0, False, []  # type: Tuple[Report, int, bool, List[socket.socket]]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as link:
        link.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        link.settimeout(0.2)
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(_RESOLVER)
        threading.Thread(target=answer_names, args=(server, report), daemon=True).start()
        routes_out.lead_to_nobody()
        deadline = time.monotonic() + _PATIENCE
        sockets = try_control()
        for more in watch(link, report):
            lost += more
            if not ready and report.control == {"name", "address"}:
                ready = True
                report.line({"ready": True})
                for each in sockets:
                    each.close()
            if not ready and time.monotonic() > deadline:
                report.line({"blind": sorted({"name", "address"} - report.control)})
                return 3
            if stop.is_set():
                report.line({"ended": True, "lost": lost})
                return 3 if lost else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The world outside of an air-gapped host, for proofs that the host does not ask it anything.

`World(namespace)` lays a cable from a network namespace to a second one that takes every address for its own, answers
every name (DNS) with an address of its own and every page (HTTP): whatever tries to reach out succeeds.
Rules: (1) nothing of it touches the machine's own network; (2) it must be reached, or a test that saw no traffic proves
nothing: tests fetch its page as their control; (3) run as `python -m tests.testbed.servers.world` it is that second host.
"""

from __future__ import annotations

import http.server
import secrets
import socket
import struct
import sys
import threading
from pathlib import Path
from types import TracebackType

from tests.testbed.cache import REPOSITORY
from tests.testbed.process import Process, run

ADDRESS, HOST, UPLINK = "192.0.2.1", "192.0.2.2", "uplink"  # of a range that is nobody's (RFC 5737)
PAGE = b"the world\n"
_IP_PKTINFO = 8


class World:
    """The second namespace and its servers; a context manager. `namespace` is the host's, by its name below /run/netns."""

    def __init__(self, namespace: str, log: Path) -> None:
        self._host, self._name, self._log = namespace, f"offline-kit-world-{secrets.token_hex(4)}", log
        self._process: Process | None = None

    def __enter__(self) -> World:
        run(["ip", "netns", "add", self._name])
        try:
            self._lay_cable()
            enter = ["nsenter", f"--net=/run/netns/{self._name}"]
            self._process = Process(
                [*enter, sys.executable, "-m", "tests.testbed.servers.world"], self._log, {"PYTHONPATH": str(REPOSITORY)}
            )
            self._process.wait_until(lambda: "ready" in self._log.read_text(), 20, "the world")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the servers and cuts the cable. Safe to call twice."""
        if self._process:
            self._process.stop()
            self._process = None
        if Path("/run/netns", self._name).exists():
            run(["ip", "netns", "delete", self._name])

    def _lay_cable(self) -> None:
        run(["ip", "link", "add", UPLINK, "netns", self._host, "type", "veth", "peer", "name", "host", "netns", self._name])
        ends = ((self._name, "host", ADDRESS, HOST), (self._host, UPLINK, HOST, ADDRESS))
        for number, (namespace, device, address, other) in enumerate(ends):
            # only what somebody sends is to be seen on it: no neighbour discovery, be it of IPv6 or IPv4
            off = f"net.ipv6.conf.{device}.disable_ipv6=1"
            run(["nsenter", f"--net=/run/netns/{namespace}", "sysctl", "--quiet", "--write", off])
            ip = ("ip", "-n", namespace)
            run([*ip, "link", "set", device, "address", f"02:00:00:00:00:0{number}", "up"])
            run([*ip, "address", "add", f"{address}/24", "dev", device])
            run([*ip, "neighbour", "add", other, "lladdr", f"02:00:00:00:00:0{1 - number}", "dev", device, "nud", "permanent"])
        run(["ip", "-n", self._name, "link", "set", "lo", "up"])
        run(["ip", "-n", self._host, "route", "add", "default", "via", ADDRESS])
        run(["ip", "-n", self._name, "route", "add", "local", "0.0.0.0/0", "dev", "lo"])


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)


def _names() -> None:
    """A name server: every name has the world's address; answers from the address that was asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        server.bind(("0.0.0.0", 53))
        while True:
            question, about, _, client = server.recvmsg(512, socket.CMSG_SPACE(12))
            # an IPv6 address of the name, for example, is not there: no answer, no error
            kind = struct.unpack(">H", question[-4:-2])[0] if len(question) > 16 else 0
            answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(ADDRESS) if kind == 1 else b""
            head = question[:2] + struct.pack(">HHHHH", 0x8180, 1, int(bool(answer)), 0, 0)
            print("asked for a name", question[12:], flush=True)
            _, _, asked = struct.unpack("=I4s4s", about[0][2])
            control = [(socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=I4s4s", 0, asked, b"\0" * 4))]
            server.sendmsg([head + question[12:] + answer], control, 0, client)


def main() -> None:
    """Serves until it is ended."""
    pages = http.server.ThreadingHTTPServer(("0.0.0.0", 80), _Page)
    threading.Thread(target=_names, daemon=True).start()
    print("ready", flush=True)
    pages.serve_forever()


if __name__ == "__main__":
    main()

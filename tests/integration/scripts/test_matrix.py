"""Broken hosts, one thing wrong each and several at once: every finding is reported in one run, and nothing is changed.

One file, for two thirds of it are one table: the hosts, each with its finding. The tests below only walk through it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.scripts.test_preflight import snapshot, taken
from tests.support import nvidia_stand_in as nvidia
from tests.support import scripts_kit
from tests.support.broken_hosts import Host
from tests.support.nvidia_stand_in import Card


class Finding(NamedTuple):
    """What is expected to be found."""

    level: str
    check: str
    says: str


@contextmanager
def nothing(host: Host) -> Iterator[None]:
    del host
    yield


@dataclasses.dataclass(frozen=True)
class Broken:
    """One thing wrong. `during`: what holds while the run lasts; `device`: which findings count."""

    name: str
    spoil: Callable[[Host], object]
    finding: Finding
    device: str = "nvidia"
    arguments: tuple[str, ...] = ()
    during: Callable[[Host], object] = nothing


def put(**fields: object) -> Callable[[Host], object]:
    return lambda host: vars(host).update(fields)


def lacks(name: str) -> Callable[[Host], object]:
    return lambda host: host.without(name)


def info(**fields: object) -> Callable[[Host], object]:
    return lambda host: host.info.update(fields)


def program(name: str, text: str) -> Callable[[Host], object]:
    return lambda host: host.programs.update({name: text})


def cards(*both: Card) -> Callable[[Host], object]:
    return put(cards=list(both))


def uname(option: str, answer: str) -> Callable[[Host], object]:
    return program("uname", f'[ "$1" = {option} ] && echo {answer} || exec /usr/bin/uname "$@"')


def date(seconds: int) -> Callable[[Host], object]:
    return program("date", f'exec /usr/bin/date --date=@{seconds} "$@"')


def df(option: str, row: str) -> Callable[[Host], object]:
    return program("df", f'[ "$1" = {option} ] && (echo head; echo "{row}") || exec /usr/bin/df "$@"')


def many(*changes: Callable[[Host], object]) -> Callable[[Host], object]:
    return lambda host: [change(host) for change in changes]


def label(text: str) -> Callable[[Host], object]:
    return many(
        program("getenforce", "echo Enforcing"),
        program("stat", f'[ "$2" = %C ] && echo {text} || exec /usr/bin/stat "$@"'),
        info(SecurityOptions=["name=seccomp,profile=default", "name=selinux"]),
    )


def kind_of_disk(name: str) -> Callable[[Host], object]:
    return program("stat", f'[ "$1" = -f ] && echo {name} || exec /usr/bin/stat "$@"')


def variable(name: str, value: str) -> Callable[[Host], object]:
    return lambda host: host.env.update({name: value})


def docker(text: str) -> Callable[[Host], object]:
    return program("docker", f'{text}\nexec /usr/bin/docker "$@"')


def no_layers(host: Host) -> None:
    text = (host.kit / "deploy/images/gateway/expect").read_text()
    scripts_kit.rewrite(host.kit, "deploy/images/gateway/expect", re.sub("DIFF_ID=.*\n", "", text).encode())


def hide(host: Host) -> None:
    (host.kit / "models/chat/config.json").chmod(0o600)


NO_ROOM = "/dev/x 100 99 1 99% /"
ENVIRONMENT = {"CUDA_VERSION": "13.0.1", "TORCH_CUDA_ARCH_LIST": "8.0 9.0a 12.0"}
SLICE = "CUDA_VISIBLE_DEVICES=MIG-11111111-aaaa"
ROUTER, CHAT = scripts_kit.PORTS["router"], scripts_kit.PORTS["chat"]
MATRIX = [
    # the host
    Broken("a missing program", lacks("cmp"), Finding("FAIL", "programs", "not found: cmp")),
    Broken("another architecture", uname("-m", "ppc64le"), Finding("FAIL", "architecture", "this host is linux/ppc64le")),
    Broken("an old kernel", uname("-r", "2.6.32-754.el6"), Finding("FAIL", "kernel", "2.6.32-754.el6 is too old")),
    Broken("a kernel of RHEL 7", uname("-r", "3.10.0-1160.el7"), Finding("WARN", "kernel", "overlay2 needs 4.0")),
    Broken("a clock of 1970", date(86400), Finding("WARN", "clock", "the clock says 1970")),
    Broken("a clock of the far future", date(4102444800), Finding("WARN", "clock", "the clock says 2100")),
    Broken("a clock that was turned back", date(1750000000), Finding("WARN", "clock", "hours before this kit was unpacked")),
    Broken("too little memory", lambda host: host.memory(2, 1), Finding("FAIL", "memory", "need 4096 MiB or more")),
    Broken("memory in use", lambda host: host.memory(64, 1), Finding("WARN", "memory", "only 1024 MiB are available")),
    Broken(
        "limits above the memory",
        lambda host: host.memory(64, 60).model(memory_limit="100g"),
        Finding("WARN", "memory", "may take 100 GiB together (memory_limit)"),
    ),
    Broken(
        "an engine on two GPUs and little memory for /dev/shm",
        lambda host: host.memory(24, 20).model(tensor_parallel_size=2),
        Finding("WARN", "shared memory", "up to 16 GiB as /dev/shm"),
    ),
    Broken(
        "no AVX2",
        lambda host: host.files.update({"/proc/cpuinfo": "flags\t\t: fpu sse2 avx\n"}),
        Finding("WARN", "processor", "no AVX2"),
        device="cpu",
    ),
    Broken(
        "memory that must not be overcommitted",
        lambda host: host.files.update({"/proc/sys/vm/overcommit_memory": "2\n"}),
        Finding("WARN", "kernel", "vm.overcommit_memory is 2"),
    ),
    Broken(
        "SELinux without the label",
        label("system_u:object_r:default_t:s0"),
        Finding("FAIL", "SELinux", "the kit has the label system_u:object_r:default_t:s0"),
    ),
    # where the kit lies
    Broken("a colon in the path", lambda host: host.move("2026-01:rc"), Finding("FAIL", "folder of the kit", "has a colon")),
    Broken(
        "a bell in the path",
        lambda host: host.move("a\abell"),
        Finding("FAIL", "folder of the kit", "that Docker cannot mount"),
    ),
    Broken("a medium that is only read", put(mounted="ro"), Finding("FAIL", "folder of the kit", "mounted read-only")),
    Broken("a disk without programs", put(mounted="noexec"), Finding("FAIL", "folder of the kit", "mounted noexec")),
    Broken(
        "a disk without programs, on the CPU",
        put(mounted="noexec"),
        Finding("WARN", "folder of the kit", "mounted noexec"),
        device="cpu",
    ),
    Broken("a stick with FAT", kind_of_disk("msdos"), Finding("FAIL", "folder of the kit", "lies on msdos")),
    Broken("a disk of Windows", kind_of_disk("fuseblk"), Finding("FAIL", "folder of the kit", "lies on fuseblk")),
    Broken("a kit in memory", kind_of_disk("tmpfs"), Finding("WARN", "folder of the kit", "lies in memory")),
    Broken("a kit on NFS", kind_of_disk("nfs"), Finding("WARN", "folder of the kit", "root may be nobody")),
    Broken(
        "a folder that is cleared of what is old",
        lambda host: vars(host).update(cleared=f"q {host.folder} 1777 root root 10d\n"),
        Finding("WARN", "folder of the kit", "is removed when nobody touched it for 10d (systemd-tmpfiles)"),
    ),
    Broken(
        "a folder that is cleared with every start",
        lambda host: vars(host).update(cleared=f"D! {host.folder}/ 1777 root root -"),
        Finding("WARN", "folder of the kit", "is removed when the host starts (systemd-tmpfiles)"),
    ),
    Broken("an image without layers", no_layers, Finding("FAIL", "images", "no layers, and so no program: gateway")),
    # variables
    Broken(
        "a platform for all images",
        variable("DOCKER_DEFAULT_PLATFORM", "linux/arm64"),
        Finding("FAIL", "environment", "DOCKER_DEFAULT_PLATFORM is linux/arm64"),
    ),
    Broken("signatures of a registry", variable("DOCKER_CONTENT_TRUST", "1"), Finding("FAIL", "environment", "CONTENT_TRUST")),
    Broken("a language of old", variable("DOCKER_API_VERSION", "1.24"), Finding("FAIL", "environment", "is 1.24, older than")),
    # what calls itself Docker
    Broken(
        "podman-docker",
        docker('echo "Emulate Docker CLI using podman." >&2; [ "$1" != version ] || { echo 5.4.0; exit 0; }; exit 125'),
        Finding("FAIL", "docker", "is Podman here"),
    ),
    Broken(
        "podman-docker that keeps quiet",
        docker('[ "$1" != --version ] || { echo podman version 5.4.0; exit 0; }; exit 125'),
        Finding("FAIL", "docker", "is Podman here"),
    ),
    Broken("a socket of Podman", put(engine="Podman Engine"), Finding("FAIL", "docker", "is Podman here")),
    Broken(
        "Docker of the snap store",
        info(DockerRootDir="/var/snap/docker/common/var-lib-docker"),
        Finding("FAIL", "docker", "comes from the snap store, which sees nothing outside /home"),
    ),
    Broken("Docker Desktop", info(OperatingSystem="Docker Desktop"), Finding("WARN", "docker", "in a virtual machine")),
    Broken(
        "Docker outside of this container",
        info(DockerRootDir="/var/lib/docker-elsewhere"),
        Finding("WARN", "docker", "keeps its data in /var/lib/docker-elsewhere, which is not here"),
    ),
    Broken(
        "a client too new for the engine",
        docker(
            '[ "$1" != version ] || { echo "client version 1.52 is too new. Maximum supported API version is 1.41"; exit 1; }'
        ),
        Finding("FAIL", "docker", "client version 1.52 is too new"),
    ),
    Broken(
        "certificates of a Docker elsewhere",
        many(variable("DOCKER_HOST", ""), variable("DOCKER_TLS_VERIFY", "1")),
        Finding("FAIL", "docker", "unable to resolve docker endpoint"),
    ),
    Broken(
        "a context that is gone",
        many(docker("unset DOCKER_HOST"), variable("DOCKER_CONTEXT", "prod")),
        Finding("FAIL", "docker", "unable to resolve docker endpoint"),
    ),
    Broken(
        "a socket of nobody",
        variable("DOCKER_HOST", "unix:///run/user/4242/docker.sock"),
        Finding("FAIL", "docker", "does not answer at unix:///run/user/4242/docker.sock (DOCKER_HOST)"),
    ),
    Broken("no limits of processes", info(PidsLimit=False), Finding("WARN", "control groups", "pids_limit has no effect")),
    Broken(
        "Compose 1 alone",
        many(lacks("compose"), program("docker-compose", "echo 1.29.2")),
        Finding("FAIL", "compose", "docker-compose, the program of its own, is not used"),
    ),
    # networks
    Broken("no addresses left", put(networks=30), Finding("FAIL", "network", "Docker has 30 networks, and addresses for 31")),
    Broken("no addresses for a model", put(networks=27), Finding("FAIL", "network", "for 31: the kit's 5 find no room")),
    Broken(
        "a small pool of addresses",
        many(put(networks=3), info(DefaultAddressPools=[{"Base": "10.9.0.0/24", "Size": 26}])),
        Finding("FAIL", "network", "Docker has 3 networks, and addresses for 4"),
    ),
    Broken(
        "a firewall that was emptied",
        program("iptables", '[[ "$*" != *DOCKER* ]] || { echo "iptables: No chain/target/match by that name." >&2; exit 1; }'),
        Finding("WARN", "network", "no chain DOCKER"),
    ),
    # Docker
    Broken("no Docker", lacks("docker"), Finding("FAIL", "docker", "no docker in PATH")),
    Broken("Docker that is not started", put(version=""), Finding("FAIL", "docker", "Docker does not answer")),
    Broken("Docker 19.03", put(version="19.03.15"), Finding("FAIL", "docker", "Docker 19.03.15 is too old")),
    Broken("Docker of a packager", put(version="library-import"), Finding("WARN", "docker", "'library-import', no number")),
    Broken("Docker without clone3", put(version="20.10.5"), Finding("WARN", "docker", "(clone3)")),
    Broken("no Compose", lacks("compose"), Finding("FAIL", "compose", "plug-in of Docker is missing")),
    Broken("Compose 1", put(compose_version="1.29.2"), Finding("FAIL", "compose", "Compose 1.29.2 is too old")),
    Broken("Compose of a packager", put(compose_version="dev"), Finding("WARN", "compose", "'dev', no number")),
    Broken("vfs", info(Driver="vfs"), Finding("WARN", "storage driver", "full copy")),
    Broken("devicemapper", info(Driver="devicemapper"), Finding("WARN", "storage driver", "no longer maintained")),
    Broken(
        "a file system without d_type",
        info(DriverStatus=[["Backing Filesystem", "xfs"], ["Supports d_type", "false"]]),
        Finding("FAIL", "storage driver", "without d_type"),
    ),
    Broken("mapped users", info(SecurityOptions=["name=userns"]), Finding("FAIL", "user namespaces", "Docker maps users")),
    Broken("rootless", info(SecurityOptions=["name=rootless"]), Finding("WARN", "user namespaces", "Docker runs rootless")),
    Broken("no forwarding", info(IPv4Forwarding=False), Finding("WARN", "network", "does not forward IPv4")),
    Broken(
        "limits without effect",
        many(info(MemoryLimit=False), lambda host: host.model(memory_limit="8g")),
        Finding("WARN", "memory", "memory_limit has no effect"),
    ),
    # disks and ports
    Broken("a full disk", df("-Pk", NO_ROOM), Finding("FAIL", "disk of Docker", "1024 B free on /var/lib")),
    Broken("no inodes", df("-Pi", NO_ROOM), Finding("FAIL", "disk of the kit", "only 1 files more can be made")),
    Broken("files of root alone", hide, Finding("FAIL", "file modes", "models/chat/config.json")),
    Broken(
        "a port that is taken",
        put(),
        Finding("FAIL", "ports", f"{CHAT} (VLLM_CHAT_PORT) is taken by "),
        during=lambda _: taken(CHAT),
    ),
    Broken(
        "a port that is no number",
        put(settings="VLLM_CHAT_PORT=http\n"),
        Finding("FAIL", "ports", "VLLM_CHAT_PORT is 'http'"),
    ),
    Broken(
        "one port twice",
        put(settings=f"VLLM_CHAT_PORT={ROUTER}\n"),
        Finding("FAIL", "ports", f"{ROUTER} is both VLLM_CHAT_PORT and VLLM_ROUTER_PORT"),
    ),
    Broken(
        "a web server on the port for HTTP",
        put(settings="OFFLINE_KIT_HTTP_PORT=18798\n"),
        Finding("FAIL", "ports", "18798 (OFFLINE_KIT_HTTP_PORT) is taken by "),
        arguments=("--with", "nginx"),
        during=lambda _: taken(18798),
    ),
    Broken(
        "monitoring that the kit does not carry",
        put(),
        Finding("FAIL", "monitoring", "does not carry the image 'prometheus'"),
        arguments=("--with=monitoring",),
    ),
    # GPUs
    Broken("no driver", put(cards=[]), Finding("FAIL", "driver", "nvidia-smi is not there")),
    Broken("a driver that is not loaded", put(smi_fails=nvidia.NO_DRIVER), Finding("FAIL", "driver", "couldn't communicate")),
    Broken("a driver that was updated", put(smi_fails=nvidia.MISMATCH), Finding("FAIL", "driver", "version mismatch")),
    Broken("no GPU", put(smi_fails=nvidia.NO_DEVICES), Finding("FAIL", "driver", "No devices were found")),
    Broken("a GPU that is lost", put(smi_fails=nvidia.LOST), Finding("FAIL", "driver", "GPU is lost")),
    Broken(
        "a driver too old",
        cards(Card(0, driver="550.54.15"), Card(1, driver="550.54.15")),
        Finding("FAIL", "driver", "550.54.15 is too old: CUDA 13.0.1 of the engine image needs 580"),
    ),
    Broken("no runtime", info(Runtimes={"runc": {"path": "runc"}}), Finding("FAIL", "container runtime", "it has: runc")),
    Broken("one GPU of two", cards(Card(0)), Finding("FAIL", "GPUs used", "names 1; this host has 1 GPU(s): 0")),
    Broken(
        "a model for more GPUs",
        lambda host: host.memory(128, 120).model(tensor_parallel_size=4),
        Finding("FAIL", "GPUs used", "chat takes 4 GPUs, but 2 may be used"),
    ),
    Broken(
        "memory taken by others",
        cards(Card(0, used="30000", processes=((4711, "/usr/bin/python3", 29996),)), Card(1)),
        Finding("FAIL", "GPU 0", "16068 of 46068 MiB are free, the engines take 27640 MiB of it; held by python3 (pid 4711"),
    ),
    Broken(
        "some memory taken",
        cards(Card(0), Card(1, used="9000", processes=((99, "Xorg", 8996),))),
        Finding("WARN", "GPU 1", "9000 MiB are in use, held by Xorg (pid 99"),
    ),
    Broken(
        "[N/A]",
        cards(Card(0, name="NVIDIA GB10", total="[N/A]", used="[N/A]", capability="12.1"), Card(1)),
        Finding("WARN", "GPU 0", "NVIDIA GB10: it does not report its memory ([N/A]): it shares the host's, "),
    ),
    Broken(
        "[Not Supported]",
        cards(Card(0, total="[Not Supported]", used="[Not Supported]", ecc="[Not Supported]"), Card(1)),
        Finding("WARN", "GPU 0", "([Not Supported])"),
    ),
    Broken(
        "a driver that refuses compute_cap",
        put(refused=("compute_cap", "mig.mode.current")),
        Finding("WARN", "GPU 0", "does not say the compute capability"),
    ),
    Broken(
        "an old GPU", cards(Card(0, name="Tesla V100", capability="7.0"), Card(1)), Finding("FAIL", "GPU 0", "capability 7.0")
    ),
    Broken(
        "a GPU without kernels",
        cards(Card(0, name="NVIDIA B200", capability="10.0"), Card(1)),
        Finding("FAIL", "GPU 0", "has compute capability 10.0; the engine image has kernels for 8.0 9.0a 12.0"),
    ),
    Broken(
        "a GPU beside the one that the kernels are for",
        cards(Card(0, name="NVIDIA H100 NVL", capability="9.0"), Card(1, name="NVIDIA Thor", capability="9.1")),
        Finding("FAIL", "GPU 1", "has compute capability 9.1; the engine image has kernels for 8.0 9.0a 12.0"),
    ),
    Broken("an ECC error", cards(Card(0), Card(1, ecc="2")), Finding("FAIL", "GPU 1", "2 memory error(s) that ECC")),
    Broken(
        "an exclusive GPU", cards(Card(0, mode="Exclusive_Process"), Card(1)), Finding("FAIL", "GPU 0", "Exclusive_Process")
    ),
    Broken("a divided GPU", cards(Card(0, mig="Enabled"), Card(1)), Finding("WARN", "GPU 0", "divided (MIG)")),
    Broken(
        "a slice of a GPU",
        many(cards(Card(0, mig="Enabled", slices=("MIG-11111111-aaaa",)), Card(1)), put(settings=f"{SLICE}\n")),
        Finding("WARN", "GPUs used", "1 MIG slice(s)"),
    ),
    Broken(
        "a slice that is gone",
        many(cards(Card(0, mig="Enabled", slices=("MIG-22222222-bbbb",)), Card(1)), put(settings=f"{SLICE}\n")),
        Finding("FAIL", "GPUs used", "names MIG-11111111-aaaa; this host has 1 MIG slice(s): MIG-22222222-bbbb"),
    ),
    Broken(
        "a GPU in error",
        cards(Card(0, total="[Unknown Error]", used="[Unknown Error]"), Card(1)),
        Finding("FAIL", "GPU 0", "the driver cannot talk to it"),
    ),
]
BY_NAME = {broken.name: broken for broken in MATRIX}
SEVERAL = [
    ("an old kernel", "too little memory", "Docker 19.03", "no driver", "a port that is taken"),
    ("a missing program", "no Docker", "files of root alone", "a clock of the far future", "one GPU of two"),
    ("another architecture", "Compose 1", "a full disk", "no runtime", "memory taken by others"),
    ("SELinux without the label", "a clock of 1970", "one port twice", "a driver too old", "limits above the memory"),
    ("mapped users", "no Compose", "a port that is no number", "an ECC error", "no inodes", "a model for more GPUs"),
]


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kit for NVIDIA GPUs whose engine image says CUDA 13.0.1 and its kernels; on two GPUs, three models share the first."""
    folder = tmp_path_factory.mktemp("pattern")
    shelf = scripts_kit.make_shelf(folder / "shelf", small=True)
    engine = shelf.images["engine"].model_copy(update={"environment": ENVIRONMENT})
    return scripts_kit.make_kit(shelf, folder / "kit", images={**shelf.images, "engine": engine}, accelerator="nvidia")


@pytest.fixture
def host(pattern: Path, tmp_path: Path) -> Host:
    shutil.copytree(pattern, tmp_path / "a kit", copy_function=os.link)
    for name in (
        "SHA256SUMS",
        "config/models.json",
        "models/chat/config.json",
        *(f"deploy/images/{key}/expect" for key in ("engine", "gateway")),
    ):
        copy = tmp_path / "a kit" / name
        copy.unlink()
        shutil.copyfile(pattern / name, copy)
    return Host(tmp_path, tmp_path / "a kit")


def look(host: Host, device: str, *arguments: str) -> tuple[int, list[Finding], list[str]]:
    """preflight.sh: exit code, findings, and the remedies of what is not OK; nothing may have changed."""
    (host.folder / "settings.env").write_text(f"CUDA_VISIBLE_DEVICES=0,1\n{host.settings}")
    before = snapshot(host.kit)
    done = host.run(
        "scripts/preflight.sh", "--json", "--device", device, "--env-file", str(host.folder / "settings.env"), *arguments
    )
    assert done.stdout, done.stderr
    assert snapshot(host.kit) == before and host.changes == [] and not list((host.folder / "tmp").iterdir())
    rows = json.loads(done.stdout)["findings"]
    bad = [row for row in rows if row["level"] != "OK"]
    assert all(row["remedy"] for row in bad)
    return done.returncode, [Finding(row["level"], row["check"], row["found"]) for row in rows], [row["remedy"] for row in bad]


def fits(found: Finding, wanted: Finding) -> bool:
    return found[:2] == wanted[:2] and wanted.says in found.says


@pytest.mark.parametrize("device", ["nvidia", "cpu"])
def test_a_whole_host_has_nothing_wrong(host: Host, device: str) -> None:
    code, found, _ = look(host, device)
    assert code == 0 and [finding for finding in found if finding.level != "OK"] == []


@pytest.mark.parametrize("broken", MATRIX, ids=[broken.name for broken in MATRIX])
def test_one_thing_wrong_is_one_finding(host: Host, broken: Broken) -> None:
    broken.spoil(host)
    with ExitStack() as stack:
        stack.enter_context(broken.during(host))  # type: ignore[arg-type]
        code, found, _ = look(host, broken.device, *broken.arguments)
    bad = [finding for finding in found if finding.level != "OK"]
    assert any(fits(finding, broken.finding) for finding in bad), bad
    assert code == (4 if any(finding.level == "FAIL" for finding in bad) else 0)
    others = {finding.check.split()[0] for finding in bad} - {broken.finding.check.split()[0]}
    assert others == set(), bad


@pytest.mark.parametrize("names", SEVERAL, ids=[f"host {number}" for number in range(1, len(SEVERAL) + 1)])
def test_several_things_wrong_come_in_one_run(host: Host, names: tuple[str, ...]) -> None:
    broken = [BY_NAME[name] for name in names]
    with ExitStack() as stack:
        for one in broken:
            one.spoil(host)
            stack.enter_context(one.during(host))  # type: ignore[arg-type]
        code, found, _ = look(host, "nvidia")
        done = host.run("install.sh", "--yes", "--env-file", str(host.folder / "settings.env"))
    assert code == 4
    for one in broken:
        assert any(fits(finding, one.finding) for finding in found), (one.name, found)
    # install.sh says the same, and ends before any change of the host: what it wrote is its own memory of proven files
    assert done.returncode == 4 and "nothing was changed" in done.stderr, done.stderr
    for finding in found:
        if finding.level == "FAIL":
            assert finding.says in done.stderr
    assert host.changes == [] and {path.name for path in (host.kit / ".state").iterdir()} <= {"lock", "proven", "record"}
    assert not (host.kit / ".env").exists()


def test_the_matrix_is_as_large_as_promised() -> None:
    assert len(MATRIX) >= 25 and len(SEVERAL) >= 5 and len({broken.name for broken in MATRIX}) == len(MATRIX)


def copy_kit(host: Host) -> None:
    """As the remedy says: to a disk that can be written."""
    subprocess.run(["cp", "-R", str(host.kit), str(host.folder / "copy")], check=True)
    host.kit, host.mounted = host.folder / "copy", ""


FOLLOWED: list[tuple[str, Callable[[Host, str], object]]] = [
    ("files of root alone", lambda _, remedy: subprocess.run(["bash", "-c", remedy], check=True)),
    ("a colon in the path", lambda host, _: host.move("2026-01")),
    ("a medium that is only read", lambda host, _: copy_kit(host)),
    ("a disk without programs", lambda host, _: vars(host).update(mounted="exec")),
    ("a platform for all images", lambda host, _: host.env.clear()),
    ("certificates of a Docker elsewhere", lambda host, _: host.env.clear()),
    ("a slice that is gone", lambda host, _: vars(host).update(settings="CUDA_VISIBLE_DEVICES=MIG-22222222-bbbb\n")),
]


@pytest.mark.parametrize("name, follow", FOLLOWED, ids=[name for name, _ in FOLLOWED])
def test_the_remedy_helps(host: Host, name: str, follow: Callable[[Host, str], object]) -> None:
    BY_NAME[name].spoil(host)
    code, _, remedies = look(host, "nvidia")
    assert code == 4
    follow(host, remedies[0])
    assert look(host, "nvidia")[0] == 0


def test_a_kit_that_is_not_to_be_cleared(host: Host) -> None:
    """What tmpfiles.d leaves out, and a kit that was moved, are not told of."""
    host.cleared = f"q {host.folder} 1777 root root 10d\nx {host.folder}/a*\n"
    assert [finding for finding in look(host, "nvidia")[1] if finding.level != "OK"] == []
    host.cleared = f"q {host.folder}/moved 1777 root root 10d\n"
    assert [finding for finding in look(host, "nvidia")[1] if finding.level != "OK"] == []
    host.move("moved")
    assert any("cleared" in finding.says or "10d" in finding.says for finding in look(host, "nvidia")[1])


@pytest.mark.fault("install: checks", "read-only", "exit 4, which says to copy the kit to a disk of the host")
def test_a_medium_that_is_only_read_is_named_by_install(host: Host) -> None:
    host.mounted = "ro"
    done = host.run("install.sh", "--yes")
    assert done.returncode == 4 and "mounted read-only" in done.stderr and "copy the kit" in done.stderr
    assert "as root" not in done.stderr


def test_an_operator_without_root_is_told_what_cannot_be_done(pattern: Path) -> None:
    """Somebody else's .env is told, too; the kit lies where that user can read it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(pattern, f"{folder}/kit")
        script = f". '{folder}/kit/scripts/lib/checks/folder.sh'; open_kit '{folder}/kit/install.sh'; check_owner; checks_table"
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-c", script]
        stranger = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert "cannot be written by this user" in stranger and "WARN  operator           not root (user 65534)" in stranger
        shutil.chown(f"{folder}/kit", 65534, 65534)
        assert "FAIL" not in subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        Path(folder, "kit/.env").write_text("")
        Path(folder, "kit/.env").chmod(0o600)
        assert "another user's" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout

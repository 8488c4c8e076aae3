"""What an engine can do, tried from inside: write into its cache and /tmp, answer the gateway, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import scripts_kit
from tests.support.kit_fixtures import Host, make_version, settings
from tests.testbed.dockerd import Dockerd

# Runs in the container of engine-chat; prints what it found as JSON.
PROBE = r"""
import json, os, resource, socket, sys
secrets = json.load(sys.stdin)
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)

def writes(folder):
    try:
        with open(os.path.join(folder, "probe"), "w"):
            pass
        os.unlink(os.path.join(folder, "probe"))
        return True
    except OSError:
        return False

def reaches(host, port):
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False

def files(top):
    for folder, names, found in os.walk(top):
        names[:] = [name for name in names if os.path.join(folder, name) not in ("/proc", "/sys")]
        yield folder, [os.path.join(folder, name) for name in found]

def texts():
    yield json.dumps(dict(os.environ)).encode()
    for process in os.listdir("/proc"):
        if process.isdigit():
            for name in ("environ", "cmdline"):
                try:
                    yield open(f"/proc/{process}/{name}", "rb").read()
                except OSError:
                    pass
    for _, found in files("/"):
        for path in found:
            try:
                if os.path.isfile(path) and os.path.getsize(path) < 4 << 20:
                    yield open(path, "rb").read()
            except OSError:
                pass

def limit(name):
    for place in ("", "memory/", "pids/"):
        try:
            return open(f"/sys/fs/cgroup/{place}{name}").read().strip()
        except OSError:
            pass

seen = texts()
json.dump({
    "user": os.getuid(),
    "rights": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"].strip(), "seccomp": status["Seccomp"].strip(),
    "writable": sorted({folder for folder, _ in files("/") if writes(folder)}),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "pids": limit("pids.max"), "memory": limit("memory.max") or limit("memory.limit_in_bytes"),
    "secrets": sorted({secret for text in texts() for secret in secrets if secret.encode() in text}),
    "reached": [name for name in ("gateway", "engine-embedding", "engine-rerank", "router") if reaches(name, 8000)],
    "outside": [host for host in sys.argv[1:] if reaches(host, 80) or reaches(host, 8000) or reaches(host, 22)],
    "disks": [name for name in os.listdir("/dev") if name.startswith(("sd", "vd", "nvme", "mem", "kmsg"))],
    "socket": os.path.exists("/var/run/docker.sock"),
}, sys.stdout)
"""
SAFE = "a-key-that-an-engine-must-not-see-0123456789"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def host(shelf: scripts_kit.Shelf, airgap: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    made = make_version(shelf, tmp_path_factory.mktemp("inside") / "kit", airgap, name="inside-kit", ports=18880)
    try:
        done = made.run("install.sh", "--yes")
        assert done.returncode == 0, done.stderr
        (made.kit / ".state/keys").write_text(f"team-a {SAFE}\n")
        (made.kit / ".state/keys").chmod(0o600)
        done = made.deploy("start")
        assert done.returncode == 0, done.stderr
        yield made
    finally:
        made.clean()


def address(host: Host, service: str) -> str:
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return host.dockerd.docker("inspect", "--format", form, f"inside-kit-{service}-1").strip()


@pytest.fixture(scope="module")
def found(host: Host) -> dict[str, Any]:
    """What the probe says, run in engine-chat as its own user."""
    others = [address(host, "engine-embedding"), address(host, "engine-rerank"), "172.17.0.1", "8.8.8.8", "169.254.169.254"]
    (host.kit / ".state/secrets.json").write_text(json.dumps([host.key, SAFE]))
    script = 'docker exec -i inside-kit-engine-chat-1 python3 -c "$1" "${@:2}" <"$0"'
    done = host.dockerd.run(["bash", "-c", script, str(host.kit / ".state/secrets.json"), PROBE, *others])
    (host.kit / ".state/secrets.json").unlink()
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_it_has_no_right_at_all(found: dict[str, Any]) -> None:
    assert found["user"] != 0 and set(found["rights"]) == {"0" * 16}
    assert (found["no_new_privs"], found["seccomp"]) == ("1", "2")
    assert found["disks"] == [] and found["socket"] is False


def test_it_writes_into_its_cache_alone(found: dict[str, Any]) -> None:
    kept = [folder for folder in found["writable"] if not folder.startswith(("/tmp", "/dev"))]
    assert {folder for folder in kept if not folder.startswith("/var/lib/offline-kit/cache")} == set()
    assert "/var/lib/offline-kit/cache" in kept
    assert set(found["writable"]) - set(kept) <= {"/tmp", "/dev/shm", "/dev/mqueue"}


def test_it_reaches_the_gateway_alone(found: dict[str, Any]) -> None:
    assert found["reached"] == ["gateway"] and found["outside"] == []


def test_it_sees_no_secret(found: dict[str, Any]) -> None:
    assert found["secrets"] == []


def test_it_has_limits(found: dict[str, Any]) -> None:
    assert found["core"] == [0, 0] and found["pids"] == "32768" and int(found["memory"]) > 0


def test_what_docker_shows_of_the_services_has_no_secret(host: Host) -> None:
    shown = host.dockerd.docker("inspect", *host.dockerd.docker("ps", "--quiet", "--filter", host.project).split())
    assert host.key not in shown and SAFE not in shown and len(json.loads(shown)) == 4
    assert settings(host.kit / ".env")["VLLM_API_KEY"] == host.key
    keys = Path(host.kit / ".state/gateway/keys.conf")
    assert keys.stat().st_mode & 0o777 == 0o600 and SAFE.replace("-", r"\-") in keys.read_text()

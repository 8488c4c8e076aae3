"""On the connected side no secret gets out: not into any file that a command writes, nor into what it says when it fails.

Rules: every place that can hold a secret holds one (tokens of hubs, logins of registry and proxy, a signed URL, what opens a
key that signs), and the servers want them and give them back in their answers; every class of error is met with all of them in
reach: one that is new and has no case here fails.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from offline_kit.common import errors
from offline_kit.common.files import open_locked
from tests.integration.trust.canaries import files_below, found_in
from tests.integration.trust.canary_world import SECRETS, Said, World
from tests.support.loopback import Request


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        made = World(tmp_path, stack)
        yield made
        made.halt.clear()


def test_a_canary_is_found_in_every_form(tmp_path: Path) -> None:
    """The search itself: else the tests below could not fail."""
    secret = {"s": "Canary0/a+secret"}
    shapes = [b"Canary0/a+secret", b"Canary0%2Fa%2Bsecret", b"Canary0/a+secret".hex().encode()]
    shapes += [base64.b64encode(before + b"Canary0/a+secret" + b"!?") for before in (b"", b"u", b"u:")]
    for shape in shapes:
        assert found_in([("x", b"--" + shape + b"--")], secret), shape
    (tmp_path / "f").write_bytes(b"..Canary0/a+secret")
    subprocess.run(["tar", "-czf", "x.tar.gz", "f"], cwd=tmp_path, check=True)
    (tmp_path / "f").unlink()
    assert found_in(files_below(tmp_path), secret) == ["x.tar.gz: f: s"]


def test_no_file_and_no_line_of_the_whole_way_has_a_secret(world: World) -> None:
    """lock, plan, build in parts with signature and record, releases with a delta, and all that shows or checks them."""
    assert world.run("keygen", "-o", "site").returncode == 0
    release = ("release", "--output", "rel", *world.places, "--sign", "site.key", "--record", "--full-every", "2")
    ways: list[tuple[str | Path, ...]] = [
        ("lock", *world.places, "--log-format", "json"),
        ("plan", "kit.yaml", "--gpu", "1x24GiB"),
        ("build", "--version", "v1", "--output", "out", *world.places, "--sign", "site.key", "--record", "--medium", "2MiB",
         "--log-format", "json"),
        ("verify", "out/kit-v1.parts.json", "--key", "site.pub", "--json"),
        ("inspect", "out/kit-v1.parts.json"),
        *(("inspect", "out/kit-v1.parts.json", f"--{what}") for what in ("json", "sbom", "provenance", "scan", "licences")),
        release,
    ]  # fmt: skip
    for way in ways:
        done = world.run(*way)
        assert done.returncode == 0, (way, done.stderr)
    (world.folder / "vllm_config.yaml").write_text("seed: 1\n")
    assert world.run(*release, "--log-format", "json").returncode == 0
    assert world.run("diff", "rel/kit-v1.0.0.tar.gz", "rel/kit-v1.0.1.delta.tar.gz").returncode == 0
    assert world.run("unpack", "rel/kit-v1.0.0.tar.gz", "unpacked").returncode == 0
    assert world.run("store", "ls", "--store", "store").returncode == 0
    assert {login for _, login in world.hub.seen} == {f"Bearer {SECRETS['hub']}"}, "the token was used"
    names = {name for name, _ in files_below(world.folder)}
    wanted = ["kit.lock.json", "out/kit-v1.tar.gz.001", "out/verify-kit.sh", "out/unpack.py", "rel/releases.json"]
    wanted += [f"out/kit-v1.{end}" for end in ("sha256", "parts.json", "parts.json.sig", "SHA256SUMS", "SHA256SUMS.sig")]
    wanted += [f"out/kit-v1.{end}" for end in ("SHA256SUMS.sigstore.json", "transfer.pdf", "transfer.csv", "transfer.json")]
    wanted += [f"rel/kit-v1.0.0.{end}" for end in ("notes.md", "notes.html", "transfer.pdf")]
    wanted += [f"unpacked/kit-v1.0.0/{name}" for name in ("sbom.cdx.json", "provenance.intoto.json", "evidence/scan.json")]
    assert set(wanted) <= names
    assert world.leaks() == []


def test_what_a_killed_run_leaves_in_the_store_has_none(world: World) -> None:
    world.halt.set()
    command = world.command("build", "--version", "v1", "--output", "out", *world.places)
    with subprocess.Popen(command, cwd=world.folder, env=world.env, stderr=subprocess.PIPE, text=True) as run:
        assert world.half_sent.wait(60)
        time.sleep(1)  # so that the journal has something to tell
        run.kill()
        world.said.append(run.communicate()[1])
    assert [path for path in (world.folder / "store/partial").iterdir() if path.stat().st_size], "half of a file"
    assert world.leaks() == []


def echo(request: Request, status: int, **headers: str) -> None:
    """Refuses, with what was sent in all that can be read of the answer."""
    given = request.headers.get("Authorization", "")
    told = json.dumps({"error": f"no: {given}", "path": request.path}).encode()
    request.reply(told, status, {"X-Error-Message": f"no: {given}", **headers})


def no_library(world: World) -> Said:
    """A library that fails, with a secret in what it says."""
    (world.folder / "broken").mkdir()
    (world.folder / "broken/pydantic.py").write_text("import os\nraise RuntimeError(os.environ['HF_TOKEN'])\n")
    return world.run("lock", *world.places, PYTHONPATH=str(world.folder / "broken"))


def password_in_an_url(world: World) -> Said:
    world.manifest["models"]["chat"]["endpoint"] = f"http://joe:{SECRETS['hub']}@127.0.0.1:1"
    return world.build()


def hub_that_knows_nothing(world: World) -> Said:
    world.hub.instead["/api/"] = lambda request: echo(request, 404, **{"X-Error-Code": "RepoNotFound"})
    return world.run("lock", *world.places, "--log-format", "json")


def hub_that_refuses(world: World) -> Said:
    world.hub.instead["/api/"] = lambda request: echo(request, 403)
    return world.run("lock", *world.places)


def way_that_leads_elsewhere(world: World) -> Said:
    def answer(request: Request) -> None:
        given = request.headers["Authorization"].removeprefix("Bearer ")
        echo(request, 302, Location=f"ftp://{given}@x/{given}?token={given}")

    world.hub.instead["/api/"] = answer
    return world.run("lock", *world.places, "--log-format", "json")


def wrong_bytes_behind_a_signed_url(world: World) -> Said:
    world.manifest["files"]["a.bin"]["sha256"] = "0" * 64
    return world.build()


def full_output(world: World) -> Said:
    return world.build("--log-format", "json", "--output", "/proc/out")


def no_docker(world: World) -> Said:
    world.manifest["images"]["engine"] = {"source": "docker-daemon://app:1"}
    return world.run("lock", *world.places)


def release(world: World, *words: str) -> Said:
    return world.run("release", "--output", "rel", *world.places, *words)


def nothing_new(world: World) -> Said:
    assert release(world).returncode == 0
    return release(world, "--if-changed")


def two_at_once(world: World) -> Said:
    (world.folder / "rel").mkdir()
    descriptor = open_locked(world.folder / "rel/.releases.lock")
    assert descriptor is not None
    done = release(world)
    os.close(descriptor)
    return done


def command_that_fails(world: World) -> Said:
    return release(world, "--on-success", f"echo {SECRETS['hub']} $HF_TOKEN $HTTP_PROXY >/dev/null; exit 3")


def bundle(world: World) -> Path:
    done = world.build()
    assert done.returncode == 0, done.stderr
    return Path(world.folder, done.stdout.strip())


def damaged(world: World) -> Said:
    path = bundle(world)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return world.run("verify", path)


def not_signed(world: World) -> Said:
    path = bundle(world)
    assert world.run("keygen", "-o", "site").returncode == 0
    return world.run("verify", path, "--key", "site.pub")


def forbidden(world: World) -> Said:
    world.manifest["policy"] = {"hubs": ["hub.example"], "registries": []}
    return world.run("lock", *world.places)


def scanner_that_fails(world: World) -> Said:
    world.manifest["scan"] = [{"name": "x", "command": ["sh", "-c", f"echo {SECRETS['hub']} >&2; exit 7", "sh", "{path}"]}]
    return world.build()


def stopped(world: World) -> Said:
    world.halt.set()
    command = world.command("build", "--version", "v1", "--output", "out", *world.places)
    run = subprocess.Popen(command, cwd=world.folder, env=world.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert world.half_sent.wait(60)
    run.send_signal(signal.SIGINT)
    out, said = run.communicate(timeout=60)
    world.said.append(out + said)
    return Said(command, run.returncode, out, said)


ERRORS: dict[type[errors.KitError], Callable[[World], Said]] = {
    errors.KitError: no_library,
    errors.SpecError: password_in_an_url,
    errors.LockStale: lambda world: world.build("--locked"),
    errors.NotFound: hub_that_knows_nothing,
    errors.AccessDenied: hub_that_refuses,
    errors.NetworkError: way_that_leads_elsewhere,
    errors.DigestMismatch: wrong_bytes_behind_a_signed_url,
    errors.DiskError: full_output,
    errors.DockerError: no_docker,
    errors.Unchanged: nothing_new,
    errors.Busy: two_at_once,
    errors.CommandFailed: command_that_fails,
    errors.BundleDamaged: damaged,
    errors.BundleUnreadable: lambda world: world.run("verify", "kit.yaml"),
    errors.NotTrusted: not_signed,
    errors.PolicyRefused: forbidden,
    errors.ScanFailed: scanner_that_fails,
    errors.Interrupted: stopped,
}


# what it tells comes out of a container, whose environment has nothing of this run's (rehearsal/configuration.py)
FROM_A_CONTAINER = {errors.RehearsalFailed}


def test_every_error_has_a_case() -> None:
    def below(kind: type[errors.KitError]) -> set[type[errors.KitError]]:
        return {kind}.union(*(below(each) for each in kind.__subclasses__()))

    assert set(ERRORS) | FROM_A_CONTAINER == {kind for kind in below(errors.KitError) if kind.__module__ == errors.__name__}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_no_error_tells_a_secret(world: World, error: type[errors.KitError]) -> None:
    done = ERRORS[error](world)
    assert done.returncode == error.exit_code, done.stderr
    assert done.stderr, "it says something"
    assert world.leaks() == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--key", "pkcs11:token=t;object=k?module-path=/nowhere.so&pin-value=Canary8Pin"], "pkcs11:token=t;object=k"),
        (["--key", "command:PIN=Canary8Pin sign-it Canary8Pin"], "sign-it"),
        (["--key", "command:echo not signed by Canary8Pin >&2; exit 4", "--public", "site.pub"], "ended with 4"),
        (["--key", "site.key"], "passphrase is wrong"),
    ],
)
def test_what_opens_a_key_is_in_no_error(world: World, words: list[str], told: str) -> None:
    path = bundle(world)
    assert world.run("keygen", "-o", "site").returncode == 0
    done = world.run("sign", path, *words, OFFLINE_KIT_KEY_PASSPHRASE="Canary7 pass phrase, not this")
    assert done.returncode in (3, 6) and told in done.stderr, done.stderr
    assert world.leaks() == []

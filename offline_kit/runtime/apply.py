"""The operator's configuration to the files that the services run with.

Rules: everything is checked before anything is written; a file is written beside and renamed, and only when its content
changes, so that a second run changes nothing; what holds a key is 0600 and belongs to the services' user; only ``.state/`` is
written.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from . import compose, gateway, keys, plan
from .gpus import of_totals
from .kit import read
from .records import ConfigError, Mistake, Settings

__all__ = ["describe", "files", "main", "read", "write"]

NOBODY = (10001, 10001)


def files(settings: Settings, placed: plan.Plan, kit: compose.Kit) -> Dict[str, str]:
    """Path below the kit -> content, of all that apply writes."""
    groups = [",".join(settings.model(key).service for key in group) for group in placed.order]
    result = {
        ".state/compose.yaml": compose.text(settings, placed, kit),
        ".state/start-order": "\n".join([*groups, "gateway"]) + "\n",
        ".state/ports": "".join(f"{port} {service}\n" for port, service in compose.published(settings).items()),
        ".state/gateway/nginx.conf": gateway.nginx_conf(settings),
        ".state/gateway/keys.conf": keys.keys_conf(settings.keys),
    }
    result.update({f".state/gateway/models/{name}": text for name, text in gateway.model_lists(settings).items()})
    return result


def describe(kit_env: Mapping[str, str], user: str) -> compose.Kit:
    """The kit that deploy/kit.env describes. Raises ConfigError."""
    needed = ("KIT_NAME", "KIT_VERSION", "KIT_ACCELERATOR", "KIT_IMAGE_engine", "KIT_IMAGE_gateway")
    missing = [
        Mistake("deploy/kit.env", key, "is missing", "unpack the bundle again") for key in needed if not kit_env.get(key)
    ]
    if missing:
        raise ConfigError(missing)
    return compose.Kit(
        name=kit_env["KIT_NAME"],
        version=kit_env["KIT_VERSION"],
        engine_image=kit_env["KIT_IMAGE_engine"],
        gateway_image=kit_env["KIT_IMAGE_gateway"],
        user=user,
    )


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m runtime.apply", description="Turn the configuration into .state/.")
    parser.add_argument("--kit", required=True, type=Path, metavar="DIR", help="the kit as mounted")
    parser.add_argument(
        "--user", type=_user, metavar="UID:GID", help="whom the services run as (who runs this; 10001 for root)"
    )
    parser.add_argument(
        "--gpu-memory", type=plan.memory, metavar="ID=MiB,...", help="total memory of each GPU: check against it"
    )
    parser.add_argument("--gpu-free", type=plan.memory, metavar="ID=MiB,...", help="free memory of each GPU, engines stopped")
    parser.add_argument("--check", action="store_true", help="say mistakes only, write nothing")
    options = parser.parse_args(arguments)
    user = options.user or ((os.getuid(), os.getgid()) if os.getuid() else NOBODY)
    try:
        settings, facts = read(options.kit)
        kit = describe(facts, f"{user[0]}:{user[1]}")
        placed, mistakes = plan.place(settings)
        if options.gpu_memory is not None and not mistakes:
            cards = of_totals(options.gpu_memory, options.gpu_free)
            mistakes = list(plan.check(options.kit, settings, cards).mistakes)
        if mistakes:
            raise ConfigError(mistakes)
        if not options.check:
            for path in write(options.kit, files(settings, placed, kit), user):
                print(f"{path} changed")
            for model in settings.models:
                _folder(options.kit / ".state/cache" / model.key, user, 0o700)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 3
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def write(kit: Path, contents: Mapping[str, str], user: Tuple[int, int]) -> List[str]:
    """Writes what differs, takes away what no longer belongs to the gateway; returns the paths that changed. Raises OSError."""
    changed = []
    operator = (os.getuid(), os.getgid())
    for folder in (kit / ".state/gateway", kit / ".state/gateway/models"):
        _folder(folder, operator, 0o755)
    for path, content in contents.items():
        target = kit / path
        mode, owner = (0o600, user) if path.endswith("keys.conf") else (0o644, operator)
        if target.is_file() and target.read_text("utf-8") == content and _as_wanted(target, mode, owner):
            continue
        partial = target.with_name(target.name + ".new")
        if partial.exists():
            partial.unlink()
        descriptor = os.open(str(partial), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.chmod(mode)
        _give(partial, owner)
        partial.replace(target)
        changed.append(path)
    for extra in sorted((kit / ".state/gateway/models").iterdir()):
        if f".state/gateway/models/{extra.name}" not in contents:
            extra.unlink()
            changed.append(f".state/gateway/models/{extra.name}")
    return changed


def _folder(path: Path, user: Tuple[int, int], mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if not _as_wanted(path, mode, user):
        path.chmod(mode)
        _give(path, user)


def _as_wanted(path: Path, mode: int, user: Tuple[int, int]) -> bool:
    status = path.stat()
    return status.st_mode & 0o777 == mode and (os.getuid() != 0 or (status.st_uid, status.st_gid) == user)


def _give(path: Path, user: Tuple[int, int]) -> None:
    # Only root can give a file away; for anybody else the services run as the operator, who owns it already.
    if os.getuid() == 0:
        os.chown(str(path), user[0], user[1])


def _user(text: str) -> Tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not UID:GID in numbers")
    return int(match.group(1)), int(match.group(2))


if __name__ == "__main__":
    sys.exit(main())

"""The operator's configuration to the files that the services run with.

Rules: everything is checked before anything is written; how it is written is told in ``written``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from . import certificate, compose, gateway, keys, monitoring, plan
from .gpus import of_totals
from .kit import read
from .records import ConfigError, Mistake, Settings
from .replicas import engines, spread
from .written import folder, write

__all__ = ["describe", "files", "main", "read", "write"]

NOBODY = (10001, 10001)


def files(settings: Settings, placed: plan.Plan, kit: compose.Kit, pair: Optional[certificate.Pair] = None) -> Dict[str, str]:
    """Path below the kit -> content, of all that apply writes."""
    ports = compose.published(settings, kit)
    result = {
        ".state/compose.yaml": compose.text(settings, placed, kit),
        ".state/start-order": "".join(",".join(group) + "\n" for group in compose.groups(settings, placed, kit)),
        ".state/ports": "".join(f"{port} {service}\n" for port, service in ports.items()),
        ".state/gateway/nginx.conf": gateway.nginx_conf(settings, certificate=pair is not None),
        ".state/gateway/keys.conf": keys.keys_conf(settings.keys),
    }
    result.update({f".state/gateway/models/{name}": text for name, text in gateway.model_lists(settings).items()})
    if pair and settings.web:
        result[".state/gateway/tls/server.crt"] = pair.certificate
        result[".state/gateway/tls/server.key"] = pair.key
    if settings.monitoring:
        result[".state/gateway/metrics.prom"] = monitoring.kit_metrics(kit, pair.ends if pair and settings.web else None)
    result.update(monitoring.files(settings, kit))
    return result


def describe(kit_env: Mapping[str, str], user: str, *, with_certificate: bool = False, around: str = "") -> compose.Kit:
    """The kit that deploy/kit.env describes; ``around``: see ``watched``. Raises ConfigError."""
    carried = ["engine", "gateway", *kit_env.get("KIT_IMAGES", "").split(",")]
    images = {key: kit_env.get("KIT_IMAGE_" + re.sub("[-.]", "_", key), "") for key in carried if key}
    facts = {"KIT_NAME": kit_env.get("KIT_NAME"), "KIT_VERSION": kit_env.get("KIT_VERSION")}
    facts.update({"KIT_ACCELERATOR": kit_env.get("KIT_ACCELERATOR"), **{f"KIT_IMAGE_{key}": images[key] for key in images}})
    missing = [Mistake("deploy/kit.env", name, "is missing", "unpack the bundle again") for name in facts if not facts[name]]
    if missing:
        raise ConfigError(missing)
    return compose.Kit(kit_env["KIT_NAME"], kit_env["KIT_VERSION"], images, user, with_certificate, around)


def watched(kit: Path, settings: Settings) -> str:
    """A digest of the operator's rules and dashboards, empty without monitoring. Raises ConfigError, OSError."""
    if settings.monitoring is None:
        return ""
    if not (kit / "config/monitoring/rules").is_dir():
        raise ConfigError([Mistake("config/monitoring/rules", "", "is missing", "unpack the bundle again")])
    found = sorted(path for path in (kit / "config/monitoring").rglob("*") if path.is_file())
    return compose.digest([[str(path.relative_to(kit)), path.read_text("utf-8", "replace")] for path in found])


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
        asked, mistakes = spread(settings)
        pair = certificate.read(options.kit, mistakes) if settings.web else None
        around = watched(options.kit, settings)
        kit = describe(facts, f"{user[0]}:{user[1]}", with_certificate=pair is not None, around=around)
        placed, misplaced = plan.place(asked)
        # Where shares of GPUs are missing already, a plan can only say so once more.
        mistakes += [] if mistakes else misplaced
        if options.gpu_memory is not None and not mistakes:
            cards = of_totals(options.gpu_memory, options.gpu_free)
            mistakes = list(plan.check(options.kit, asked, cards).mistakes)
        if mistakes:
            raise ConfigError(mistakes)
        if not options.check:
            for path in write(options.kit, files(settings, placed, kit, pair), user):
                print(f"{path} changed")
            for place in [f"cache/{engine.key}" for engine in engines(settings)] + monitoring.folders(settings, kit):
                folder(options.kit / ".state" / place, user, 0o700)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 3
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _user(text: str) -> Tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not UID:GID in numbers")
    return int(match.group(1)), int(match.group(2))


if __name__ == "__main__":
    sys.exit(main())

"""The operator's configuration to the files that the services run with.

Rules: everything is checked before anything is said; the files are told in one text on stdout, for the host to check and write
(``scripts/lib/services/applied.sh``), since nothing of the host can be written from here; secrets are not seen, only a stand-in
for each.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from . import plan
from .gpu_plan.gpus import of_totals
from .kit import read
from .render import compose, gateway, monitoring
from .settings import api_keys, certificate, placement
from .settings.model import ConfigError, Mistake, Settings
from .settings.replicas import expand_replicas

__all__ = ["describe", "document", "files", "main", "read"]

NOBODY = (10001, 10001)
NEWLINE = "\n"


def files(
    settings: Settings, placed: placement.Placement, kit: compose.Kit, pair: Optional[certificate.Pair] = None
) -> Dict[str, str]:
    """Path below .state/ -> content, of all that apply answers."""
    ports = compose.published(settings, kit)
    result = {
        "compose.yaml": compose.text(settings, placed, kit),
        "start-order": "".join(",".join(group) + "\n" for group in compose.groups(settings, placed, kit)),
        "ports": "".join(f"{port} {service}\n" for port, service in ports.items()),
        "gateway/nginx.conf": gateway.nginx_conf(settings, certificate=pair is not None),
        "gateway/keys.conf": api_keys.keys_conf(settings.keys),
    }
    result.update({f"gateway/models/{name}": text for name, text in gateway.model_lists(settings).items()})
    if settings.monitoring:
        result["gateway/metrics.prom"] = monitoring.kit_metrics(kit, pair.ends if pair and settings.web else None)
    result.update(monitoring.files(settings, kit))
    return result


def document(contents: Mapping[str, str]) -> str:
    """The files as one text: ``FILE PATH LINES`` before the lines of each, ``END`` behind the last."""
    parts = [f"FILE {path} {text.count(NEWLINE)}\n{text}" for path, text in contents.items()]
    return f"offline-kit-state 1\n{''.join(parts)}END\n"


def describe(
    kit_env: Mapping[str, str], user: str, *, with_certificate: bool = False, around: str = "", memory: str = ""
) -> compose.Kit:
    """The kit that deploy/kit.env describes; ``around``: see ``watched``; ``memory``: of an engine. Raises ConfigError."""
    carried = ["engine", "gateway", *kit_env.get("KIT_IMAGES", "").split(",")]
    images = {key: kit_env.get("KIT_IMAGE_" + re.sub("[-.]", "_", key), "") for key in carried if key}
    facts = {"KIT_NAME": kit_env.get("KIT_NAME"), "KIT_VERSION": kit_env.get("KIT_VERSION")}
    facts.update({"KIT_ACCELERATOR": kit_env.get("KIT_ACCELERATOR"), **{f"KIT_IMAGE_{key}": images[key] for key in images}})
    missing = [Mistake("deploy/kit.env", name, "is missing", "unpack the bundle again") for name in facts if not facts[name]]
    if missing:
        raise ConfigError(missing)
    return compose.Kit(kit_env["KIT_NAME"], kit_env["KIT_VERSION"], images, user, with_certificate, around, memory)


def watched(kit: Path, settings: Settings) -> str:
    """A digest of the operator's rules and dashboards, empty without monitoring. Raises ConfigError, OSError."""
    if settings.monitoring is None:
        return ""
    if not (kit / "config/monitoring/rules").is_dir():
        raise ConfigError([Mistake("config/monitoring/rules", "", "is missing", "unpack the bundle again")])
    found = sorted(path for path in (kit / "config/monitoring").rglob("*") if path.is_file())
    return compose.digest([[str(path.relative_to(kit)), path.read_text("utf-8", "replace")] for path in found])


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m runtime.apply", description="The configuration as files of .state/.")
    parser.add_argument("--kit", required=True, type=Path, metavar="DIR", help="the kit as mounted")
    parser.add_argument(
        "--user", type=_user, metavar="UID:GID", help="whom the services run as (who runs this; 10001 for root)"
    )
    parser.add_argument(
        "--gpu-memory", type=plan.memory, metavar="ID=MiB,...", help="total memory of each GPU: check against it"
    )
    parser.add_argument("--gpu-free", type=plan.memory, metavar="ID=MiB,...", help="free memory of each GPU, engines stopped")
    parser.add_argument("--memory", default="", metavar="SIZE", help="what an engine may take at most without a memory_limit")
    parser.add_argument("--check", action="store_true", help="say mistakes only")
    options = parser.parse_args(arguments)
    user = options.user or ((os.getuid(), os.getgid()) if os.getuid() else NOBODY)
    try:
        settings, facts = read(options.kit)
        asked, mistakes = expand_replicas(settings)
        pair = certificate.read(options.kit, mistakes) if settings.web else None
        if settings.web and settings.web.tls_only and pair is None and not mistakes:
            remedy = "install.sh --tls self-signed makes one, or put yours there"
            mistakes.append(Mistake(".env", "OFFLINE_KIT_TLS_ONLY", "there is no certificate in .state/tls", remedy))
        around = watched(options.kit, settings)
        kit = describe(facts, f"{user[0]}:{user[1]}", with_certificate=pair is not None, around=around, memory=options.memory)
        _refuse(mistakes)  # where shares of GPUs are missing already, a placement can only say so once more
        placed, mistakes = placement.place(asked)
        _refuse(mistakes)
        if options.gpu_memory is not None:
            cards = of_totals(options.gpu_memory, options.gpu_free)
            _refuse(plan.evaluate_kit(options.kit, asked, cards).mistakes)
        if not options.check:
            print(document(files(settings, placed, kit, pair)), end="")
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 3
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _refuse(mistakes: Sequence[Mistake]) -> None:
    if mistakes:
        raise ConfigError(mistakes)


def _user(text: str) -> Tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not UID:GID in numbers")
    return int(match.group(1)), int(match.group(2))


if __name__ == "__main__":
    sys.exit(main())

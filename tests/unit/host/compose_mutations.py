"""Changes to a Compose file of a kit, each of which the host must refuse.

Rules: each is one function from the whole text to another; its name says what would come of it; the file that they change has
six models on GPUs, a router, nginx and monitoring.

One file, because it is one table.
"""

from __future__ import annotations

import re
from collections.abc import Callable

USER = "10001:10001"


def lines(text: str, old: str, new: str) -> str:
    """``text`` with the first ``old`` another."""
    assert old in text, old
    return text.replace(old, new, 1)


def after(text: str, line: str, *more: str) -> str:
    return lines(text, f"{line}\n", "".join(f"{each}\n" for each in (line, *more)))


def without(text: str, line: str) -> str:
    return lines(text, f"{line}\n", "")


MODELS = '      - type: "bind"\n        source: "./models"\n        target: "/models"\n        read_only: true\n'
Change = Callable[[str], str]
REFUSED: dict[str, Change] = {
    # rights
    "privileged": lambda t: after(t, '    pull_policy: "never"', "    privileged: true"),
    "privileged as text": lambda t: after(t, '    pull_policy: "never"', '    privileged: "true"'),
    "pid of the host": lambda t: after(t, '    pull_policy: "never"', '    pid: "host"'),
    "ipc of the host": lambda t: after(t, '    pull_policy: "never"', '    ipc: "host"'),
    "network of the host": lambda t: after(t, '    pull_policy: "never"', '    network_mode: "host"'),
    "users of the host": lambda t: after(t, '    pull_policy: "never"', '    userns_mode: "host"'),
    "uts of the host": lambda t: after(t, '    pull_policy: "never"', '    uts: "host"'),
    "cgroup of the host": lambda t: after(t, '    pull_policy: "never"', '    cgroup: "host"'),
    "cgroup_parent": lambda t: after(t, '    pull_policy: "never"', '    cgroup_parent: "/"'),
    "cap_add": lambda t: after(t, '      - "ALL"', "    cap_add:", '      - "SYS_ADMIN"'),
    "another cap_drop": lambda t: lines(t, '- "ALL"', '- "NET_RAW"'),
    "cap_drop is gone": lambda t: lines(t, '    cap_drop:\n      - "ALL"\n', ""),
    "no seccomp": lambda t: after(t, '      - "no-new-privileges:true"', '      - "seccomp:unconfined"'),
    "new privileges": lambda t: lines(t, "no-new-privileges:true", "no-new-privileges:false"),
    "no security_opt": lambda t: lines(t, '    security_opt:\n      - "no-new-privileges:true"\n', ""),
    "root": lambda t: lines(t, f'user: "{USER}"', 'user: "0:0"'),
    "another user": lambda t: lines(t, f'user: "{USER}"', 'user: "1000:1000"'),
    "no user": lambda t: without(t, f'    user: "{USER}"'),
    "a root that can be written": lambda t: lines(t, "    read_only: true\n", "    read_only: false\n"),
    "devices": lambda t: after(t, '    pull_policy: "never"', "    devices:", '      - "/dev/sda:/dev/sda"'),
    "device_cgroup_rules": lambda t: after(t, '    pull_policy: "never"', "    device_cgroup_rules:", '      - "a *:* rwm"'),
    "sysctls": lambda t: after(t, '    pull_policy: "never"', "    sysctls:", '      net.ipv4.ip_forward: "1"'),
    "another runtime": lambda t: after(t, '    pull_policy: "never"', '    runtime: "runc-as-root"'),
    "group_add": lambda t: after(t, '    pull_policy: "never"', "    group_add:", '      - "docker"'),
    "SYS_ADMIN for an engine": lambda t: after(t, '    restart: "unless-stopped"', "    cap_add:", '      - "SYS_ADMIN"'),
    "more rights for the exporter of GPUs": lambda t: lines(t, '- "SYS_ADMIN"', '- "SYS_ADMIN"\n      - "SYS_PTRACE"'),
    "a driver of devices": lambda t: lines(t, 'driver: "nvidia"', 'driver: "cdi"'),
    # what is run
    "an image of another name": lambda t: lines(t, "localhost/offline-kit/engine:0123456789ab", "evil:latest"),
    "the image of another service": lambda t: lines(
        t, "localhost/offline-kit/engine:0123456789ab", "localhost/offline-kit/grafana:0123456789ab"
    ),
    "an image that is pulled": lambda t: lines(t, 'pull_policy: "never"', 'pull_policy: "always"'),
    "an image that is built": lambda t: after(t, '    pull_policy: "never"', '    build: "."'),
    "another entrypoint": lambda t: lines(t, '- "runtime.serve"', '- "runtime.evil"'),
    "a longer entrypoint": lambda t: lines(t, '      - "daemon off;"\n', '      - "daemon off;"\n      - "-x"\n'),
    "an entrypoint as a text": lambda t: lines(t, '    entrypoint:\n      - "python3"\n', '    entrypoint: "sh -c id"\n'),
    "a command": lambda t: after(t, '    working_dir: "/"', "    command:", '      - "sh"'),
    "another health check": lambda t: lines(t, '- "CMD"', '- "CMD-SHELL"'),
    "a hook": lambda t: after(t, '    working_dir: "/"', "    post_start:", '      - command: "id"', '        user: "root"'),
    "a service of another name": lambda t: lines(t, "  router:\n", "  helper:\n"),
    "an engine with a name out of its folder": lambda t: t.replace("  engine-m0:\n", "  engine-../x:\n", 1),
    "environment": lambda t: lines(t, 'PYTHONPATH: "/opt/offline-kit"', 'LD_PRELOAD: "/models/x.so"'),
    "another PYTHONPATH": lambda t: lines(t, 'PYTHONPATH: "/opt/offline-kit"', 'PYTHONPATH: "/models"'),
    "env_file": lambda t: after(t, '    working_dir: "/"', '    env_file: "/root/.env"'),
    # what is seen of the host
    "the host's root": lambda t: lines(t, 'source: "./models"', 'source: "/"'),
    "Docker's socket": lambda t: lines(t, 'source: "./models"', 'source: "/var/run/docker.sock"'),
    "the kit itself": lambda t: lines(t, 'source: "./models"', 'source: "."'),
    "above the kit": lambda t: lines(t, 'source: "./models"', 'source: "./models/../.."'),
    "the keys": lambda t: lines(t, 'source: "./models"', 'source: "./.state"'),
    "the cache of another engine": lambda t: lines(t, "./.state/cache/m0", "./.state/cache/m1"),
    "models that can be written": lambda t: lines(t, MODELS, MODELS.replace("true", "false")),
    "another target": lambda t: lines(t, 'target: "/models"', 'target: "/etc"'),
    "a mount more": lambda t: lines(t, MODELS, MODELS + MODELS.replace("./models", "./.env").replace("/models", "/env")),
    "a mount twice": lambda t: lines(t, MODELS, MODELS * 2),
    "a mount less": lambda t: lines(t, MODELS, ""),
    "a mount of another kind": lambda t: lines(t, 'type: "bind"', 'type: "volume"'),
    "a mount that is shared": lambda t: lines(t, MODELS, MODELS + '        bind:\n          propagation: "shared"\n'),
    "a mount in short": lambda t: lines(t, MODELS, MODELS + '      - "/:/host"\n'),
    "a mount whose keys are in another order": lambda t: lines(
        t,
        MODELS,
        MODELS.replace(
            '        target: "/models"\n        read_only: true\n', '        read_only: true\n        target: "/models"\n'
        ),
    ),
    "volumes_from": lambda t: after(t, '    working_dir: "/"', "    volumes_from:", '      - "container:other"'),
    "a larger tmpfs": lambda t: lines(t, "size=2g", "size=200g"),
    "a tmpfs elsewhere": lambda t: lines(t, "/tmp:exec,mode=1777", "/etc:exec,mode=1777"),
    "secrets": lambda t: after(t, '    working_dir: "/"', "    secrets:", '      - "key"'),
    "configs": lambda t: t + 'configs:\n  x:\n    file: "/etc/shadow"\n',
    "volumes at the top": lambda t: t + "volumes:\n  x:\n",
    # what is reached
    "a port that nobody set": lambda t: lines(t, '- "0.0.0.0:8000:8000"', '- "0.0.0.0:22:8000"'),
    "a port more": lambda t: lines(t, '- "0.0.0.0:8000:8000"', '- "0.0.0.0:8000:8000"\n      - "0.0.0.0:2375:2375"'),
    "a port on another address": lambda t: lines(t, '- "127.0.0.1:9090:9090"', '- "0.0.0.0:9090:9090"'),
    "a port without an address": lambda t: lines(t, '- "127.0.0.1:9090:9090"', '- "9090:9090"'),
    "a range of ports": lambda t: lines(t, '- "0.0.0.0:8000:8000"', '- "0.0.0.0:8000-9000:8000"'),
    "a port of an engine": lambda t: after(t, '    working_dir: "/"', "    ports:", '      - "0.0.0.0:8000:8000"'),
    "an engine on the outside": lambda t: lines(t, '- "model-m0"', '- "edge"'),
    "an engine on two networks": lambda t: lines(t, '- "model-m0"', '- "model-m0"\n      - "model-m1"'),
    "a network with a way out": lambda t: lines(t, "    internal: true\n", "    internal: false\n"),
    "a network that is not internal": lambda t: lines(t, "    internal: true\n", ""),
    "a network with an address of the host": lambda t: lines(t, 'inhibit_ipv4: "true"', 'inhibit_ipv4: "false"'),
    "a network of another name": lambda t: t + "  other:\n    internal: true\n",
    "a network that exists": lambda t: lines(t, "    internal: true\n", "    external: true\n"),
    "a network driver": lambda t: lines(t, "    internal: true\n", '    driver: "macvlan"\n    internal: true\n'),
    "the edge with options": lambda t: t + '    driver: "host"\n',
    "extra_hosts": lambda t: after(t, '    working_dir: "/"', "    extra_hosts:", '      - "host:host-gateway"'),
    "a name server": lambda t: lines(t, '- "127.0.0.1"', '- "8.8.8.8"'),
    # limits
    "no limit of processes": lambda t: without(t, "    pids_limit: 32768"),
    "a higher limit of processes": lambda t: lines(t, "pids_limit: 32768", "pids_limit: 0"),
    "core dumps": lambda t: lines(t, "      core: 0\n", "      core: 1\n"),
    "no limit of memory": lambda t: without(t, '    mem_limit: "24064m"'),
    "memory without end": lambda t: lines(t, '"24064m"', '"-1"'),
    "another log driver": lambda t: lines(t, '"json-file"', '"syslog"'),
    "a log without end": lambda t: lines(t, '"50m"', '"-1"'),
    # the notation
    "a key twice": lambda t: after(t, '    pull_policy: "never"', '    pull_policy: "never"'),
    "a service twice": lambda t: lines(t, "  router:\n", "  gateway:\n"),
    "services twice": lambda t: t + 'services:\n  gateway:\n    image: "x"\n',
    "a list in two parts": lambda t: after(t, '      - "ALL"', "    cap_drop:", '      - "ALL"'),
    "a second document": lambda t: t + "---\nservices:\n",
    "a first document": lambda t: "---\n" + t,
    "a directive": lambda t: "%YAML 1.2\n" + t,
    "an anchor": lambda t: lines(t, "  router:\n", "  router: &x\n"),
    "an alias": lambda t: lines(t, '    working_dir: "/"\n', "    working_dir: *x\n"),
    "a merge": lambda t: after(t, '    pull_policy: "never"', "    <<: *x"),
    "a tag": lambda t: lines(t, "read_only: true", "read_only: !!bool true"),
    "a reset": lambda t: lines(t, "    cap_drop:\n", "    cap_drop: !reset\n"),
    "flow style": lambda t: after(t, '    pull_policy: "never"', "    {privileged: true}"),
    "a list in flow style": lambda t: lines(t, '    cap_drop:\n      - "ALL"\n', '    cap_drop: ["ALL"]\n'),
    "a value without quotes": lambda t: lines(t, 'restart: "unless-stopped"', "restart: unless-stopped"),
    "a value in single quotes": lambda t: lines(t, 'restart: "unless-stopped"', "restart: 'unless-stopped'"),
    "a key in quotes": lambda t: after(t, '    pull_policy: "never"', '    "privileged": true'),
    "an escape": lambda t: lines(t, 'restart: "unless-stopped"', 'restart: "unless\\u002dstopped"'),
    "a block": lambda t: lines(t, '    working_dir: "/"\n', "    working_dir: |\n      /\n"),
    "a folded line": lambda t: lines(t, '    working_dir: "/"\n', '    working_dir:\n      "/"\n'),
    "a comment": lambda t: after(t, '    pull_policy: "never"', "    # privileged"),
    "a comment behind a value": lambda t: lines(t, "    read_only: true\n", "    read_only: true # or not\n"),
    "an empty line": lambda t: lines(t, "    read_only: true\n", "    read_only: true\n\n"),
    "a blank at the end": lambda t: lines(t, "    read_only: true\n", "    read_only: true \n"),
    "a tab": lambda t: lines(t, "    read_only: true\n", "\tread_only: true\n"),
    "a carriage return": lambda t: t.replace("\n", "\r\n"),
    "a lone carriage return": lambda t: lines(
        t, 'restart: "unless-stopped"', 'restart: "x"\r    privileged: true\r    restart: "unless-stopped"'
    ),
    "NUL": lambda t: lines(t, "unless-stopped", "unless\0stopped"),
    "a letter that is not ASCII": lambda t: lines(t, "unless-stopped", "unless\u2010stopped"),
    "a line separator of Unicode": lambda t: lines(
        t, 'restart: "unless-stopped"', 'restart: "unless-stopped"\u2028    privileged: true'
    ),
    "a mark of the byte order": lambda t: "\ufeff" + t,
    "an odd indent": lambda t: lines(t, "    read_only: true\n", "     read_only: true\n"),
    "a deeper indent": lambda t: lines(t, "    read_only: true\n", "      read_only: true\n"),
    "a key below a value": lambda t: after(t, '    pull_policy: "never"', '      privileged: "x"'),
    "a key with nothing behind it": lambda t: after(t, '    pull_policy: "never"', "    privileged:"),
    "a variable": lambda t: lines(t, 'working_dir: "/"', 'working_dir: "${HOME}"'),
    "a dollar sign": lambda t: lines(t, 'offline-kit.model: "m0"', 'offline-kit.model: "$HOME"'),
    "include": lambda t: lines(t, "services:\n", 'include:\n  - "/etc/other.yaml"\nservices:\n'),
    "extends": lambda t: after(
        t, '    pull_policy: "never"', "    extends:", '      file: "/tmp/x.yaml"', '      service: "x"'
    ),
    "a name of the project": lambda t: lines(t, "services:\n", 'name: "other"\nservices:\n'),
    "x- at the top": lambda t: lines(t, "services:\n", 'x-any: "y"\nservices:\n'),
    "profiles": lambda t: after(t, '    pull_policy: "never"', "    profiles:", '      - "never"'),
    "other first lines": lambda t: lines(t, "# Written by offline-kit", "# written by somebody"),
    "the end is missing": lambda t: t.rstrip("\n"),
    "half of it": lambda t: t[: len(t) // 2],
    "no gateway": lambda t: re.sub(r"(?ms)^  gateway:\n.*?(?=^  \S)", "", t),
    "nothing": lambda t: "",
    "only its first lines": lambda t: "".join(t.splitlines(keepends=True)[:2]),
    "too large": lambda t: t + "# " * (1 << 19) + "\n",
    "another kit's label": lambda t: lines(t, 'offline-kit.kit: "my-kit"', 'offline-kit.kit: "other"'),
    "a label more": lambda t: lines(
        t, '      offline-kit.kit: "my-kit"\n', '      offline-kit.kit: "my-kit"\n      com.docker.compose.project: "other"\n'
    ),
}

#!/usr/bin/env bash
# The main job, start to end, on an embedded default: build, verify, unpack, install, ask. Run it by `make demo`.
#   KEEP=1 make demo      leave the services running at the end and say how to use and stop them
# Rules: it uses the Docker that is there; where none answers and this is root, it installs the distribution's and starts a throwaway
# engine in a network namespace that has only a loopback. Everything it writes lies in demo-out/ and in the testbed's cache.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly HERE
readonly OUT=${HERE}/demo-out
readonly PYTHON=${PYTHON:-python3}
readonly REGISTRY_PORT=5055 HUB_PORT=5056 # as manifests/demo.yaml has them
STARTED=()  # pids that this script started
ENTER=()    # how to get into the namespace of the throwaway engine
KIT=""
MANIFEST=demo-real CONFIG=demo-real # tiny models where the real ones cannot be had

say() { printf '\n==> %s\n' "$*" >&2; }
die() {
    printf 'demo: %s\n' "$1" >&2
    exit 1
}
show() { # a command as a person would type it, then its doing
    printf '\n$ %s\n' "$*"
    "$@"
}
on_host() { ${ENTER[@]+"${ENTER[@]}"} "$@"; }

end() {
    local code=$? pid
    if [[ -n ${KIT} && ( -z ${KEEP:-} || ${code} -ne 0 ) ]]; then
        (cd "${KIT}" && on_host ./scripts/deploy.sh stop >/dev/null 2>&1) || printf 'demo: could not stop the services\n' >&2
    elif [[ ${#ENTER[@]} -gt 0 && -n ${KEEP:-} ]]; then
        return # the engine stays too
    fi
    for pid in ${STARTED[@]+"${STARTED[@]}"}; do
        kill "${pid}" 2>/dev/null || continue
        wait "${pid}" 2>/dev/null || true
    done
}

need_python() {
    "${PYTHON}" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ||
        die "Python 3.10 or later is needed; set PYTHON=/path/to/python3"
}

# start NAME COMMAND...: in the background; its first line on stdout, which it prints when it is ready, ends up in demo-out/NAME.json
start() {
    local name=$1
    shift
    : >"${OUT}/${name}.json"
    "$@" >"${OUT}/${name}.json" 2>"${OUT}/${name}.log" &
    STARTED+=("$!")
    until [[ -s ${OUT}/${name}.json ]]; do
        kill -0 "${STARTED[-1]}" 2>/dev/null || die "${name} did not start: $(tail -n 5 "${OUT}/${name}.log")"
        sleep 0.2
    done
}

stop_last() {
    kill "${STARTED[-1]}"
    wait "${STARTED[-1]}" 2>/dev/null || true
    unset 'STARTED[-1]'
}

field() { "${PYTHON}" -c 'import json, sys; v = json.load(open(sys.argv[1]))[sys.argv[2]]; print(*(v if isinstance(v, list) else [v]), sep="\n")' "$@"; }

use_docker() {
    local compose
    if docker info >/dev/null 2>&1; then
        say "Using the Docker that is here: $(docker version --format '{{.Server.Version}}')"
        docker compose version >/dev/null 2>&1 && return
        compose=$(.venv/bin/python -m tests.testbed paths >"${OUT}/paths.json" && field "${OUT}/paths.json" compose)
        mkdir -p "${OUT}/docker/cli-plugins"
        ln -sf "${compose}" "${OUT}/docker/cli-plugins/docker-compose"
        export DOCKER_CONFIG=${OUT}/docker
        return
    fi
    [[ ${EUID} -eq 0 ]] || die "no Docker engine answers: start Docker and allow your user to use it, or run this as root"
    say "No Docker engine answers: starting a throwaway one in a network namespace that has only a loopback"
    start dockerd .venv/bin/python -m tests.testbed dockerd --dir "${OUT}/dockerd" --airgap
    mapfile -t ENTER < <(field "${OUT}/dockerd.json" nsenter)
    eval "$("${PYTHON}" -c 'import json, shlex, sys
for name, value in json.load(open(sys.argv[1]))["env"].items(): print(f"export {name}={shlex.quote(value)}")' "${OUT}/dockerd.json")"
}

prepare() {
    say "1. What the demo needs: distribution packages, a virtual environment, an engine image, models"
    bash tests/testbed/setup.sh
    make --no-print-directory venv
    mkdir -p "${OUT}"
    .venv/bin/python -m tests.testbed prepare >"${OUT}/paths.json"
    if [[ -z $(field "${OUT}/paths.json" real) ]]; then
        MANIFEST=demo CONFIG=demo
        say "The packages of the real models cannot be had here: tiny models with random weights serve, and what they say means nothing"
    fi
}

build() {
    say "2. The connected side: a registry and a model hub on the loopback; one manifest becomes one verified file"
    start sources .venv/bin/python -m tests.testbed serve --registry-port "${REGISTRY_PORT}" --hub-port "${HUB_PORT}"
    cp -r "manifests/${MANIFEST}.yaml" "${OUT}/project/manifests/"
    cp -r "config/${CONFIG}" "${OUT}/project/config/"
    show offline-kit build --version v1.0.0 --manifest "${OUT}/project/manifests/${MANIFEST}.yaml" --output "${OUT}" --store "${OUT}/store"
    show offline-kit verify "${OUT}/demo-v1.0.0.tar.gz"
    say "Registry and hub are taken down: from here on there is only the file"
    stop_last
}

install() {
    say "3. The host: unpack, install, nothing downloaded"
    cd "${OUT}"
    show tar -xzf demo-v1.0.0.tar.gz
    cd demo-v1.0.0
    KIT=${PWD}
    printf '\n$ ./install.sh\n'
    on_host ./install.sh --yes
}

ask() {
    local key port what model expected
    say "4. A client asks, through the gateway, with the OpenAI client library"
    key=$(sed -n 's/^VLLM_API_KEY=//p' "${KIT}/.env")
    port=$(sed -n 's/^VLLM_ROUTER_PORT=//p' "${KIT}/.env")
    while read -r what model expected; do
        [[ "${MANIFEST}" == demo-real ]] || { model='' && expected=''; } # then the defaults of ask.py
        on_host "${HERE}/.venv/bin/python" "${HERE}/tests/demo/ask.py" "${what}" --base "http://127.0.0.1:${port}" --key "${key}" \
            --model "${model}" --expect "${expected}"
    done <<'QUESTIONS'
chat smollm2-135m-instruct Paris
stream smollm2-135m-instruct Paris
embeddings all-minilm-l6-v2 384
similar all-minilm-l6-v2 the related one
rerank all-minilm-l6-v2-bi-encoder order [0,
QUESTIONS
    printf 'no key:     '
    on_host "${HERE}/.venv/bin/python" "${HERE}/tests/demo/ask.py" status --base "http://127.0.0.1:${port}" --path /v1/models --json |
        sed 's/, "head.*/}/'
}

goodbye() {
    if [[ -n ${KEEP:-} ]]; then
        say "Done. The services run; stop them by: ${KIT}/scripts/deploy.sh stop${ENTER[*]:+ (inside: ${ENTER[*]})}"
    else
        say "Done: built, verified, unpacked, installed, answered. The services are stopped; KEEP=1 make demo leaves them running."
    fi
}

trap end EXIT
trap 'exit 130' INT TERM
cd "${HERE}"
export PATH="${HERE}/.venv/bin:${PATH}"
need_python
prepare
rm -rf "${OUT:?}/demo-v1.0.0" "${OUT:?}/project"
mkdir -p "${OUT}/project/manifests" "${OUT}/project/config"
build
use_docker
install
ask
goodbye

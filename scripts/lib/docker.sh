# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # names that come from, or go to, the rooms that are sourced beside it
# Docker and Compose: there, reachable, recent enough, and set up so that a kit can run.
#
# Rules: (1) Docker is asked once for all that it says of itself; (2) a Docker that hangs is a finding, not a hang; (3) what
# Docker does not say is not judged.

[[ -z "${DOCKER_SH:-}" ]] || return 0
DOCKER_SH=yes
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=findings.sh
. "${BASH_SOURCE[0]%/*}/findings.sh"

DOCKER_VERSION='' DOCKER_ROOT='' DOCKER_DRIVER='' DOCKER_STATUS='' DOCKER_SECURITY='' DOCKER_LIMITS='' DOCKER_FORWARDS=''
DOCKER_RUNTIMES='' COMPOSE_VERSION='' PROJECT=''

docker_facts() { # -> DOCKER_*: what `docker info` says
    local said fact facts=()
    # shellcheck disable=SC2016 # a template of Docker, not of the shell
    said=$(at_most 30 docker info --format '{{.DockerRootDir}}
{{.Driver}}
{{range .DriverStatus}}{{range .}}{{.}} {{end}};{{end}}
{{range .SecurityOptions}}{{.}} {{end}}
{{.MemoryLimit}}
{{.IPv4Forwarding}}
{{range $name, $_ := .Runtimes}}{{$name}} {{end}}' 2>/dev/null) || return 0
    while IFS= read -r fact; do facts+=("$fact"); done <<<"$said"
    DOCKER_ROOT=${facts[0]:-} DOCKER_DRIVER=${facts[1]:-} DOCKER_STATUS=${facts[2]:-} DOCKER_SECURITY=${facts[3]:-}
    DOCKER_LIMITS=${facts[4]:-} DOCKER_FORWARDS=${facts[5]:-} DOCKER_RUNTIMES=${facts[6]:-}
}

docker_elsewhere() { # Docker's address when it is not on this host -> REPLY; status 1: it is
    REPLY=${DOCKER_HOST:-}
    [[ -n "$REPLY" ]] || REPLY=$(at_most 30 docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null) || REPLY=''
    [[ "$REPLY" == tcp:* || "$REPLY" == ssh:* || "$REPLY" == http*:* ]]
}

check_docker() {
    local said version
    if ! type -P docker >/dev/null; then
        finding FAIL docker 'Docker is not installed (no docker in PATH)' 'install Docker Engine 20.10 or later with the Compose plug-in'
        return 0
    fi
    if docker_elsewhere; then
        finding FAIL docker "Docker is at $REPLY: another machine's Docker cannot see this kit's files" 'unset DOCKER_HOST, or docker context use default'
        return 0
    fi
    if ! said=$(at_most 30 docker version --format '{{.Server.Version}}' 2>&1); then
        said=${said//$'\n'/ }
        if [[ "$said" == *'ermission denied'* ]]; then
            finding FAIL docker "Docker does not let this user in: ${said:0:200}" "run as root, or add the user to the group docker and log in anew"
        else
            finding FAIL docker "Docker does not answer: ${said:0:200}" 'start it: systemctl start docker'
        fi
        return 0
    fi
    version=${said##*$'\n'}
    if ! at_least "$version" 20.10; then
        finding FAIL docker "Docker $version is too old" 'install Docker Engine 20.10 or later'
        return 0
    fi
    DOCKER_VERSION=$version
    docker_facts
    finding OK docker "Docker $version"
    at_least "$version" 20.10.10 || finding WARN docker "Docker $version may keep programs of newer images from making threads (clone3)" 'install Docker Engine 20.10.10 or later'
    check_storage
    check_confinement
}

check_storage() {
    case "$DOCKER_DRIVER" in
        vfs) finding WARN 'storage driver' 'vfs: every layer is a full copy, images take many times their size' 'use overlay2 (storage-driver in /etc/docker/daemon.json)' ;;
        aufs | devicemapper | overlay) finding WARN 'storage driver' "$DOCKER_DRIVER is no longer maintained, and gone in later versions of Docker" 'use overlay2 (storage-driver in /etc/docker/daemon.json)' ;;
        '') finding WARN 'storage driver' 'Docker does not say which it uses' 'see docker info' ;;
        *)
            if [[ "$DOCKER_STATUS" == *'Supports d_type false'* ]]; then
                finding FAIL 'storage driver' "$DOCKER_DRIVER on a file system without d_type: containers lose files" "format the disk of $DOCKER_ROOT anew: mkfs.xfs -n ftype=1"
            else
                finding OK 'storage driver' "$DOCKER_DRIVER"
            fi
            ;;
    esac
}

check_confinement() { # settings of Docker with which services of a kit cannot do their work
    if [[ " $DOCKER_SECURITY " == *'name=userns'* ]]; then
        finding FAIL 'user namespaces' "Docker maps users (userns-remap): the services could not use the kit's folders" 'take userns-remap out of /etc/docker/daemon.json'
    elif [[ " $DOCKER_SECURITY " == *'name=rootless'* ]]; then
        finding WARN 'user namespaces' 'Docker runs rootless: GPUs need no-cgroups = true in /etc/nvidia-container-runtime/config.toml, ports below 1024 a sysctl' 'use a Docker that root started, where you can'
    fi
    [[ "$DOCKER_FORWARDS" != false ]] || finding WARN network 'this host does not forward IPv4 packets: published ports may be out of reach for others' 'sysctl -w net.ipv4.ip_forward=1'
}

check_compose() {
    local version
    type -P docker >/dev/null || return 0
    if ! version=$(at_most 30 docker compose version --short 2>/dev/null) || [[ -z "$version" ]]; then
        finding FAIL compose 'the Compose plug-in of Docker is missing' "install docker-compose-plugin (Compose 2.0 or later) into Docker's cli-plugins"
        return 0
    fi
    if ! at_least "$version" 2.0; then
        finding FAIL compose "Compose $version is too old" 'install Compose 2.0 or later'
        return 0
    fi
    COMPOSE_VERSION=${version#v}
    finding OK compose "Compose $COMPOSE_VERSION"
}

kit_runs() { # a container of this kit is up
    [[ -n "$DOCKER_VERSION" && -n "$(docker ps --quiet --filter "label=com.docker.compose.project=$PROJECT" 2>/dev/null)" ]]
}

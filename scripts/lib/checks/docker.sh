# shellcheck shell=bash
# Docker and Compose: there, reachable, recent enough, and set up so that a kit can run.
#
# Rules: (1) Docker is asked once for all that it says of itself; (2) a Docker that hangs is a finding, not a hang; (3) what
# Docker does not say is not judged.

[[ -z "${DOCKER_SH:-}" ]] || return 0
DOCKER_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/findings.sh
. "${BASH_SOURCE[0]%/*}/../core/findings.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/failure_reasons.sh
. "${BASH_SOURCE[0]%/*}/../services/failure_reasons.sh"

DOCKER_VERSION='' DOCKER_ROOT='' DOCKER_DRIVER='' DOCKER_STATUS='' DOCKER_SECURITY='' DOCKER_LIMITS='' DOCKER_FORWARDS=''
DOCKER_RUNTIMES='' DOCKER_SYSTEM='' DOCKER_PIDS='' DOCKER_POOLS='' COMPOSE_VERSION='' PROJECT='' PODMAN=''
# shellcheck disable=SC2016 # templates of Docker, not of the shell
readonly INFO_FIRST='{{.DockerRootDir}}
{{.Driver}}
{{range .DriverStatus}}{{range .}}{{.}} {{end}};{{end}}
{{range .SecurityOptions}}{{.}} {{end}}
{{.MemoryLimit}}
{{.IPv4Forwarding}}
{{range $name, $_ := .Runtimes}}{{$name}} {{end}}' INFO_MORE='
{{.OperatingSystem}}
{{.PidsLimit}}
{{range .DefaultAddressPools}}{{.Base}} {{.Size}} {{end}}'

docker_facts() { # -> DOCKER_*: what `docker info` says
    local said fact facts=()
    said=$(at_most 30 docker info --format "$INFO_FIRST$INFO_MORE" 2>/dev/null) ||
        said=$(at_most 30 docker info --format "$INFO_FIRST" 2>/dev/null) || return 0 # an old client knows fewer
    while IFS= read -r fact; do facts+=("$fact"); done <<<"$said"
    DOCKER_ROOT=${facts[0]:-} DOCKER_DRIVER=${facts[1]:-} DOCKER_STATUS=${facts[2]:-} DOCKER_SECURITY=${facts[3]:-}
    DOCKER_LIMITS=${facts[4]:-} DOCKER_FORWARDS=${facts[5]:-} DOCKER_RUNTIMES=${facts[6]:-}
    DOCKER_SYSTEM=${facts[7]:-} DOCKER_PIDS=${facts[8]:-} DOCKER_POOLS=${facts[9]:-}
}

docker_elsewhere() { # Docker's address when it is not on this host -> REPLY; status 1: it is
    REPLY=${DOCKER_HOST:-}
    [[ -n "$REPLY" ]] || REPLY=$(at_most 30 docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null) || REPLY=''
    [[ "$REPLY" == tcp:* || "$REPLY" == ssh:* || "$REPLY" == http*:* ]]
}

docker_is_podman() { # docker_is_podman TEXT: by what it said, by its name, or by the server behind it
    [[ "$1" != *[Pp]odman* ]] || return 0
    [[ "$(at_most 30 docker --version 2>/dev/null)" != *[Pp]odman* ]] || return 0
    [[ "$(at_most 30 docker version --format '{{range .Server.Components}}{{.Name}} {{end}}' 2>/dev/null)" == *[Pp]odman* ]]
}

check_environment() { # variables that change what Docker does with the kit's images
    local fine=yes
    fact KIT_PLATFORM
    if [[ -n "${DOCKER_DEFAULT_PLATFORM:-}" && "$DOCKER_DEFAULT_PLATFORM" != "$REPLY" ]]; then
        finding FAIL environment "DOCKER_DEFAULT_PLATFORM is $DOCKER_DEFAULT_PLATFORM: Docker would look for images of that platform, the kit's are $REPLY" 'unset DOCKER_DEFAULT_PLATFORM'
        fine=''
    fi
    if [[ "${DOCKER_CONTENT_TRUST:-0}" == 1 ]]; then
        finding FAIL environment 'DOCKER_CONTENT_TRUST is 1: Docker would ask a registry for signatures of the images' "unset DOCKER_CONTENT_TRUST: the kit's own sums and signatures prove them"
        fine=''
    fi
    if [[ -n "${DOCKER_API_VERSION:-}" ]] && ! at_least "$DOCKER_API_VERSION" 1.41; then
        finding FAIL environment "DOCKER_API_VERSION is $DOCKER_API_VERSION, older than what Compose needs (1.41)" 'unset DOCKER_API_VERSION'
        fine=''
    fi
    [[ -z "$fine" ]] || finding OK environment 'no variable changes what Docker does'
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
    said=$(at_most 30 docker version --format '{{.Server.Version}}' 2>&1) || version=none
    if docker_is_podman "$said"; then
        PODMAN=yes
        finding FAIL docker "'docker' is Podman here, which does not load and run a kit as Docker does" 'install Docker Engine 20.10 or later, and remove podman-docker (with a socket of Podman: unset DOCKER_HOST)'
        return 0
    fi
    if [[ "${version:-}" == none ]]; then
        said=${said//$'\n'/ }
        if [[ "$said" == *'ermission denied'* ]]; then
            finding FAIL docker "Docker does not let this user in: ${said:0:200}" "run as root, or add the user to the group docker and log in anew"
        else
            REPLY=''
            [[ "$said" != *'API version'* && "$said" != *'docker endpoint'* && "$said" != *'docker host'* && "$said" != *'ontext "'* ]] || service_reason "$said"
            if [[ -z "$REPLY" && -n "${DOCKER_HOST:-}" ]]; then
                finding FAIL docker "Docker does not answer at $DOCKER_HOST (DOCKER_HOST): ${said:0:200}" 'start the Docker that DOCKER_HOST names (without root: systemctl --user start docker), or unset it'
            else
                finding FAIL docker "Docker does not answer: ${said:0:200}" "${REPLY:-start it: systemctl start docker (journalctl -u docker says why it does not start)}"
            fi
        fi
        return 0
    fi
    version=${said##*$'\n'}
    if [[ ! "${version#v}" =~ ^[0-9] ]]; then # packagers leave "dev", "library-import" or "unknown" there
        finding WARN docker "Docker calls its version '$version', no number" 'Docker Engine 20.10 or later is needed: the package of the distribution has its number'
    elif ! at_least "$version" 20.10; then
        finding FAIL docker "Docker $version is too old" 'install Docker Engine 20.10 or later'
        return 0
    fi
    DOCKER_VERSION=$version
    docker_facts
    finding OK docker "Docker $version"
    [[ ! "${version#v}" =~ ^[0-9] ]] || at_least "$version" 20.10.10 || finding WARN docker "Docker $version may keep programs of newer images from making threads (clone3)" 'install Docker Engine 20.10.10 or later'
    check_sight
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

check_sight() { # a Docker that does not see every folder of this host
    local client
    client=$(type -P docker)
    if [[ "$DOCKER_ROOT" == /var/snap/* || "$client" == /snap/* ]]; then
        if [[ "$KIT" == /home/*/* && "$KIT" != */.* ]]; then
            finding WARN docker 'Docker comes from the snap store: it sees only what lies below /home (here the kit does), and GPUs need settings of their own' "use Docker Engine from the distribution's packages, where you can (snap remove docker)"
        else
            finding FAIL docker "Docker comes from the snap store, which sees nothing outside /home, and no hidden folder: not $KIT" "move the kit below /home, or use Docker Engine from the distribution's packages (snap remove docker)"
        fi
    elif [[ "$DOCKER_SYSTEM" == 'Docker Desktop' ]]; then
        finding WARN docker 'Docker Desktop runs in a virtual machine: memory, disk and GPUs are those of it, and it sees shared folders only' "share the kit's folder (Settings, Resources, File sharing), or use Docker Engine"
    elif ((EUID == 0)) && [[ "$DOCKER_ROOT" == /* && ! -e "$DOCKER_ROOT" ]]; then
        finding WARN docker "Docker keeps its data in $DOCKER_ROOT, which is not here: it runs in a virtual machine, or outside of the container that this is; it may not see the kit, and disks, memory and ports are judged of the wrong machine" 'install the kit on the machine that Docker runs on'
    fi
}

check_confinement() { # settings of Docker with which services of a kit cannot do their work
    if [[ " $DOCKER_SECURITY " == *'name=userns'* ]]; then
        finding FAIL 'user namespaces' "Docker maps users (userns-remap): the services could not use the kit's folders" 'take userns-remap out of /etc/docker/daemon.json'
    elif [[ " $DOCKER_SECURITY " == *'name=rootless'* ]]; then
        finding WARN 'user namespaces' 'Docker runs rootless: GPUs need no-cgroups = true in /etc/nvidia-container-runtime/config.toml, ports below 1024 a sysctl' 'use a Docker that root started, where you can'
    fi
    [[ "$DOCKER_PIDS" != false ]] || finding WARN 'control groups' 'Docker cannot limit processes on this host: pids_limit has no effect' 'mount the control groups with the controller pids (systemd does; docker info says more)'
}

check_compose() {
    local version said
    type -P docker >/dev/null && [[ -z "$PODMAN" ]] || return 0
    # which Docker is meant has no part in this, and older clients say nothing at all where that one is not there
    if ! version=$(DOCKER_HOST='' DOCKER_TLS_VERIFY='' DOCKER_CONTEXT=default at_most 30 docker compose version --short 2>/dev/null) || [[ -z "$version" ]]; then
        said='the Compose plug-in of Docker is missing'
        ! type -P docker-compose >/dev/null || said+=' (docker-compose, the program of its own, is not used)'
        finding FAIL compose "$said" "install docker-compose-plugin (Compose 2.0 or later) into Docker's cli-plugins"
        return 0
    fi
    if [[ ! "${version#v}" =~ ^[0-9] ]]; then
        finding WARN compose "Compose calls its version '$version', no number" 'Compose 2.0 or later is needed: the package of the distribution has its number'
    elif ! at_least "$version" 2.0; then
        finding FAIL compose "Compose $version is too old" 'install Compose 2.0 or later'
        return 0
    fi
    COMPOSE_VERSION=${version#v}
    finding OK compose "Compose $COMPOSE_VERSION"
}

kit_runs() { # a container of this kit is up
    [[ -n "$DOCKER_VERSION" && -n "$(docker ps --quiet --filter "label=com.docker.compose.project=$PROJECT" 2>/dev/null)" ]]
}

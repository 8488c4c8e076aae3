# shellcheck shell=bash
# Whether Docker can make the kit's networks and publish its ports.
#
# Rules: (1) what Docker does not say is not judged; (2) networks of this kit that are there need no room; (3) which networks a kit
# has is decided in runtime/render/networks.py, and counted here before it has run.

[[ -z "${NETWORK_SH:-}" ]] || return 0
NETWORK_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/docker.sh
. "${BASH_SOURCE[0]%/*}/docker.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/models.sh
. "${BASH_SOURCE[0]%/*}/models.sh"

readonly DEFAULT_NETWORKS=31 # Docker's own pools: 172.17.0.0/16 to 172.31.0.0/16, and 16 of 192.168.0.0/16

check_network() {
    [[ -n "$DOCKER_VERSION" ]] || return 0
    check_forwarding
    check_pools
    check_chains
}

check_forwarding() {
    [[ "$DOCKER_FORWARDS" != false ]] || finding WARN network 'this host does not forward IPv4 packets: published ports may be out of reach for others' 'sysctl -w net.ipv4.ip_forward=1'
}

pool_size() { # -> REPLY: how many networks Docker's address pools have room for
    local base size sum=0 fields=()
    IFS=' ' read -r -a fields <<<"$DOCKER_POOLS"
    set -- ${fields[@]+"${fields[@]}"}
    while (($# > 1)); do
        base=${1##*/} size=$2
        [[ "$base" =~ ^[0-9]{1,2}$ && "$size" =~ ^[0-9]{1,2}$ ]] && ((size >= base && size - base < 31)) && sum=$((sum + (1 << (size - base))))
        shift 2
    done
    REPLY=$((sum > 0 ? sum : DEFAULT_NETWORKS))
}

kit_networks() { # -> REPLY: how many networks the kit has: internal, edge and one a model; with more than 20 models, one for all engines
    local models=${#MODEL_KEYS[@]}
    REPLY=$((2 + (models > 20 ? 1 : models)))
}

check_pools() {
    local there ours room needed
    there=$(docker network ls --quiet --filter driver=bridge 2>/dev/null | grep -c .) || there=0
    ours=$(docker network ls --quiet --filter driver=bridge --filter "label=com.docker.compose.project=$PROJECT" 2>/dev/null | grep -c .) || ours=0
    pool_size
    room=$REPLY
    kit_networks
    needed=$REPLY
    ((there - ours + needed > room)) || return 0
    finding FAIL network "Docker has $there networks, and addresses for $room: the kit's $needed find no room" 'docker network prune removes those that nothing uses; or add default-address-pools to /etc/docker/daemon.json and restart Docker'
}

check_chains() { # a firewall that was reloaded or emptied takes Docker's rules with it
    local said
    if ((EUID != 0)) || [[ " $DOCKER_SECURITY " == *'name=rootless'* ]] || ! type -P iptables >/dev/null; then return 0; fi
    at_most 30 iptables -w 5 -t nat -n -L PREROUTING >/dev/null 2>&1 || return 0
    said=$(at_most 30 iptables -w 5 -t nat -n -L DOCKER 2>&1 >/dev/null) && return 0
    [[ "$said" == *[Nn]'o chain'* || "$said" == *'does not exist'* ]] || return 0
    [[ "$(at_most 30 docker info --format '{{json .FirewallBackend}}' 2>/dev/null)" != *nftables* ]] || return 0
    finding WARN network "Docker's firewall rules are gone (no chain DOCKER in iptables): ports cannot be published" 'systemctl restart docker writes them anew; do so after each reload of the firewall'
}

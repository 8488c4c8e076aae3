# shellcheck shell=bash
# What the engine image answers to the configuration, checked here and written into .state/ by the host.
#
# Rules: (1) it answers with one text on stdout, of bounded size; it has no folder of the host to write into; (2) only files that
# this kit knows are taken, and what Docker or a script reads of them is held against compose_table.sh, .env and
# config/models.json first; anything else refuses the whole; (3) a file is written beside and renamed, and only when content,
# mode or owner change; what holds a secret is 0600 and belongs to the services; (4) what was checked is written down, and only
# that goes to Docker Compose.

[[ -z "${APPLIED_SH:-}" ]] || return 0
APPLIED_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/compose_grammar.sh
. "${BASH_SOURCE[0]%/*}/compose_grammar.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/withheld.sh
. "${BASH_SOURCE[0]%/*}/withheld.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/ports.sh
. "${BASH_SOURCE[0]%/*}/../checks/ports.sh"

APPLIED='' SERVICES_USER='' COMPOSE_CHECKED='' APPLIED_LARGEST=8388608

untrusted() { # untrusted WHAT: the end
    die "$EXIT_UNTRUSTED" "the engine image wrote what this kit never writes: $1" \
        'nothing was started or changed; do not use this image: scripts/verify.sh says whether the kit is as it was built'
}

applied_split() { # applied_split DOCUMENT FOLDER: its files below FOLDER; status 1 where it has another form
    mkdir -p "$2/gateway/models" "$2/monitoring/prometheus"
    FOLDER=$2 awk '
        function fail() { failed = 1; exit 1 }
        NR == 1 { if ($0 != "offline-kit-state 1") fail(); next }
        left > 0 { print >file; if (--left == 0) close(file); next }
        ended { fail() }
        $0 == "END" { ended = 1; next }
        !/^FILE [a-z0-9_.\/-]+ [0-9]+$/ || length($3) > 7 || ($2 in met) { fail() }
        $2 !~ /^(compose[.]yaml|start-order|ports|gateway\/(nginx[.]conf|keys[.]conf|metrics[.]prom|models\/[a-z0-9_][a-z0-9_-]*[.]json)|monitoring\/prometheus\/prometheus[.]yml)$/ { fail() }
        { met[$2] = 1; file = ENVIRON["FOLDER"] "/" $2; left = $3; printf "" >file; if (left == 0) close(file) }
        END { if (failed || !ended || left > 0) exit 1 }' "$1"
}

services_user() { # -> SERVICES_USER: whom the services run as: never root
    local id group
    id=$(id -u) group=$(id -g)
    SERVICES_USER="$id:$group"
    [[ "$id" != 0 ]] || SERVICES_USER=10001:10001
}

applied_facts() { # -> COMPOSE_FACTS: what this kit, .env and config/models.json say about the values in compose_table.sh
    local key name port service
    local -A published=()
    fact KIT_NAME
    COMPOSE_FACTS="kit $REPLY"
    fact KIT_VERSION
    COMPOSE_FACTS+=$'\n'"version $REPLY"
    device
    COMPOSE_FACTS+=$'\n'"device $REPLY"$'\n'"user $SERVICES_USER"
    images
    for key in engine gateway "${KEYS[@]}"; do
        image_tag "$key"
        COMPOSE_FACTS+=$'\n'"image:$key $REPLY"
    done
    while read -r name port; do
        service=gateway
        [[ "$name" != PROMETHEUS_PORT ]] || service=prometheus
        [[ "$name" != GRAFANA_PORT ]] || service=grafana
        port_address "$name"
        [[ "$REPLY" != *:* || "$REPLY" == \[* ]] || REPLY="[$REPLY]"
        published[$service]+=" $REPLY:$((10#$port))"
    done < <(wanted_ports)
    for service in "${!published[@]}"; do COMPOSE_FACTS+=$'\n'"ports:$service${published[$service]}"; done
}

applied_lists() { # applied_lists FOLDER: start-order and ports name the services of compose.yaml, or the end
    local known=" ${COMPOSE_SERVICES[*]} " allowed
    awk -v known="$known" '!/^[a-z0-9_,-]+$/ { exit 1 }
        { count = split($0, name, ","); for (i = 1; i <= count; i++) { if (!index(known, " " name[i] " ") || (name[i] in met)) exit 1; met[name[i]] = 1; all++ } }
        END { if (all != split(known, name, " ")) exit 1 }' "$1/start-order" ||
        untrusted 'start-order does not name each service of compose.yaml once'
    allowed=$(wanted_ports | awk '{ printf " %d", $2 }')
    awk -v known="$known" -v allowed="$allowed " '!/^[0-9]+ [a-z0-9_-]+$/ || !index(known, " " $2 " ") || !index(allowed, " " $1 " ") { exit 1 }' "$1/ports" ||
        untrusted 'ports names one that neither .env nor config/models.json has'
}

applied_check() { # applied_check FOLDER: what Docker and the scripts read of it is what this kit writes, or the end
    local name
    for name in compose.yaml start-order ports gateway/nginx.conf gateway/keys.conf gateway/models/all.json; do
        [[ -s "$1/$name" ]] || untrusted "no $name"
    done
    services_user
    applied_facts
    compose_check "$1/compose.yaml" || untrusted "compose.yaml: ${REPLY:-it cannot be read}"
    applied_lists "$1"
    withheld_return <"$1/gateway/keys.conf" >"$1/gateway/keys.conf.whole" || untrusted 'keys.conf has other keys than were given'
    mv -f -- "$1/gateway/keys.conf.whole" "$1/gateway/keys.conf"
}

place_owner() { # place_owner PATH MODE OWNER: status 1 when it has them already; only root can give away
    local now
    now=$(stat -c '%a %u:%g' "$1")
    [[ "${now%% *}" != "${2#0}" || ("${EUID:-1}" == 0 && "${now##* }" != "$3") ]] || return 1
    chmod "$2" "$1"
    [[ "${EUID:-1}" != 0 ]] || chown "$3" "$1"
}

place_file() { # place_file SOURCE PLACE MODE OWNER: PLACE below .state/ is SOURCE; told in APPLIED when it was not
    local target="$STATE/$2"
    if [[ -f "$target" && ! -L "$target" ]] && cmp -s "$1" "$target"; then
        place_owner "$target" "$3" "$4" || return 0
    else
        rm -rf -- "$target.new"
        (umask 077 && cat "$1" >"$target.new")
        place_owner "$target.new" "$3" "$4" || true
        mv -f -- "$target.new" "$target"
    fi
    APPLIED+="${APPLIED:+$'\n'}.state/$2 changed"
}

place_folder() { # place_folder PLACE MODE OWNER
    mkdir -p "$STATE/$1"
    place_owner "$STATE/$1" "$2" "$3" || true
}

place_secrets() { # place_secrets FOLDER: beside what the image answered, what it never saw: certificate, key and password
    local password
    wanted_with
    if [[ ",$REPLY," == *,nginx,* && -f "$STATE/tls/server.crt" ]]; then
        mkdir -p "$1/gateway/tls"
        cp "$STATE/tls/server.crt" "$STATE/tls/server.key" "$1/gateway/tls"
    fi
    [[ " ${COMPOSE_SERVICES[*]} " == *' grafana '* ]] || return 0
    value_of "$KIT/.env" GRAFANA_ADMIN_PASSWORD || true
    password=$REPLY
    mkdir -p "$1/monitoring/grafana"
    printf '%s' "$password" >"$1/monitoring/grafana/password"
}

applied_write() { # applied_write FOLDER: its files become those of .state/ -> APPLIED: what changed
    local name place owner
    owner="$(id -u):$(id -g)"
    place_secrets "$1"
    for place in gateway gateway/models gateway/tls monitoring monitoring/prometheus monitoring/grafana; do
        [[ ! -d "$1/$place" ]] || place_folder "$place" 755 "$owner"
    done
    compose_note "$1/compose.yaml"
    while IFS= read -r name; do
        case "$name" in
            gateway/keys.conf | gateway/tls/server.key | monitoring/grafana/password) place_file "$1/$name" "$name" 600 "$SERVICES_USER" ;;
            *) place_file "$1/$name" "$name" 644 "$owner" ;;
        esac
    done < <(cd "$1" && find . -type f | sed 's|^\./||' | sort)
    for place in gateway/models gateway/tls monitoring/prometheus monitoring/grafana; do # nothing but what was written is there
        for name in "$STATE/$place"/*; do
            [[ -f "$name" && ! -e "$1/$place/${name##*/}" ]] || continue
            rm -f -- "$name"
            APPLIED+="${APPLIED:+$'\n'}.state/$place/${name##*/} changed"
        done
    done
    if [[ ! -e "$STATE/gateway/attest.prom" ]]; then # Prometheus reads it, empty until attest was asked
        : | write_file "$STATE/gateway/attest.prom" 644
    fi
    for name in "${COMPOSE_SERVICES[@]}"; do # what they write into
        case "$name" in
            engine-*) place_folder cache 755 "$owner" && place_folder "cache/${name#engine-}" 700 "$SERVICES_USER" ;;
            prometheus | grafana) place_folder "$name" 700 "$SERVICES_USER" ;;
            *) ;;
        esac
    done
}

applied_take() { # applied_take DOCUMENT: what the engine image answered, checked and written -> APPLIED
    APPLIED=''
    work_folder
    rm -rf -- "$WORK/state"
    mkdir -m 700 "$WORK/state"
    applied_split "$1" "$WORK/state" || untrusted 'an answer of another form'
    applied_check "$WORK/state"
    applied_write "$WORK/state"
}

compose_note() { # compose_note FILE: .state/compose.checked: the sums of what was checked: this file, and the one that it replaces until then
    local sum earlier=''
    COMPOSE_CHECKED=yes
    if compose_noted; then
        ! cmp -s "$1" "$STATE/compose.yaml" || return 0
        earlier=$REPLY
    fi
    sum=$(sha256sum <"$1")
    printf '%s\n' "${sum%% *}" ${earlier:+"$earlier"} | sort -u | write_file "$STATE/compose.checked" 644
}

compose_noted() { # .state/compose.yaml is one that was checked: its sum -> REPLY; status 1 when it is not
    local sum
    REPLY=''
    [[ -f "$STATE/compose.yaml" && ! -L "$STATE/compose.yaml" && -r "$STATE/compose.checked" ]] || return 1
    sum=$(sha256sum <"$STATE/compose.yaml")
    grep -qxF "${sum%% *}" "$STATE/compose.checked" || return 1
    REPLY=${sum%% *}
}

# shellcheck shell=bash
# One file to send to whoever helps: what runs, since when, with which settings, and what it says. No secrets.
#
# Rules: (1) files that hold nothing but secrets are not gathered; (2) in everything else each secret's text is replaced by
# its name; (3) the result is searched for each secret before it is packed: one that is found is an end, not a warning;
# (4) what cannot be gathered is told inside, and no reason to stop.

[[ -z "${SUPPORT_SH:-}" ]] || return 0
SUPPORT_SH=yes
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=status.sh
. "${BASH_SOURCE[0]%/*}/status.sh"
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"

note() { # note FILE COMMAND...: what the command says into FILE of the bundle, ended after a minute
    local file="$WORK/support/$1"
    mkdir -p "${file%/*}"
    { "${@:2}" || printf '(exit code %d)\n' "$?"; } >"$file" 2>&1 </dev/null
}

secrets() { # NAME TEXT of everything that must not be in the bundle, a line each
    local file key
    for file in "$KIT/.env" "$STATE/before-restore/.env" "$STATE/env.carried"; do
        [[ -r "$file" ]] || continue
        env_keys "$file" | grep -iE 'KEY|PASSWORD|SECRET|TOKEN' | sort -u | while IFS= read -r key; do
            value_of "$file" "$key" && ((${#REPLY} >= 8)) && printf '%s %s\n' "$key" "$REPLY"
        done || true
    done
    for file in "$STATE/keys" "$STATE/before-restore/keys"; do
        [[ ! -r "$file" ]] || awk '!/^[ \t]*(#|$)/ && NF == 2 { print "key-" $1, $2 }' "$file"
    done
}

support_copy() { # support_copy PATH: a file or folder of the kit, as it is
    [[ -r "$KIT/$1" ]] || return 0
    mkdir -p "$WORK/support/kit/$(dirname -- "$1")"
    cp -R "$KIT/$1" "$WORK/support/kit/$1"
}

support_logs() {
    local service
    start_order
    for service in "${SERVICES[@]}"; do
        container_of "$service" || continue
        note "services/$service.log" at_most 60 docker logs --timestamps --tail 5000 "$REPLY"
        note "services/$service.json" at_most 60 docker inspect "$REPLY"
    done
}

support_gather() {
    local name
    for name in bundle.json deploy/kit.env deploy/compose.yaml config .env .state/compose.yaml .state/start-order .state/ports .state/receipt.json \
        .state/gateway/nginx.conf .state/upgrade .state/upgrade-report .state/conflicts .state/config.orig .state/previous; do
        support_copy "$name"
    done
    note status.txt "$KIT/scripts/deploy.sh" status
    note status.json "$KIT/scripts/deploy.sh" status --json
    note preflight.txt "$KIT/scripts/preflight.sh"
    gpu_memory
    note plan.txt runtime runtime.plan --network none -- ${REPLY:+--gpu-memory "$REPLY"}
    note files.txt "$KIT/scripts/verify.sh" --quick
    note host/system.txt uname -a
    note host/release.txt cat /etc/os-release
    note host/memory.txt cat /proc/meminfo
    note host/disks.txt df -h
    note host/load.txt cat /proc/loadavg
    note host/docker-version.txt at_most 60 docker version
    note host/docker-info.txt at_most 60 docker info
    note host/docker-disk.txt at_most 120 docker system df
    note host/containers.txt at_most 60 docker ps --all --filter "label=com.docker.compose.project=$PROJECT" --no-trunc
    ! type -P nvidia-smi >/dev/null || note host/gpus.txt at_most 60 nvidia-smi -q
    support_logs
}

support_clean() { # replaces every secret by its name in all that was gathered, then makes sure
    local file found
    find "$WORK/support" -type f | while IFS= read -r file; do
        awk -v list="$WORK/secrets" '
            BEGIN { while ((getline line < list) > 0) { at = index(line, " "); count++; name[count] = substr(line, 1, at - 1); text[count] = substr(line, at + 1) } }
            { for (i = 1; i <= count; i++) {
                out = ""; rest = $0
                while ((at = index(rest, text[i])) > 0) { out = out substr(rest, 1, at - 1) "[" name[i] "]"; rest = substr(rest, at + length(text[i])) }
                $0 = out rest } print }' "$file" >"$file.clean"
        mv "$file.clean" "$file"
    done
    cut -d ' ' -f 2- "$WORK/secrets" >"$WORK/texts"
    [[ -s "$WORK/texts" ]] || return 0
    found=$(grep -rlF -f "$WORK/texts" "$WORK/support") || return 0
    die 1 "a secret is still in ${found//$WORK\/support\//}: the bundle was not written"
}

verb_support_bundle() { # support-bundle [FILE]
    local target=${1:-} folder
    [[ "$target" != -* ]] || usage_error "unknown option '$target'"
    (($# < 2)) || no_more "${@:2}"
    installed
    need tar gzip awk find
    now
    [[ -n "$target" ]] || target="${KIT}-support-${REPLY//[:-]/}.tar.gz"
    folder=$(readlink -f -- "$(dirname -- "$target")") || folder=''
    [[ -d "$folder" ]] || usage_error "the folder of '$target' is not there"
    target="$folder/${target##*/}"
    [[ "$target" != "$KIT/"* ]] || usage_error 'inside the kit it would be an extra file: give a place outside'
    if [[ -n "$DRY_RUN" ]]; then say "would write: $target" && return 0; fi
    work_folder
    secrets | awk '{ print length($0), $0 }' | sort -rn | cut -d ' ' -f 2- >"$WORK/secrets"
    support_gather
    support_clean
    tar -czf "$target.partial" -C "$WORK" support && mv -f -- "$target.partial" "$target"
    say '    no key or password is in it; logs and configuration are: read it before you give it away'
    printf '%s\n' "$target"
}

# shellcheck shell=bash
# One file to send to whoever helps: what runs, since when, with which settings, and what it says. No secrets.
#
# Rules: (1) files that hold nothing but secrets are not gathered; (2) in everything else each secret's text is replaced by
# its name, in whatever form (kit/secrets.sh); (3) the result, names of files included, is searched again before it is packed: a
# secret that is found is an end, not a warning;
# (4) what cannot be gathered is told inside, and no reason to stop.

[[ -z "${SUPPORT_BUNDLE_SH:-}" ]] || return 0
SUPPORT_BUNDLE_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/options.sh
. "${BASH_SOURCE[0]%/*}/../core/options.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/status.sh
. "${BASH_SOURCE[0]%/*}/../services/status.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/private_files.sh
. "${BASH_SOURCE[0]%/*}/../kit/private_files.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/secrets.sh
. "${BASH_SOURCE[0]%/*}/../kit/secrets.sh"

note() { # note FILE COMMAND...: what the command says into FILE of the bundle, ended after a minute
    local file="$WORK/support/$1"
    mkdir -p "${file%/*}"
    { "${@:2}" || printf '(exit code %d)\n' "$?"; } >"$file" 2>&1 </dev/null
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

support_plan() { # support_plan GPU-MEMORY: of an image that may say anything without end
    runtime runtime.plan --network none "${GIVEN_MOUNTS[@]}" -- ${1:+--gpu-memory "$1"} | head -c 1048576
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
    given
    gpu_memory
    note plan.txt support_plan "$REPLY"
    given_end
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
    local file found=''
    secrets_ready
    find "$WORK/support" ! -type f ! -type d -exec rm -f -- {} +
    while IFS= read -r file; do
        redact <"$file" | redact >"$WORK/clean" && mv -f -- "$WORK/clean" "$file"
        # shellcheck disable=SC2094 # read twice
        redact <"$file" | cmp -s - "$file" || found+=" ${file#"$WORK/"}"
    done < <(find "$WORK/support" -type f)
    (cd "$WORK" && find support) >"$WORK/names"
    # shellcheck disable=SC2094 # read twice
    redact <"$WORK/names" | cmp -s - "$WORK/names" || found+=' the name of a file'
    [[ -z "$found" ]] || die 1 "a secret is still in$found: the bundle was not written"
}

verb_support_bundle() { # support-bundle [FILE]
    local target=${1:-}
    [[ "$target" != -* ]] || usage_error "unknown option '$target'"
    (($# < 2)) || no_more "${@:2}"
    installed
    need tar gzip awk find sed
    now
    new_file "${target:-${KIT}-support-${REPLY//[:-]/}.tar.gz}"
    target=$REPLY
    if [[ -n "$DRY_RUN" ]]; then say "would write: $target" && return 0; fi
    work_folder
    support_gather
    support_clean
    publish "$target" tar -czf - -C "$WORK" support || die 1 "the support bundle could not be written to $target"
    say '    no key or password is in it; logs and configuration are: read it before you give it away'
    printf '%s\n' "$target"
}

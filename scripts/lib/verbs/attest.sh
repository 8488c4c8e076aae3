# shellcheck shell=bash
# Is what serves what was approved? The signed list of sums against files, images, containers and configuration.
#
# Rules: (1) SHA256SUMS is the root: the host's keys say whose it is, and every other answer follows from a file that it names;
# (2) everything is looked at, whatever was found before; each finding is a line that names its file or service; (3) nothing is
# changed but the memo of what was proven and what the kit's own Prometheus reads of it; (4) what cannot be asked is never OK.

[[ -z "${ATTEST_SH:-}" ]] || return 0
ATTEST_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/options.sh
. "${BASH_SOURCE[0]%/*}/../core/options.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/findings.sh
. "${BASH_SOURCE[0]%/*}/../core/findings.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/images.sh
. "${BASH_SOURCE[0]%/*}/../kit/images.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/signature.sh
. "${BASH_SOURCE[0]%/*}/../kit/signature.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/start.sh
. "${BASH_SOURCE[0]%/*}/../services/start.sh"

ATTEST_EDITS=FAIL ATTEST_UNPACK='unpack the bundle again, or go over to a kit that was approved'

attest_line() { finding "$@"; } # a line of the answer; docs/operating.md has them, docs/host-checks.md those of the checks

attest_signature() {
    local said
    if ! said=$(demand_host_keys "$KIT" 2>&1); then
        attest_line FAIL signature "${said#error: }" "ask who built it, or put its .sig file beside SHA256SUMS"
        return 0
    fi
    host_signers "$KIT"
    if [[ -n "$REPLY" ]]; then
        attest_line OK signature "SHA256SUMS is signed as this host demands, by $REPLY"
    else
        attest_line WARN signature "nobody says whose SHA256SUMS this is" "put the public keys that you trust into $KEYS_FOLDER"
    fi
}

attest_files() { # attest_files full|remember
    local line path kind
    sums_find "$1"
    while IFS= read -r line; do
        path=${line#*: } kind=files
        case "$path" in
            models/*) kind=weights ;;
            images/* | deploy/images/*) kind=images ;;
            config/* | deploy/compose.yaml) kind=configuration ;;
            *) ;;
        esac
        attest_line FAIL "$kind" "$line" "$ATTEST_UNPACK"
    done < <(sort -u "$WORK/findings")
    while IFS= read -r line; do
        attest_line "$ATTEST_EDITS" configuration "$line (an edit since the installation)" "$STATE/config.orig has the files as they were approved"
    done < <(grep -v ': models/' "$WORK/notes" | sort -u)
    while IFS= read -r line; do
        attest_line "$ATTEST_EDITS" weights "models/$line: not of this kit" 'a model of your own: nobody signed it'
    done < <(sed -n 's|^[^:]*: models/\([^/]*\)/.*|\1|p' "$WORK/notes" | sort -u)
    [[ ! -s "$WORK/findings" ]] || return 0
    sums_remember
    attest_line OK weights "$(attest_count '^models/') files as SHA256SUMS says"
    attest_line OK files "all $SUMS_FILES as SHA256SUMS says: $SUMS_READ read now, $((SUMS_FILES - SUMS_READ)) proven earlier and unchanged since"
}

attest_count() { cut -c 67- "$KIT/SHA256SUMS" | grep -c "$1"; } # how many files of a kind, on stdout

attest_images() { # the kit's tags mean the kit's images
    local key
    images
    for key in "${KEYS[@]}"; do
        image_expect "$key"
        if ! image_differs; then
            attest_line OK image "$key: ${EXPECT[CONFIG]} (${EXPECT[NAME]:-${EXPECT[TAG]}})"
        elif [[ "$REPLY" == 'it is not there' ]]; then
            attest_line WARN image "$key: ${EXPECT[TAG]} is not there" 'scripts/load_images.sh loads it'
        else
            attest_line FAIL image "$key: ${EXPECT[TAG]} is another image: $REPLY" 'scripts/load_images.sh loads the right one; then scripts/deploy.sh restart'
        fi
    done
}

attest_image_of() { # attest_image_of TAG ID: the image of that tag in this kit has that ID: status 0; else what is wrong -> REPLY
    local key
    for key in "${KEYS[@]}"; do
        image_tag "$key"
        [[ "$REPLY" == "$1" ]] || continue
        image_expect "$key"
        REPLY="runs $2, and the lock names ${EXPECT[CONFIG]} (${EXPECT[NAME]:-$1})"
        [[ "$2" == "${EXPECT[CONFIG]}" || "$2" == "${EXPECT[MANIFEST]}" || "$2" == "${EXPECT[INDEX]}" ]] || return 1
        return 0
    done
    REPLY="runs $2 as $1, which is no image of this kit"
    return 1
}

attest_hashes() { # -> REPLY: "SERVICE HASH" lines of the configuration that these scripts checked; status 1: it is not that any more
    REPLY=''
    if ! compose_noted; then
        attest_line FAIL configuration "$STATE/compose.yaml is not what these scripts checked and wrote" 'scripts/deploy.sh restart writes it again'
        return 1
    fi
    REPLY=$(docker compose -p "$PROJECT" --project-directory "$KIT" --env-file /dev/null -f "$STATE/compose.yaml" config --hash '*' 2>/dev/null) || REPLY=''
    [[ -z "$REPLY" ]] || return 0
    attest_line WARN configuration 'Docker Compose does not tell the hashes of its services' 'a Docker Compose of 2.0 or later does'
    return 1
}

attest_services() { # what runs: of this kit, from its images, with the configuration that was checked
    local id service tag image hash hashes='' known=' '
    start_order
    ! attest_hashes || hashes=$REPLY
    while read -r id; do
        read -r service tag image hash < <(docker inspect --format \
            '{{index .Config.Labels "com.docker.compose.service"}} {{.Config.Image}} {{.Image}} {{index .Config.Labels "com.docker.compose.config-hash"}}' "$id" 2>/dev/null) || continue
        known+="$service "
        if [[ " ${SERVICES[*]} " != *" $service "* ]]; then
            attest_line FAIL service "$service runs in the project of this kit, and is none of its services" "docker rm --force $id"
        elif ! attest_image_of "$tag" "$image"; then
            attest_line FAIL service "$service $REPLY" 'scripts/load_images.sh, then scripts/deploy.sh restart'
        elif [[ -n "$hashes" ]] && ! grep -qxF "$service $hash" <<<"$hashes"; then
            attest_line FAIL service "$service was started with another configuration than $STATE/compose.yaml" 'scripts/deploy.sh restart'
        else
            attest_line OK service "$service runs $image"
        fi
    done < <(docker ps --no-trunc --quiet --filter "label=com.docker.compose.project=$PROJECT")
    for service in "${SERVICES[@]}"; do
        [[ "$known" == *" $service "* ]] || attest_line WARN service "$service does not run" 'scripts/deploy.sh start'
    done
}

attest_json() { # attest_json MODE
    local full=false approved=true
    [[ "$1" != full ]] || full=true
    ! checks_failed || approved=false
    printf '{\n  "attest": 1,\n'
    pair kit "${KIT_FACT[KIT_NAME]}"
    pair version "${KIT_FACT[KIT_VERSION]:-}"
    pair lock "$(sed -n 's/^\([0-9a-f]\{64\}\)  lock\.json$/sha256:\1/p' "$KIT/SHA256SUMS")"
    fingerprint && pair fingerprint "$REPLY"
    now && pair time "$REPLY"
    checks_json
    printf '  "full": %s,\n  "approved": %s,\n  "findings": %s\n}\n' "$full" "$approved" "$REPLY"
}

attest_metrics() { # for the textfile collector of an exporter, on stdout
    local approved=1 label level count each
    ! checks_failed || approved=0
    json "${KIT_FACT[KIT_NAME]}" && label="kit=$REPLY"
    json "${KIT_FACT[KIT_VERSION]:-}" && label+=",version=$REPLY"
    printf '# TYPE offline_kit_approved gauge\noffline_kit_approved{%s} %d\n# TYPE offline_kit_attest_findings gauge\n' "$label" "$approved"
    for level in FAIL WARN; do
        count=0
        for each in "${FINDINGS_LEVEL[@]}"; do [[ "$each" != "$level" ]] || count=$((count + 1)); done
        printf 'offline_kit_attest_findings{%s,level="%s"} %d\n' "$label" "$level" "$count"
    done
    printf '# TYPE offline_kit_attest_time_seconds gauge\noffline_kit_attest_time_seconds{%s} %d\n' "$label" "$(date +%s)"
}

attest_tell() { # attest_tell FILE: the metrics into FILE, if one is named, and to where the kit's own Prometheus reads them
    [[ -z "$DRY_RUN" ]] || return 0
    [[ -z "$1" ]] || attest_metrics | write_file "$1" 644
    [[ ! -d "$STATE/gateway" || -L "$STATE/gateway" || ! -w "$STATE/gateway" ]] || attest_metrics | write_file "$STATE/gateway/attest.prom" 644
}

verb_attest() { # attest [--full] [--json] [--allow-edits] [--metrics FILE]
    local form='' mode=remember metrics=''
    while (($# > 0)); do
        case "$1" in
            --full) mode=full ;;
            --json) form=json ;;
            --allow-edits) ATTEST_EDITS=WARN ;;
            --metrics)
                argument "$@"
                metrics=$REPLY
                [[ -n "$metrics" && ! -d "$metrics" && -w "$(dirname -- "$metrics")" ]] || usage_error "--metrics: '$metrics' is no file that can be written"
                shift
                ;;
            *) usage_error "unknown option '$1'" ;;
        esac
        shift
    done
    installed
    attest_signature
    attest_files "$mode"
    attest_images
    attest_services
    if [[ "$form" == json ]]; then attest_json "$mode"; else checks_table; fi
    attest_tell "$metrics"
    ! checks_failed || die "$EXIT_DIFFERS" "what serves is not what was approved: $REPLY finding(s), each above"
}

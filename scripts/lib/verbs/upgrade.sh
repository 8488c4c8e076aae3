# shellcheck shell=bash
# Going to another version of the kit and back: made ready while this version serves, switched, asked, and undone by itself.
#
# Rules: (1) each version is started by its own scripts only; this version's scripts decide and can always go back; (2) until
# .state/upgrade says `done`, this version is the current one, whatever happens to this process; (3) going back is `start`,
# the same that an operator calls after a crash; (4) why an upgrade did not happen is in .state/upgrade-report.

[[ -z "${UPGRADE_SH:-}" ]] || return 0
UPGRADE_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=verbs/upgrade_state.sh
. "${BASH_SOURCE[0]%/*}/upgrade_state.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=verbs/boot.sh
. "${BASH_SOURCE[0]%/*}/boot.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/settings.sh
. "${BASH_SOURCE[0]%/*}/../kit/settings.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/signature.sh
. "${BASH_SOURCE[0]%/*}/../kit/signature.sh"

TO='' TO_VERSION='' SWITCHING='' UPGRADE_FOLDER='' UPGRADE_THRESHOLD='' DOWNGRADE=''
UPGRADE_KEYS=()

upgrade_to() { # upgrade_to FOLDER -> TO, TO_VERSION: another version of this kit, its scripts whole; or the end
    TO=$(readlink -f -- "$1") || TO=''
    [[ -f "$TO/deploy/kit.env" && -f "$TO/SHA256SUMS" && ! -L "$TO/SHA256SUMS" && -r "$TO/SHA256SUMS" ]] || usage_error "'$1' is not an unpacked kit"
    [[ "$TO" != "$KIT" ]] || usage_error "'$1' is this version itself"
    value_of "$TO/deploy/kit.env" KIT_NAME || true
    [[ "$REPLY" == "${KIT_FACT[KIT_NAME]}" ]] || usage_error "$TO is the kit '$REPLY', this is '${KIT_FACT[KIT_NAME]}': install that beside this one"
    version_at "$TO"
    TO_VERSION=$REPLY
    # Whose kit it is comes first: nothing of one that is not trusted is run.
    demand_host_keys "$TO" || die "$EXIT_UNTRUSTED" "$TO is not signed as this host demands; nothing of it was run" "ask who built it; trusted keys lie in $KEYS_FOLDER"
    # Damaged scripts cannot judge themselves.
    [[ -z "$(find "$TO/scripts" ! -type f ! -type d 2>&1)" ]] || die "$EXIT_DAMAGED" "$TO is damaged: not all of its scripts are plain files" 'unpack its bundle again'
    (cd "$TO" && grep -E '^[0-9a-f]{64}  scripts/.*$' SHA256SUMS | sha256sum --check --strict --quiet) >&2 ||
        die "$EXIT_DAMAGED" "$TO is damaged: its own scripts are not as its SHA256SUMS says; nothing was changed" 'unpack its bundle again'
}

upgrade_call() { # upgrade_call VERB WORD...: a verb of the other version, by its own scripts; what it says also to $WORK/said
    # Its lock is its own, and it ends when this process is gone.
    (exec 9>&- && OFFLINE_KIT_FOR=$$ "$TO/scripts/deploy.sh" "$@" 2>&1 >&2 </dev/null | tee -a "$WORK/said" >&2)
}

upgrade_report() { # upgrade_report RESULT
    local why test='smoke test: '
    [[ "$1" != 'not begun' ]] || test='' # it is the host's checks that failed
    why=$(awk -v test="$test" 'why == "" && /^error: / { why = substr($0, 8) } why == "" && /^FAIL/ { why = test $0 } END { print why }' "$WORK/said")
    now
    {
        cat "$STATE/upgrade-report" 2>/dev/null || true
        printf '%s  %s -> %s (%s): %s%s\n' "$REPLY" "${KIT_FACT[KIT_VERSION]}" "$TO_VERSION" "$TO" "$1" "${why:+: $why}"
    } | write_file "$STATE/upgrade-report" 644
    REPLY=$why
}

upgrade_data() { # what monitoring has gathered comes along: Prometheus' data moves, Grafana's is copied (an old Grafana cannot read new data)
    [[ -d "$STATE/prometheus" && ! -L "$STATE/prometheus" ]] && data_move "$KIT" "$TO"
    if [[ -d "$STATE/grafana" && "$1" == forward ]]; then
        rm -rf -- "$TO/.state/grafana.partial"
        cp -Rp "$STATE/grafana" "$TO/.state/grafana.partial" && rm -rf -- "$TO/.state/grafana" && mv "$TO/.state/grafana.partial" "$TO/.state/grafana"
    fi
    return 0
}

upgrade_back() { # also on the way out: whatever was begun is undone by `start` of this version, in a process of its own
    [[ -n "$SWITCHING" ]] || return 0
    SWITCHING=''
    unlock_kit
    step "Back to ${KIT_FACT[KIT_VERSION]}"
    "$KIT/scripts/deploy.sh" start </dev/null
}

switch() { # switch forward|back: the services go over to TO; 0: TO serves and answers, else this version serves again
    local status=0 began=$SECONDS why
    step "Switch to $TO_VERSION"
    journal_write "$KIT" switch "$TO"
    SWITCHING=yes
    [[ ! -e "$TO/.state/upgrade" ]] || { write_file "$TO/.state/was" 644 <<<"$KIT" && journal_clear "$TO"; }
    rest_but_gateway
    upgrade_data "$1"
    upgrade_call start || status=$?
    if ((status == 0)); then
        step "Smoke test of $TO_VERSION"
        upgrade_call smoke || status=$?
    fi
    if ((status == 0)); then
        journal_write "$KIT" 'done' "$TO"
        SWITCHING=''
        rm -f -- "$TO/.state/was"
        upgrade_report 'done'
        upgrade_receipt "$1"
        say "    switched in $((SECONDS - began)) s"
        return 0
    fi
    upgrade_report 'went back'
    why=$REPLY
    upgrade_back || die "$EXIT_START" "$TO_VERSION failed${why:+ ($why)}, and ${KIT_FACT[KIT_VERSION]} did not start either: see above" 'scripts/deploy.sh start tries again'
    [[ "$status" == "$EXIT_SMOKE" ]] || status=$EXIT_START
    die "$status" "$TO_VERSION was not taken: ${why:-see above}" "${KIT_FACT[KIT_VERSION]} serves again; $STATE/upgrade-report keeps the reason"
}

upgrade_receipt() { # upgrade_receipt forward|back: what serves now goes into the chain of receipts
    local result=upgraded
    [[ "$1" == forward ]] || result='rolled back'
    step "Receipt of $TO_VERSION"
    upgrade_call receipt "$KIT" "$result" || warn "no receipt was written: $TO/install.sh writes one"
}

rest_but_gateway() { # the gateway goes on answering, 503 for the time of the switch
    local service stopping=()
    start_order
    for service in "${SERVICES[@]}"; do [[ "$service" == gateway ]] || stopping+=("$service"); done
    ((${#stopping[@]} == 0)) || compose stop "${stopping[@]}" >/dev/null 2>&1 || warn 'not all services could be stopped'
}

boot_moves() { # the unit starts the current version
    boot_enabled || return 0
    upgrade_call enable-boot || warn "the unit for the boot still names $KIT: as root, $TO/scripts/deploy.sh enable-boot"
}

version_rank() { # version_rank VERSION -> REPLY: what sort -V puts in order: alpha, beta, dev, pre and rc come before their release
    REPLY=$(printf '%s\n' "$1" | tr '[:upper:]' '[:lower:]' | sed -E 's/([0-9])[._-]?(alpha|beta|dev|nightly|pre|preview|rc|snapshot)([^a-z]|$)/\1~\2\3/g')
}

is_older() { # is_older A B: version A comes before B
    local one
    version_rank "$1"
    one=$REPLY
    version_rank "$2"
    [[ "$one" != "$REPLY" && "$(printf '%s\n' "$one" "$REPLY" | LC_ALL=C sort -V | head -n 1)" == "$one" ]]
}

upgrade_options() { # -> UPGRADE_FOLDER, UPGRADE_KEYS, UPGRADE_THRESHOLD, DOWNGRADE
    UPGRADE_FOLDER='' UPGRADE_KEYS=() UPGRADE_THRESHOLD='' DOWNGRADE=''
    split_options "$@"
    set -- ${WORDS[@]+"${WORDS[@]}"}
    while (($# > 0)); do
        case "$1" in
            --key) argument "$@" && UPGRADE_KEYS+=("$REPLY") && shift ;;
            --threshold) argument "$@" && UPGRADE_THRESHOLD=$REPLY && shift ;;
            --allow-downgrade) DOWNGRADE=yes ;;
            -*) usage_error "unknown option '$1'" ;;
            *)
                [[ -z "$UPGRADE_FOLDER" ]] || no_more "$1"
                UPGRADE_FOLDER=$1
                ;;
        esac
        shift
    done
    [[ -n "$UPGRADE_FOLDER" ]] || usage_error 'upgrade needs the folder of the new version'
}

verb_upgrade() { # upgrade FOLDER [--key FILE ...] [--threshold N] [--allow-downgrade]
    local status=0
    upgrade_options "$@"
    installed
    need docker tar grep sed tee sha256sum
    upgrade_to "$UPGRADE_FOLDER"
    ((${#UPGRADE_KEYS[@]} == 0)) || demand_signers "$TO" "$UPGRADE_THRESHOLD" "${UPGRADE_KEYS[@]}" ||
        die "$EXIT_UNTRUSTED" "$TO is not signed by the keys given; nothing of it was run" 'ask who built it'
    [[ -n "$DOWNGRADE" ]] || ! is_older "$TO_VERSION" "${KIT_FACT[KIT_VERSION]}" ||
        usage_error "$TO_VERSION is older than ${KIT_FACT[KIT_VERSION]}: --allow-downgrade goes there all the same"
    if [[ -n "$DRY_RUN" ]]; then say "would upgrade ${KIT_FACT[KIT_VERSION]} -> $TO_VERSION in $TO" && return 0; fi
    lock_kit
    journal_settled
    work_folder
    : >"$WORK/said"
    AT_EXIT=upgrade_back
    step "Upgrade ${KIT_FACT[KIT_VERSION]} -> $TO_VERSION; ${KIT_FACT[KIT_VERSION]} serves meanwhile"
    journal_write "$KIT" prepare "$TO"
    upgrade_call receive "$KIT" || status=$?
    if ((status != 0)); then
        journal_clear "$KIT"
        upgrade_report 'not begun'
        die "$status" "$TO_VERSION is not ready to serve${REPLY:+: $REPLY}" "${KIT_FACT[KIT_VERSION]} was not touched and goes on serving"
    fi
    switch forward
    boot_moves
    say "    $TO_VERSION serves from $TO; scripts/deploy.sh rollback goes back to ${KIT_FACT[KIT_VERSION]}"
}

rollback_keys() { # who may ask is about people, not versions: keys go along, the rest is as it was
    local name key
    value_of "$KIT/.env" VLLM_API_KEY || true
    key=$REPLY
    cp "$TO/.env" "$WORK/env"
    chmod 600 "$WORK/env"
    env_replace "$WORK/env" VLLM_API_KEY "$key"
    write_file "$TO/.env" 600 <"$WORK/env"
    for name in keys tls; do
        rm -rf -- "$TO/.state/$name"
        [[ ! -e "$STATE/$name" ]] || cp -Rp "$STATE/$name" "$TO/.state/$name"
    done
}

verb_rollback() {
    no_more "$@"
    installed
    [[ -r "$STATE/previous" ]] || die 1 'there is no version to go back to: this one was not reached by an upgrade'
    upgrade_to "$(<"$STATE/previous")"
    [[ -f "$TO/.state/compose.yaml" && -f "$TO/.env" ]] || die 1 "$TO is not installed any more"
    if [[ -n "$DRY_RUN" ]]; then say "would go back ${KIT_FACT[KIT_VERSION]} -> $TO_VERSION in $TO" && return 0; fi
    lock_kit
    journal_settled
    work_folder
    : >"$WORK/said"
    AT_EXIT=upgrade_back
    step "Images of $TO_VERSION"
    "$TO/scripts/load_images.sh" 9>&- || die "$EXIT_LOAD" "the images of $TO_VERSION are not there" "${KIT_FACT[KIT_VERSION]} goes on serving"
    rollback_keys
    switch back
    boot_moves
    say "    $TO_VERSION serves again from $TO; keys as they were last, configuration as it was before the upgrade"
}

# shellcheck shell=bash
# The new version's half of an upgrade: everything that can be made ready while the old version serves.
#
# Rules: (1) run by the old version's `upgrade`, and over as soon as that is gone; (2) nothing of the old version is changed and
# no service touched; (3) run again, it does again only what is not done; what the operator edited here after an earlier
# attempt stays; (4) the operator's edits are carried value by value (runtime.merge_config); a conflict is told and both versions
# are kept in .state/conflicts/.

[[ -z "${RECEIVE_SH:-}" ]] || return 0
RECEIVE_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/all.sh
. "${BASH_SOURCE[0]%/*}/../checks/all.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/host_record.sh
. "${BASH_SOURCE[0]%/*}/../kit/host_record.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/signature.sh
. "${BASH_SOURCE[0]%/*}/../kit/signature.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/settings.sh
. "${BASH_SOURCE[0]%/*}/../kit/settings.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/operator_files.sh
. "${BASH_SOURCE[0]%/*}/../kit/operator_files.sh"

carry_kept() { # what was edited here since it was carried stays; status 1 when nothing was
    [[ ! -e "$STATE/carrying" ]] || return 1
    local as_carried="$STATE/config.orig"
    [[ ! -d "$STATE/config.carried" ]] || as_carried="$STATE/config.carried"
    ! diff -r "$as_carried" "$KIT/config" >/dev/null 2>&1
}

carry_conflicts() { # carry_conflicts OLD: files with a conflict, as either side has them, into .state/conflicts
    local file
    rm -rf -- "$STATE/conflicts"
    sed -n 's|^CONFLICT config/\([^:]*\): .*|\1|p' "$WORK/carry" | sort -u | while IFS= read -r file; do
        mkdir -p "$STATE/conflicts/yours/$(dirname -- "$file")" "$STATE/conflicts/new/$(dirname -- "$file")"
        [[ ! -e "$1/config/$file" ]] || cp "$1/config/$file" "$STATE/conflicts/yours/$file"
        [[ ! -e "$STATE/config.orig/$file" ]] || cp "$STATE/config.orig/$file" "$STATE/conflicts/new/$file"
    done
}

carry_proven() { # carry_proven FOLDER...: config.carried has plain files alone, each by the name of one in config.orig or FOLDER, or the end
    local name
    [[ -z "$(find "$STATE/config.carried" ! -type f ! -type d | head -n 1)" ]] || untrusted 'a link or device as configuration'
    while IFS= read -r name; do
        [[ -e "$STATE/config.orig/$name" || -e "$1/$name" || -e "$2/$name" ]] || untrusted 'a file of configuration that no side has'
    done < <(cd "$STATE/config.carried" && find . -type f)
}

carry_config() { # carry_config OLD
    local orig="$1/.state/config.orig" line status=0
    if carry_kept; then
        say '    config/: edited here since the last attempt: stays as it is'
        return 0
    fi
    [[ -d "$orig" ]] || orig="$1/config"
    : >"$STATE/carrying"
    rm -rf -- "$STATE/config.carried"
    mkdir "$STATE/config.carried"
    runtime runtime.merge_config --network none -v "$STATE/config.carried:/carried" -v "$STATE/config.orig:/new:ro" -v "$orig:/orig:ro" \
        -v "$1/config:/mine:ro" -- --orig /orig --mine /mine --new /new --out /carried | head -c 1048576 >"$WORK/carry" || status=${PIPESTATUS[0]}
    carry_proven "$1/config" "$orig"
    case "$status" in
        0) ;;
        3) die "$EXIT_CONFIG" "your configuration in $1/config could not be carried over" 'correct it there, then upgrade again' ;;
        *) run_failed "$status" "$(cat "$WORK/runtime-says")" "your configuration in $1/config could not be carried over" ;;
    esac
    while IFS= read -r line; do
        if [[ "$line" == CONFLICT* ]]; then warn "$line"; else say "    $line"; fi
    done <"$WORK/carry"
    carry_conflicts "$1"
    own_config "$STATE/config.carried"
    rm -f -- "$STATE/carrying"
    [[ ! -d "$STATE/conflicts" ]] || say "    both versions of each conflict are in $STATE/conflicts; edit config/ and restart to choose otherwise"
}

carry_settings() { # carry_settings OLD: .env as it is, less ports of models that are gone; keys and certificate
    local key name
    if [[ -f "$STATE/env.carried" ]] && ! cmp -s "$STATE/env.carried" "$KIT/.env"; then
        say '    .env: edited here since the last attempt: stays as it is'
    else
        cp "$1/.env" "$WORK/env.old"
        write_file "$KIT/.env" 600 <"$WORK/env.old"
        while IFS= read -r key; do
            port_of_nobody "$key" || continue
            say "    .env: $key is left out: this version has no such model"
            grep -v "^[[:space:]]*\(export \)\{0,1\}$key=" "$KIT/.env" >"$WORK/env.new" || true
            write_file "$KIT/.env" 600 <"$WORK/env.new"
        done < <(env_keys "$WORK/env.old")
        env_write
        cp "$KIT/.env" "$WORK/env.new"
        write_file "$STATE/env.carried" 600 <"$WORK/env.new"
    fi
    for name in keys tls; do
        rm -rf -- "${STATE:?}/$name"
        [[ ! -e "$1/.state/$name" ]] || cp -Rp "$1/.state/$name" "$STATE/$name"
    done
}

verb_receive() { # receive OLD
    local old=${1:-}
    [[ -n "${OFFLINE_KIT_FOR:-}" && -f "$old/.state/compose.yaml" && $# == 1 ]] ||
        usage_error "receive is a part of upgrade: $KIT/scripts/deploy.sh upgrade is not for you to call, but OLD/scripts/deploy.sh upgrade $KIT"
    demand_host_keys "$KIT" || die "$EXIT_UNTRUSTED" "$KIT is not signed as this host demands" "ask who built it; trusted keys lie in $KEYS_FOLDER"
    lock_kit
    work_folder
    project
    step 'Files of the new version'
    state_demand
    sums_check remember
    parent_lives
    # Proven whole: from here on config/ and own models are the operator's (docs/adr/0003).
    [[ -e "$STATE/installed" ]] || printf '%s\n' "${KIT_FACT[KIT_VERSION]:-}" | write_file "$STATE/installed" 644
    config_originals
    printf '%s\n' "$old" | write_file "$STATE/previous" 644
    step 'Host'
    ENV_SOURCE="$old/.env"
    checks_run
    if checks_failed; then
        checks_table >&2
        checks_failed || true
        die "$EXIT_PREFLIGHT" "$REPLY reason(s) to fail, each with its remedy above"
    fi
    ENV_SOURCE=''
    step 'Images of the new version'
    images_load
    parent_lives
    step 'Settings, keys and edits'
    own_take_models "$old"
    carry_config "$old"
    carry_settings "$old"
    service_apply
}

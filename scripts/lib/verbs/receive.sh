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

carry_plan() { # carry_plan DOCUMENT MINE NEW: what the engine image makes of both sides, as `SIDE NUMBER NAME` lines on stdout, merged files as $WORK/merged/NUMBER; status 1 where it has another form or names a file that the side has not
    rm -rf -- "$WORK/merged"
    mkdir -m 700 "$WORK/merged"
    (cd "$2" && find . -type f) | sed 's|^\./||' >"$WORK/names-mine"
    (cd "$3" && find . -type f) | sed 's|^\./||' >"$WORK/names-new"
    LC_ALL=C MINE="$WORK/names-mine" NEW="$WORK/names-new" MERGED="$WORK/merged" awk '
        function fail() { failed = 1; exit 1 }
        BEGIN {
            while ((getline name <ENVIRON["MINE"]) > 0) mine[name]
            while ((getline name <ENVIRON["NEW"]) > 0) new[name]
        }
        NR == 1 { if ($0 != "offline-kit-config 1") fail(); next }
        left > 0 { print >file; if (--left == 0) close(file); next }
        ended { fail() }
        $0 == "END" { ended = 1; next }
        { side = $1; name = substr($0, length(side) + 2) }
        side == "TELL" { print side, 0, name; next }
        side == "CONFLICT" { if (!(name in mine) && !(name in new)) fail(); print side, 0, name; next }
        side == "MERGED" {
            left = name; sub(/ .*/, "", left); name = substr(name, length(left) + 2)
            if (left !~ /^[0-9]+$/ || length(left) > 7 || !(name in mine)) fail()
        }
        side !~ /^(MINE|NEW|MERGED)$/ || (side == "MINE" ? !(name in mine) : !(name in new)) || name in met { fail() }
        { met[name]; print side, NR, name }
        side == "MERGED" { file = ENVIRON["MERGED"] "/" NR; printf "" >file; if (left == 0) close(file) }
        END { if (failed || !ended || left > 0) exit 1 }' "$1"
}

carry_copy() { # carry_copy FILE PLACE
    mkdir -p "$(dirname -- "$2")"
    cat -- "$1" >"$2"
}

carry_take() { # carry_take PLAN MINE NEW: the sides that the plan says become .state/config.carried; both sides of a conflict go into .state/conflicts
    local line side number name
    rm -rf -- "$STATE/config.carried" "$STATE/conflicts"
    mkdir "$STATE/config.carried"
    while IFS= read -r line; do
        side=${line%% *} line=${line#* }
        number=${line%% *} name=${line#* }
        case "$side" in
            TELL) if [[ "$name" == CONFLICT* ]]; then warn "$name"; else say "    $name"; fi ;;
            MINE) carry_copy "$2/$name" "$STATE/config.carried/$name" ;;
            NEW) carry_copy "$3/$name" "$STATE/config.carried/$name" ;;
            MERGED) carry_copy "$WORK/merged/$number" "$STATE/config.carried/$name" ;;
            *)
                [[ ! -f "$2/$name" ]] || carry_copy "$2/$name" "$STATE/conflicts/yours/$name"
                [[ ! -f "$3/$name" ]] || carry_copy "$3/$name" "$STATE/conflicts/new/$name"
                ;;
        esac
    done <"$1"
}

carry_config() { # carry_config OLD
    local orig="$1/.state/config.orig" status=0
    if carry_kept; then
        say '    config/: edited here since the last attempt: stays as it is'
        return 0
    fi
    [[ -d "$orig" ]] || orig="$1/config"
    : >"$STATE/carrying"
    runtime runtime.merge_config --network none -v "$STATE/config.orig:/new:ro" -v "$orig:/orig:ro" -v "$1/config:/mine:ro" \
        -- --orig /orig --mine /mine --new /new | head -c "$APPLIED_LARGEST" >"$WORK/carry" || status=${PIPESTATUS[0]}
    case "$status" in
        0) ;;
        3) die "$EXIT_CONFIG" "your configuration in $1/config could not be carried over" 'correct it there, then upgrade again' ;;
        *) run_failed "$status" "$(cat "$WORK/runtime-says")" "your configuration in $1/config could not be carried over" ;;
    esac
    carry_plan "$WORK/carry" "$1/config" "$STATE/config.orig" >"$WORK/plan" || untrusted 'an answer of another form'
    carry_take "$WORK/plan" "$1/config" "$STATE/config.orig"
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

# shellcheck shell=bash
# The keys that clients send: `default` in .env, and further ones, each with a name, in .state/keys.
#
# Rules: (1) a new key is printed once, on stdout, and never again; (2) the gateway reads its keys again without dropping a
# request, and the verb ends when that has happened: it asks with the key; (3) a change that cannot be applied is taken
# back; (4) no key is on a command line.

[[ -z "${KEYS_SH:-}" ]] || return 0
KEYS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/options.sh
. "${BASH_SOURCE[0]%/*}/../core/options.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/lock.sh
. "${BASH_SOURCE[0]%/*}/../core/lock.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/start.sh
. "${BASH_SOURCE[0]%/*}/../services/start.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/settings.sh
. "${BASH_SOURCE[0]%/*}/../kit/settings.sh"

key_lines() { # NAME KEY of each named key, a line each
    [[ ! -r "$STATE/keys" ]] || tr -d '\r' <"$STATE/keys" | grep -vE '^[[:blank:]]*(#|$)' || true
}

key_of() { # key_of NAME -> REPLY; status 1 when there is none
    REPLY=$(key_lines | NAME=$1 awk '$1 == ENVIRON["NAME"] { print $2 }')
    [[ -n "$REPLY" ]]
}

key_name() { # NAME can be the name of a key, or the end
    [[ "$1" =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$ ]] || usage_error "'$1' cannot be the name of a key: letters, digits and . _ -, at most 64"
}

key_status() { # key_status KEY -> REPLY: the status of GET /v1/models with it; empty when nothing answers
    local line=''
    gateway_address
    # shellcheck disable=SC2016 # the inner shell expands; the key goes through stdin
    line=$(at_most 6 bash -c 'IFS= read -r key && exec 3<>"/dev/tcp/$0/$1" &&
        printf "GET /v1/models HTTP/1.0\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n\r\n" "$key" >&3 && IFS= read -r -t 5 line <&3 && printf "%s" "$line"' \
        "$GATEWAY_HOST" "$GATEWAY_PORT" 2>/dev/null <<<"$1") || line=''
    REPLY=''
    [[ ! "$line" =~ ^HTTP/1\.[01]\ ([0-9]{3}) ]] || REPLY=${BASH_REMATCH[1]}
}

key_settled() { # key_settled KEY STATUS: waits until the gateway answers KEY with STATUS; status 1 when it does not within 20 s
    local until=$((SECONDS + 20))
    while ((SECONDS < until)); do
        key_status "$1"
        [[ "$REPLY" != "$2" ]] || return 0
        sleep 0.3
    done
    return 1
}

keys_change() { # the draft $WORK/keys becomes .state/keys and is in force at the gateway, if that runs; or nothing changes
    local status=0
    [[ ! -e "$STATE/keys" ]] || cp -p "$STATE/keys" "$WORK/keys.before"
    write_file "$STATE/keys" 600 <"$WORK/keys"
    APPLIED=''
    (service_apply && printf '%s' "$APPLIED" >"$WORK/applied") || status=$?
    if ((status != 0)); then
        if [[ -e "$WORK/keys.before" ]]; then write_file "$STATE/keys" 600 <"$WORK/keys.before"; else rm -f "$STATE/keys"; fi
        exit_intended "$status"
    fi
    # shellcheck disable=SC2034 # start.sh reads it: what was checked in the shell above
    COMPOSE_CHECKED=yes
    APPLIED=$(<"$WORK/applied")
    look_at gateway
    [[ "$LOOK_STATE" == running ]] || { say '    the gateway does not run: in force when it starts' && return 1; }
    gateway_reload
}

keys_list() {
    printf '%-24s %s\n' NAME 'ADDED (UTC)'
    printf '%-24s %s\n' default '- (VLLM_API_KEY in .env)'
    key_lines | awk -v file="$STATE/keys" 'BEGIN { while ((getline line < file) > 0) if (split(line, word, " ") == 4 && word[1] == "#" && word[2] == "added") when[word[4]] = word[3] }
        { printf "%-24s %s\n", $1, ($1 in when) ? when[$1] : "-" }'
}

keys_add() { # keys_add NAME
    local key
    key_name "$1"
    if [[ "$1" == default ]] || key_of "$1"; then
        die "$EXIT_USAGE" "there is a key '$1' already" "scripts/deploy.sh keys revoke $1 removes it"
    fi
    env_secret
    key=$REPLY
    now
    { [[ ! -r "$STATE/keys" ]] || cat "$STATE/keys"; printf '# added %s %s\n%s %s\n' "$REPLY" "$1" "$1" "$key"; } >"$WORK/keys"
    if keys_change && ! key_settled "$key" 200; then warn 'the gateway does not take the key yet: scripts/deploy.sh status'; fi
    say "    the key '$1', shown this once:"
    printf '%s\n' "$key"
}

keys_revoke() { # keys_revoke NAME
    local key
    key_name "$1"
    [[ "$1" != default ]] || die "$EXIT_USAGE" 'default is the key in .env' \
        'write another VLLM_API_KEY (or none, to have one made by install.sh) into .env, then: scripts/deploy.sh start'
    key_of "$1" || die "$EXIT_USAGE" "there is no key '$1'" 'scripts/deploy.sh keys list'
    key=$REPLY
    NAME=$1 awk '$1 == ENVIRON["NAME"] || ($1 == "#" && $2 == "added" && $4 == ENVIRON["NAME"]) { next } { print }' "$STATE/keys" >"$WORK/keys"
    if keys_change; then
        key_settled "$key" 401 || die "$EXIT_START" "the gateway still takes the key '$1'" 'scripts/deploy.sh restart gateway'
    fi
    say "    the key '$1' is revoked"
}

verb_keys() { # keys list | add NAME | revoke NAME
    local what=${1:-list}
    (($# == 0)) || shift
    case "$what" in
        list) no_more "$@" ;;
        add | revoke)
            (($# > 0)) || usage_error "keys $what needs a name"
            no_more "${@:2}"
            ;;
        *) usage_error "unknown word '$what' after keys" ;;
    esac
    installed
    if [[ "$what" == list ]]; then keys_list && return 0; fi
    if [[ -n "$DRY_RUN" ]]; then say "would $what the key '$1'" && return 0; fi
    lock_kit
    work_folder
    (umask 077 && : >"$WORK/keys")
    "keys_$what" "$1"
}

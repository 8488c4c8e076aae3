# shellcheck shell=bash
# Writing .env: the operator's file. What is there stays; what is missing is added; secrets are made here.
#
# Rules: (1) mode 0600 from the first byte; (2) written beside it and renamed, so that an interruption leaves the old
# or the new file; (3) nothing is written when nothing is missing; (4) no secret is shown or put on a command line.

[[ -z "${SETTINGS_SH:-}" ]] || return 0
SETTINGS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/ports.sh
. "${BASH_SOURCE[0]%/*}/../checks/ports.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/state.sh
. "${BASH_SOURCE[0]%/*}/../services/state.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/withheld.sh
. "${BASH_SOURCE[0]%/*}/../services/withheld.sh"

ENV_ADDED=()

env_secret() { # -> REPLY: 48 random letters and digits of hexadecimal, 192 bits
    REPLY=$(od -An -v -tx1 -N 24 /dev/urandom | tr -d ' \n')
    ((${#REPLY} == 48)) || die 1 'no random bytes to be had from /dev/urandom'
}

env_keys() { # the keys of FILE, a line each
    sed -n 's/^[[:space:]]*\(export \)\{0,1\}\([A-Za-z_][A-Za-z0-9_]*\)=.*/\2/p' <(unmarked "$1")
}

env_check() { # FILE can be read as KEY=value lines, or the end
    local wrong
    [[ -f "$1" && -r "$1" ]] || die "$EXIT_USAGE" "$1 is not a file that can be read"
    wrong=$(unmarked "$1" | grep -vnE '^[[:space:]]*(#.*)?.?$|^[[:space:]]*(export )?[A-Za-z_][A-Za-z0-9_]*=' | head -n 1) || true
    [[ -z "$wrong" ]] || die "$EXIT_CONFIG" "$1: line $wrong: not KEY=value" 'write settings as KEY=value, a line each; comments begin with #'
}

port_of_nobody() { # KEY is the port of a model that config/models.json does not have (any more)
    [[ "$1" =~ ^VLLM_.*_PORT$ ]] || return 1
    # Not by a pipe into grep -q, which ends at the first hit: a writer that is cut off counts as a failure.
    local ports
    ports=$(wanted_ports)
    [[ $'\n'"$ports" != *$'\n'"$1 "* ]]
}

env_replace() { # env_replace FILE KEY VALUE: in the draft FILE, sets KEY, in place where it is there already
    if value_of "$1" "$2"; then
        [[ "$REPLY" != "$3" ]] || return 0
        KEY=$2 VALUE=$3 awk '{ line = $0; sub(/^[ \t]*(export )?/, "", line) }
            index(line, ENVIRON["KEY"] "=") == 1 { print ENVIRON["KEY"] "=" ENVIRON["VALUE"]; next } { print }' "$1" >"$1.new"
        mv "$1.new" "$1"
    else
        printf '%s=%s\n' "$2" "$3" >>"$1"
    fi
    ENV_ADDED+=("$2")
}

env_made() { # env_made FILE KEY: in the draft FILE, gives the secret KEY a value where it has none
    local value
    value_of "$1" "$2" || true
    if secret_published "$REPLY"; then
        warn ".env: the $2 there is the example of a published guide, which everybody knows: a new one takes its place"
    elif [[ -n "$REPLY" ]]; then
        return 0
    fi
    env_secret
    value=$REPLY
    env_replace "$1" "$2" "$value"
}

env_compose() { # env_compose FILE: in the draft FILE, what makes the plain `docker compose` mean this kit; an operator's own values stay
    project
    value_of "$1" COMPOSE_PROJECT_NAME || env_replace "$1" COMPOSE_PROJECT_NAME "$PROJECT"
    value_of "$1" COMPOSE_FILE || env_replace "$1" COMPOSE_FILE compose.yaml:.state/compose.yaml
}

env_write() { # makes or completes .env from $ENV_SOURCE (if given) and .env.example; --device and --with are kept in it
    local draft key file
    ENV_ADDED=()
    work_folder
    draft="$WORK/env"
    if [[ -f "$KIT/.env" ]]; then
        env_check "$KIT/.env"
        unmarked "$KIT/.env" >"$draft"
        [[ ! -s "$draft" || -z "$(tail -c 1 "$draft")" ]] || echo >>"$draft"
        [[ -z "$ENV_SOURCE" ]] || warn ".env is there already and stays: of $ENV_SOURCE only settings that it lacks are taken"
    else
        unmarked "${ENV_SOURCE:-$KIT/.env.example}" >"$draft"
        [[ -z "$(tail -c 1 "$draft")" ]] || echo >>"$draft"
    fi
    chmod 600 "$draft"
    for file in ${ENV_SOURCE:+"$ENV_SOURCE"} "$KIT/.env.example"; do
        while IFS= read -r key; do
            if value_of "$draft" "$key" || port_of_nobody "$key"; then continue; fi
            value_of "$file" "$key" || true
            env_replace "$draft" "$key" "$REPLY"
        done < <(env_keys "$file")
    done
    if [[ -n "$DEVICE" ]]; then env_replace "$draft" OFFLINE_KIT_DEVICE "$DEVICE"; fi
    if [[ -n "$WITH_GIVEN" ]]; then env_replace "$draft" OFFLINE_KIT_WITH "$WITH"; fi
    if [[ -n "$TLS" ]]; then
        value_of "$draft" OFFLINE_KIT_WITH || true
        [[ ",${REPLY//[[:space:]]/}," == *,nginx,* ]] || env_replace "$draft" OFFLINE_KIT_WITH "nginx${REPLY:+,$REPLY}"
    fi
    if [[ -n "$TLS_ONLY" ]]; then env_replace "$draft" OFFLINE_KIT_TLS_ONLY yes; fi
    env_made "$draft" VLLM_API_KEY
    value_of "$draft" OFFLINE_KIT_WITH || true
    if [[ ",${REPLY//[[:space:]]/}," == *,monitoring,* ]] && carries grafana; then env_made "$draft" GRAFANA_ADMIN_PASSWORD; fi
    env_compose "$draft"
    if [[ -f "$KIT/.env" ]] && cmp -s "$draft" "$KIT/.env"; then
        say '    .env: as it was'
    elif [[ -n "$DRY_RUN" ]]; then
        say "would write: $KIT/.env (mode 0600)"
    else
        write_file "$KIT/.env" 600 <"$draft"
        say "    .env: written (mode 0600)${ENV_ADDED[0]+: ${ENV_ADDED[*]}}"
    fi
    [[ -n "$DRY_RUN" ]] || chmod go-rwx "$KIT/.env"
}

config_originals() { # keeps config/ as the kit brought it, once
    [[ -z "$DRY_RUN" && ! -d "$STATE/config.orig" ]] || return 0
    rm -rf "$STATE/config.orig.partial"
    cp -R "$KIT/config" "$STATE/config.orig.partial"
    mv "$STATE/config.orig.partial" "$STATE/config.orig"
}

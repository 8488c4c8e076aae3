# shellcheck shell=bash
# What all scripts of a kit share: messages, the runner, reading settings, the lock, the end.
#
# Rules: (1) talk on stderr, data on stdout; (2) files of settings are read line by line, never executed; (3) whatever
# changes the host goes through `run`, which --dry-run swaps; (4) a function that answers with text sets REPLY, so that
# no subshell hides its failure; (5) nothing newer than bash 4.2.

[[ -z "${COMMON_SH:-}" ]] || return 0
COMMON_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/messages.sh
. "${BASH_SOURCE[0]%/*}/messages.sh"

readonly EXIT_USAGE=2 EXIT_CONFIG=3 EXIT_PREFLIGHT=4 EXIT_LOAD=5 EXIT_START=6 EXIT_SMOKE=7 EXIT_DIFFERS=8 EXIT_DAMAGED=20 EXIT_UNTRUSTED=22 EXIT_INTERRUPTED=130
export EXIT_USAGE EXIT_CONFIG EXIT_PREFLIGHT EXIT_LOAD EXIT_START EXIT_SMOKE EXIT_DIFFERS EXIT_DAMAGED EXIT_UNTRUSTED EXIT_INTERRUPTED

KIT='' STATE='' DRY_RUN='' REPLY='' CHILD='' WORK='' ENV_SOURCE='' LOCK_FOLDER='' AT_EXIT='' MEANT='' FAULT=''
DEVICE='' WITH='' WITH_GIVEN='' TLS='' TLS_ONLY='' GIB=1073741824
export GIB
KEYS=()
declare -A KIT_FACT=()

# ---- messages

die() { # die CODE MESSAGE [REMEDY]
    # shellcheck disable=SC2034  # the receipt tells it
    FAULT=$2
    labelled "$RED" 'error:' "$2"
    indented '  ' "${3:-}"
    exit_intended "$1"
}

exit_intended() { # an end that was meant, whatever the code
    MEANT=yes
    exit "$1"
}

usage_error() { die "$EXIT_USAGE" "$1" "try '$0 --help'"; }

human() { # human BYTES -> REPLY, such as 1.5 GiB
    local value=$1 unit
    for unit in B KiB MiB GiB; do
        if ((value < 10240)) || [[ "$unit" == GiB ]]; then break; fi
        value=$((value / 1024))
    done
    REPLY="$value $unit"
}

now() { # -> REPLY, UTC
    REPLY=$(TZ=UTC0 date '+%Y-%m-%dT%H:%M:%SZ')
}

# ---- programs

need() { # the named programs, or the end
    local program missing=''
    for program in "$@"; do
        type -P "$program" >/dev/null || missing+=" $program"
    done
    [[ -z "$missing" ]] || die "$EXIT_PREFLIGHT" "not found on this host:$missing" "install it from the distribution's own packages"
}

run() { # a change of the host; under --dry-run only told
    if [[ -n "$DRY_RUN" ]]; then
        printf 'would run:' >&2
        printf ' %q' "$@" >&2
        printf '\n' >&2
        return 0
    fi
    "$@"
}

run_foreground() { # run_foreground TICK COMMAND...: a long command, ended by a signal at once with all that it started; TICK shows progress
    local status=0 tick=$1
    set -m
    "${@:2}" &
    CHILD=$!
    set +m
    while [[ -n "$PROGRESS" ]] && kill -0 "$CHILD" 2>/dev/null; do
        "$tick"
        sleep 0.3
    done
    [[ -z "$PROGRESS" ]] || progress ''
    wait "$CHILD" || status=$?
    CHILD=''
    return "$status"
}

at_most() { # at_most SECONDS COMMAND...: a daemon that hangs must not hang us
    if type -P timeout >/dev/null; then timeout "$@"; else "${@:2}"; fi
}

# ---- settings

value_of() { # value_of FILE KEY [DEFAULT] -> REPLY; the last KEY=value of FILE. Status 1 when absent. tests/data/dotenv.tsv has the rules
    local file=$1 key=$2 line value found=1 blank=$' \t\r' mark=$'\xef\xbb\xbf'
    REPLY=${3:-}
    [[ -f "$file" && -r "$file" ]] || return 1
    while IFS= read -r line || [[ -n "$line" ]]; do
        line=${line#"$mark"} # some editors begin a file with a mark of the byte order
        mark=''
        line=${line#"${line%%[!"$blank"]*}"}
        if [[ "$line" == export["$blank"]* ]]; then
            line=${line#export}
            line=${line#"${line%%[!"$blank"]*}"}
        fi
        [[ "$line" == "$key="* ]] || continue
        value=${line#*=}
        value=${value#"${value%%[!"$blank"]*}"}
        value=${value%"${value##*[!"$blank"]}"}
        if ((${#value} > 1)) && [[ "$value" == \"*\" || "$value" == \'*\' ]]; then
            value=${value:1:${#value}-2}
        elif [[ "$value" == \#* ]]; then
            value=''
        else
            value=${value%%["$blank"]#*}
            value=${value%"${value##*[!"$blank"]}"}
        fi
        REPLY=$value
        found=0
    done <"$file"
    return "$found"
}

unmarked() { sed $'1s/^\xef\xbb\xbf//' "$1"; } # FILE without the mark of the byte order that some editors begin it with

setting() { # setting KEY [DEFAULT] -> REPLY: the operator's .env, or what is about to become it
    if [[ -f "$KIT/.env" ]] && value_of "$KIT/.env" "$1"; then return 0; fi
    if [[ -n "$ENV_SOURCE" ]] && value_of "$ENV_SOURCE" "$1"; then return 0; fi
    value_of "$KIT/.env.example" "$1" "${2:-}" || true
}

fact() { # fact KEY [DEFAULT] -> REPLY: what the kit says of itself
    REPLY=${KIT_FACT[$1]-${2:-}}
}

no_pipes() { # what the scripts read of a kit are files: a pipe would be waited for, a device read without end
    local path
    while IFS= read -r path; do
        [[ ! -e "$path" || -f "$path" || -d "$path" ]] || die "$EXIT_DAMAGED" "$path is a pipe or a device, not a plain file" "look who put it there; then: rm '$path'"
    done < <(
        find "$KIT" "$STATE" "$STATE/tls" -maxdepth 1 ! -type f ! -type d 2>/dev/null || true
        find "$KIT/config" "$KIT/deploy" ! -type f ! -type d 2>/dev/null || true
    )
}

open_kit() { # open_kit SCRIPT: finds the kit around this script and reads deploy/kit.env
    local self line
    self=$(readlink -f -- "$1") || die 1 "cannot resolve $1"
    KIT=$(dirname -- "$self")
    [[ -e "$KIT/deploy/kit.env" ]] || KIT=$(dirname -- "$KIT")
    STATE="$KIT/.state"
    [[ -f "$KIT/deploy/kit.env" && ! -L "$KIT/deploy/kit.env" && -r "$KIT/deploy/kit.env" ]] ||
        die "$EXIT_DAMAGED" "no deploy/kit.env beside $self: this is not an unpacked kit" "unpack the bundle again: tar -xzf NAME-VERSION.tar.gz"
    no_pipes
    while IFS= read -r line || [[ -n "$line" ]]; do
        [[ "$line" =~ ^(KIT_[A-Za-z0-9_]+)=(.*)$ ]] || continue
        KIT_FACT[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
    done <"$KIT/deploy/kit.env"
    fact KIT_FORMAT
    [[ "$REPLY" == 1 ]] || die "$EXIT_DAMAGED" "deploy/kit.env: format '$REPLY' is not one that these scripts know (1)"
    fact KIT_NAME
    [[ "$REPLY" =~ ^[a-z0-9][a-z0-9_.-]*$ ]] || die "$EXIT_DAMAGED" "deploy/kit.env: '$REPLY' is no name of a kit"
}

device() { # -> REPLY: nvidia or cpu, from the command line, .env or the kit
    REPLY=$DEVICE
    if [[ -z "$REPLY" ]]; then
        setting OFFLINE_KIT_DEVICE
        [[ -n "$REPLY" ]] || fact KIT_ACCELERATOR nvidia
    fi
    [[ "$REPLY" == nvidia || "$REPLY" == cpu ]] || die "$EXIT_CONFIG" "OFFLINE_KIT_DEVICE is '$REPLY'; it can be nvidia or cpu"
}

wanted_with() { # -> REPLY: what shall run beside engines and gateway, from the command line or .env, with commas
    REPLY=$WITH
    [[ -n "$WITH_GIVEN" ]] || setting OFFLINE_KIT_WITH
    REPLY=${REPLY//[[:space:]]/}
    [[ -z "$TLS" || ",$REPLY," == *,nginx,* ]] || REPLY="nginx${REPLY:+,$REPLY}"
}

tls_only() { # what is not encrypted is published on this host alone
    [[ -z "$TLS_ONLY" ]] || return 0
    setting OFFLINE_KIT_TLS_ONLY
    [[ "$REPLY" == yes ]]
}

carries() { # carries KEY: the kit has that image
    fact KIT_IMAGES
    [[ ",$REPLY," == *",$1,"* ]]
}

images() { # -> KEYS: the kit's images in load order
    fact KIT_IMAGES
    IFS=, read -r -a KEYS <<<"$REPLY"
    ((${#KEYS[@]} > 0)) || die "$EXIT_DAMAGED" "deploy/kit.env names no image (KIT_IMAGES)"
}

image_tag() { # image_tag KEY -> REPLY: the kit's own tag
    local name=${1//[.-]/_}
    fact "KIT_IMAGE_$name"
    [[ -n "$REPLY" ]] || die "$EXIT_DAMAGED" "deploy/kit.env has no KIT_IMAGE_$name"
}

once_label() { # -> REPLY: the label of containers that are there for one command
    fact KIT_NAME
    REPLY="offline-kit.once=$REPLY"
}

once_sweep() { # removes those that never ran: who made them was killed before it could start them
    local id
    once_label
    docker ps --all --quiet --filter "label=$REPLY" --filter status=created --filter status=exited 2>/dev/null |
        while read -r id; do docker rm --force "$id" >/dev/null 2>&1 || true; done
}

# ---- JSON, written

json() { # json TEXT -> REPLY: TEXT as a JSON string
    local text=$1
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\t'/\\t}
    text=${text//$'\r'/\\r}
    revealed "$text" # it is written as JSON writes it
    REPLY="\"$REVEALED\""
}

pair() { # pair KEY TEXT: one member of an object, with a comma
    json "$2"
    printf '  "%s": %s,\n' "$1" "$REPLY"
}

make_last() { # make_last PATH: a file, or the names in a folder, are on the disk. Older programs know only how to do that for everything
    sync -- "$1" 2>/dev/null || sync
}

write_file() { # write_file PATH MODE: stdin to PATH, whole or not at all, and on the disk: first beside it, under a name that nobody can foresee. A link is replaced, not followed
    local partial
    [[ ! -d "$1" || -L "$1" ]] || { say "error: $1 is a folder" && return 1; }
    partial=$(mktemp "$1.XXXXXXXX") || return 1
    if cat >"$partial" && chmod "$2" "$partial" && make_last "$partial"; then
        [[ ! -L "$1" ]] || rm -f -- "$1" # a rename would go into a folder behind it
        ! mv -f -- "$partial" "$1" || { make_last "$(dirname -- "$1")" && return 0; }
    fi
    rm -f -- "$partial"
    return 1
}

# ---- this run's own files, and the end

work_folder() { # a folder for this run's own files, removed at its end
    [[ -z "$WORK" ]] || return 0
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/offline-kit.XXXXXXXX") || die 1 "cannot make a folder in ${TMPDIR:-/tmp}"
}

at_exit() {
    local status=$?
    trap '' INT TERM
    [[ -z "$CHILD" ]] || kill -TERM -- "-$CHILD" 2>/dev/null || true
    [[ -z "$AT_EXIT" ]] || "$AT_EXIT" || true
    [[ -z "$WORK" ]] || rm -rf -- "$WORK"
    [[ -z "$LOCK_FOLDER" ]] || rm -rf -- "$LOCK_FOLDER"
    if ((status != 0)) && [[ -z "$MEANT" ]]; then
        labelled "$RED" 'error:' "a command failed (exit code $status); what it said is above"
        exit 1
    fi
    return "$status"
}

interrupted() {
    printf '\n' >&2
    die "$EXIT_INTERRUPTED" 'interrupted' 'run the same command again: it goes on from what is done'
}

set -euo pipefail
umask go-w      # whatever is made here is for this user alone to change
export LC_ALL=C # one order of sorting, one language of what other programs print
trap at_exit EXIT
trap interrupted INT TERM HUP
colours

# shellcheck shell=bash
# The words of a command line: options with a value, checked as they are read.
#
# Rules: (1) --name=value is --name value; (2) what is wrong is a usage error before anything is done.

[[ -z "${OPTIONS_SH:-}" ]] || return 0
OPTIONS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/common.sh"

WORDS=()

split_options() { # --name=value becomes two words -> WORDS
    local word
    WORDS=()
    for word in "$@"; do
        if [[ "$word" == --[a-z]*=* ]]; then WORDS+=("${word%%=*}" "${word#*=}"); else WORDS+=("$word"); fi
    done
}

argument() { # argument OPTION [VALUE...] -> REPLY: its value, or a usage error
    (($# > 1)) || usage_error "$1 needs a value"
    REPLY=$2
}

device_argument() { # the same for --device -> DEVICE
    argument "$@"
    [[ "$REPLY" == nvidia || "$REPLY" == cpu ]] || usage_error "--device can be nvidia or cpu, not '$REPLY'"
    DEVICE=$REPLY
}

with_argument() { # the same for --with -> WITH, WITH_GIVEN; '' switches all off
    local word words=()
    argument "$@"
    IFS=', ' read -r -a words <<<"$REPLY"
    WITH='' WITH_GIVEN=yes
    for word in ${words[@]+"${words[@]}"}; do
        [[ "$word" == monitoring || "$word" == nginx ]] || usage_error "--with can be monitoring, nginx or both with a comma between, not '$word'"
        [[ ",$WITH," == *",$word,"* ]] || WITH+="${WITH:+,}$word"
    done
}

tls_argument() { # the same for --tls -> TLS
    argument "$@"
    [[ "$REPLY" == self-signed || (-f "$REPLY" && -r "$REPLY") ]] || usage_error "--tls: '$REPLY' is neither self-signed nor a file that can be read"
    TLS=$REPLY
}

env_file_argument() { # the same for --env-file -> ENV_SOURCE
    argument "$@"
    [[ -f "$REPLY" && -r "$REPLY" ]] || usage_error "--env-file: '$REPLY' is not a file that can be read"
    ENV_SOURCE=$REPLY
}

no_more() { (($# == 0)) || usage_error "unknown option or word '$1'"; }

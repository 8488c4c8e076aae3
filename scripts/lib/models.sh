# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # names that come from, or go to, the rooms that are sourced beside it
# What config/models.json asks of the host: ports, shares of GPUs, memory. Read by awk: the host needs no JSON program.
#
# Rules: (1) only plain values of a model are read; (2) what is no JSON, or wrong, is for runtime.apply to say.

[[ -z "${MODELS_SH:-}" ]] || return 0
MODELS_SH=yes

MODEL_KEYS=()
declare -A MODEL_FIELD=() # "KEY FIELD" -> value; a list with commas

model_fields() { # KEY FIELD VALUE of each plain field of each model, by tabs, a line each; a list with commas
    awk '{ text = text $0 "\n" }
        END {
            while (match(text, /"([^"\\]|\\.)*"|[][{}:,]|[-+.0-9a-zA-Z]+/)) {
                token = substr(text, RSTART, RLENGTH); text = substr(text, RSTART + RLENGTH)
                if (token == "[") { if (lists++ == 0) list = ""; continue }
                if (token == "]") { if (--lists == 0) value(list); continue }
                if (lists > 0 && token !~ /^[{}:,]$/) { gsub(/"/, "", token); list = list (list == "" ? "" : ",") token; continue }
                if (lists > 0) continue
                if (token == "{") { depth++; is_key = 1; continue }
                if (token == "}") { depth--; is_key = 0; continue }
                if (token == ",") { is_key = 1; continue }
                if (token == ":") { is_key = 0; continue }
                if (is_key) { gsub(/"/, "", token); name[depth] = token; continue }
                gsub(/"/, "", token); value(token)
            }
        }
        function value(text) { if (depth == 3 && name[1] == "models") print name[2] "\t" name[3] "\t" text }' \
        "$KIT/config/models.json" 2>/dev/null
}

models_read() { # -> MODEL_KEYS, MODEL_FIELD
    local key field value
    MODEL_KEYS=() MODEL_FIELD=()
    while IFS=$'\t' read -r key field value; do
        [[ " ${MODEL_KEYS[*]-} " == *" $key "* ]] || MODEL_KEYS+=("$key")
        MODEL_FIELD["$key $field"]=$value
    done < <(model_fields)
}

model_field() { # model_field KEY FIELD [DEFAULT] -> REPLY
    REPLY=${MODEL_FIELD["$1 $2"]:-${3:-}}
}

model_number() { # the same, a whole number; anything else is DEFAULT
    model_field "$@"
    [[ "$REPLY" =~ ^[0-9]{1,15}$ ]] || REPLY=$3
    REPLY=$((10#$REPLY))
}

model_ranks() { # model_ranks KEY -> REPLY: how many GPUs the model takes
    local size
    model_number "$1" tensor_parallel_size 1
    size=$REPLY
    model_number "$1" replicas 1
    REPLY=$((size * REPLY))
}

bytes_of() { # bytes_of TEXT -> REPLY: a size as Docker writes it (512m, 8g, 1.5gb) in bytes, rounded down; status 1 when it is none
    local unit
    [[ "$1" =~ ^([0-9]{1,9})(\.[0-9]+)?([kKmMgGtT]?)[iI]?[bB]?$ ]] || return 1
    case "${BASH_REMATCH[3]}" in
        [kK]) unit=1024 ;;
        [mM]) unit=1048576 ;;
        [gG]) unit=1073741824 ;;
        [tT]) unit=1099511627776 ;;
        *) unit=1 ;;
    esac
    REPLY=$((10#${BASH_REMATCH[1]} * unit))
}

# shellcheck shell=bash
# What config/models.json asks of the host: ports, shares of GPUs, memory. Read by awk: the host needs no JSON program.
#
# Rules: (1) only plain values of a model are read; (2) what is no JSON, or wrong, is for runtime.apply to say.

[[ -z "${MODELS_SH:-}" ]] || return 0
MODELS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/../core/common.sh"

MODEL_KEYS=()
declare -A MODEL_FIELD=() # "KEY FIELD" -> value; a list with commas

model_fields() { # KEY FIELD VALUE of each plain field of each model, by tabs, a line each; a list with commas
    LC_ALL=C awk '{
            # a token never spans lines; a window that slides keeps a line of a megabyte from being copied once a token
            for (from = 1; from <= length($0); from += at + size - 1) {
                wide = 2048
                do { window = substr($0, from, wide); size = token_in(window); wide *= 2 } while (size == 0 && from + wide / 2 <= length($0))
                if (size == 0) break
                read(substr(window, at, size))
            }
        }
        function token_in(window) { # the size of the first token, at; 0 where it may go on behind the window, or there is none
            if (!match(window, /[][{}:,"+.0-9a-zA-Z-]/)) return 0
            at = RSTART; window = substr(window, at)
            if (window ~ /^[][{}:,]/) return 1
            if (!match(window, window ~ /^"/ ? "^\"([^\"\\\\]|\\\\.)*\"" : "^[-+.0-9a-zA-Z]+")) return 0
            return RLENGTH == length(window) && window !~ /"$/ && length(window) > 1000 ? 0 : RLENGTH
        }
        function read(token) {
            if (token == "[") { if (lists++ == 0) list = ""; return }
            if (token == "]") { if (--lists == 0) value(list); return }
            if (lists > 0 && token !~ /^[{}:,]$/) { token = plain(token); if (length(list) < 4096) list = list (list == "" ? "" : ",") token; return }
            if (lists > 0) return
            if (token == "{") { depth++; is_key = 1; return }
            if (token == "}") { depth--; is_key = 0; return }
            if (token == ",") { is_key = 1; return }
            if (token == ":") { is_key = 0; return }
            if (is_key) { name[depth] = plain(token); return }
            value(plain(token))
        }
        function plain(token,  out, at) { # a string without its quotes and escapes, a number or word as it is
            if (token !~ /^"/) return token
            token = substr(token, 2, length(token) - 2); out = ""
            while ((at = index(token, "\\")) > 0) { out = out substr(token, 1, at - 1) substr(token, at + 1, 1); token = substr(token, at + 2) }
            return out token
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

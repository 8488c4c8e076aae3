# shellcheck shell=bash
# The settings as the engine image may see them: every secret is replaced by a stand-in, which comes back in what it answers.
#
# Rules: (1) what the image needs to know of a secret is whether there is one, whether it has the right form and which are the same:
# a stand-in says that and no more; (2) what is no setting of a kit has no value there; (3) lines keep their numbers, since
# mistakes are told by them; (4) the secrets themselves stay in files of mode 0600 that no container sees.

[[ -z "${WITHHELD_SH:-}" ]] || return 0
WITHHELD_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/../core/common.sh"

secret_published() { [[ "$1" == token-abc123 || "$1" == admin123 ]]; } # secret_published TEXT: it is the example of a guide that everybody can read

secrets_unpublished() { # secrets_unpublished FILE [NAME REMEDY]: the .env in FILE has no secret that a published guide gives, or the end
    local key
    for key in VLLM_API_KEY GRAFANA_ADMIN_PASSWORD; do
        value_of "$1" "$key" || continue
        ! secret_published "$REPLY" ||
            die "$EXIT_CONFIG" "${2:-.env}: $key is the example of a published guide, which everybody knows; nothing was changed" \
                "${3:-take its value out and run ./install.sh, which makes one}"
    done
}

withheld_env() { # withheld_env FILE: the .env in FILE without its secrets; stand-ins and secrets, a pair a line, go to $WORK/withheld
    local key password
    value_of "$1" VLLM_API_KEY || true
    key=$REPLY
    value_of "$1" GRAFANA_ADMIN_PASSWORD || true
    password=$REPLY
    KEY=$key PASSWORD=$password SECRETS="$WORK/withheld" awk '
        function stand_in(value, form, name) {
            if (value == "") return ""
            if (value !~ form) return "?"
            print name " " value >ENVIRON["SECRETS"]
            return name
        }
        BEGIN {
            printf "" >ENVIRON["SECRETS"]
            key = length(ENVIRON["KEY"]) < 16 || length(ENVIRON["KEY"]) > 512 ? substr(ENVIRON["KEY"], 1, 1) : ENVIRON["KEY"]
            password = length(ENVIRON["PASSWORD"]) < 8 || length(ENVIRON["PASSWORD"]) > 128 ? substr(ENVIRON["PASSWORD"], 1, 1) : ENVIRON["PASSWORD"]
            shown["VLLM_API_KEY"] = length(key) == 1 ? "?" : stand_in(key, "^[A-Za-z0-9._~+/=-]+$", "withheldwithheld0")
            shown["GRAFANA_ADMIN_PASSWORD"] = length(password) == 1 ? "?" : stand_in(password, "^[!-~]+$", "withheldpassword")
        }
        { line = $0; if (NR == 1) sub(/^\357\273\277/, "", line); sub(/^[ \t\r]+/, "", line); if (line ~ /^export[ \t\r]/) sub(/^export[ \t\r]+/, "", line) }
        line == "" || line ~ /^#/ { print ""; next }
        line !~ /^[A-Za-z_][A-Za-z0-9_]*=/ { print "?"; next }
        { name = substr(line, 1, index(line, "=") - 1) }
        name in shown { print name "=" shown[name]; next }
        name ~ /^(VLLM_[A-Z0-9_]*PORT|CUDA_VISIBLE_DEVICES|OFFLINE_KIT_[A-Z_]+|PROMETHEUS_PORT|GRAFANA_PORT)$/ { print line; next }
        { print name "=" }' "$1"
}

withheld_keys() { # withheld_keys FILE: the named keys in FILE, each key a stand-in, one for the same key; pairs are added to $WORK/withheld
    SECRETS="$WORK/withheld" awk '
        BEGIN { while ((getline pair < ENVIRON["SECRETS"]) > 0) known[substr(pair, index(pair, " ") + 1)] = substr(pair, 1, index(pair, " ") - 1); close(ENVIRON["SECRETS"]) }
        NF == 0 || $1 ~ /^#/ { print ""; next }
        NF != 2 { print (NF == 1 ? "?" : "? ? ?"); next }
        $2 !~ /^[A-Za-z0-9._~+\/=-]+$/ || length($2) < 16 || length($2) > 512 { print $1, "?"; next }
        !($2 in known) { known[$2] = "withheldwithheld" (++count); print known[$2], $2 >>ENVIRON["SECRETS"] }
        { print $1, known[$2] }' "$1"
}

withheld_settings() { # withheld_settings ENV STATE FOLDER: what the engine image is given in their place: FOLDER/.env, FOLDER/.state
    work_folder
    rm -rf -- "$3"
    (umask 077 && mkdir -p "$3/.state/tls" && withheld_env "$1" >"$3/.env")
    [[ ! -e "$2/keys" ]] || (umask 077 && withheld_keys "$2/keys" >"$3/.state/keys")
    [[ ! -f "$2/tls/server.crt" ]] || cp "$2/tls/server.crt" "$3/.state/tls/server.crt"
    [[ ! -f "$2/tls/server.key" ]] || : >"$3/.state/tls/server.key"
}

withheld_return() { # stdin to stdout, in the lines of keys.conf each stand-in is its key again, as an expression; status 1 where a line has another form
    SECRETS="$WORK/withheld" awk '
        BEGIN { while ((getline pair < ENVIRON["SECRETS"]) > 0) key[substr(pair, 1, index(pair, " ") - 1)] = substr(pair, index(pair, " ") + 1) }
        { before = "\"~^[Bb]earer "; after = "$\" \""; rest = substr($0, length(before) + 1); at = index(rest, after); name = substr(rest, 1, at - 1); rest = substr(rest, at + length(after)) }
        index($0, before) != 1 || at == 0 || !(name in key) || rest !~ /^[A-Za-z0-9][A-Za-z0-9._-]*";$/ { exit 1 }
        { text = ""
          for (i = 1; i <= length(key[name]); i++) { letter = substr(key[name], i, 1); text = text (letter ~ /[A-Za-z0-9_]/ ? "" : "\\") letter }
          print before text after rest }'
}

# shellcheck shell=bash
# The certificate of port 443, put where the gateway gets it from: made here, or given as PEM.
#
# Rules: (1) a key is 0600 from its first byte and never shown; (2) one that is there stays when a self-signed one is asked for;
# (3) both files are whole before either is renamed; whether they fit each other is for nginx to say (services/engine.sh).

[[ -z "${CERTIFICATE_SH:-}" ]] || return 0
CERTIFICATE_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/../core/common.sh"

certificate_names() { # -> REPLY: what clients may call this host: its name, localhost, its addresses, and the one that is published
    local name address
    name=$(hostname 2>/dev/null) || name=''
    REPLY='DNS:localhost,IP:127.0.0.1'
    [[ ! "$name" =~ ^[A-Za-z0-9.-]+$ || "$name" == localhost ]] || REPLY="DNS:$name,$REPLY"
    for address in $(hostname -I 2>/dev/null || true); do
        [[ ! "$address" =~ ^[0-9a-f.:]+$ || ",$REPLY," == *",IP:$address,"* ]] || REPLY+=",IP:$address"
    done
    name=$REPLY
    setting OFFLINE_KIT_BIND 0.0.0.0
    address=$REPLY REPLY=$name
    [[ ! "$address" =~ ^[0-9a-f.:]+$ || "$address" == 0.0.0.0 || "$address" == :: || ",$REPLY," == *",IP:$address,"* ]] || REPLY+=",IP:$address"
}

certificate_make() { # a self-signed one for two years, in $WORK/tls, or the end
    type -P openssl >/dev/null || die "$EXIT_PREFLIGHT" 'a self-signed certificate is made by openssl, which is not on this host' \
        'install it from the distribution, or give a certificate: --tls FILE'
    certificate_names
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days 730 -subj "/CN=${KIT_FACT[KIT_NAME]}" \
        -addext "subjectAltName=$REPLY" -keyout "$WORK/tls/server.key" -out "$WORK/tls/server.crt" >"$WORK/openssl-says" 2>&1 </dev/null ||
        die 1 "openssl could not make a certificate: $(tail -n 1 "$WORK/openssl-says")" 'give a certificate: --tls FILE'
}

certificate_read() { # certificate_read FILE: certificates and key of a PEM file (the key also beside it, as NAME.key), in $WORK/tls, or the end
    local key=$1 block='/^-----BEGIN ([A-Z0-9]+ )*KIND-----\r?$/ { inside = 1 } inside { sub(/\r$/, ""); print } /^-----END ([A-Z0-9]+ )*KIND-----\r?$/ { inside = 0 }'
    awk "${block//KIND/CERTIFICATE}" "$1" >"$WORK/tls/server.crt"
    [[ -s "$WORK/tls/server.crt" ]] || die "$EXIT_CONFIG" "--tls: there is no certificate in $1" 'give a PEM file: BEGIN CERTIFICATE, then its chain'
    grep -q '^-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----' "$key" || key="${1%.*}.key"
    [[ ! -r "$key" ]] || awk "${block//KIND/PRIVATE KEY}" "$key" >"$WORK/tls/server.key"
    [[ -s "$WORK/tls/server.key" ]] || die "$EXIT_CONFIG" "--tls: there is no key in $1, nor in ${1%.*}.key" 'put the key (PEM, without a password) into the same file or beside it'
}

certificate_take() { # what --tls asks for becomes .state/tls
    local name
    [[ -n "$TLS" ]] || return 0
    if [[ "$TLS" == self-signed && -f "$STATE/tls/server.crt" ]]; then
        say '    certificate: the one in .state/tls stays'
        return 0
    fi
    if [[ -n "$DRY_RUN" ]]; then say "would put a certificate into $STATE/tls ($TLS)" && return 0; fi
    work_folder
    mkdir -p "$STATE/tls"
    rm -rf -- "$WORK/tls"
    (umask 077 && mkdir "$WORK/tls" && : >"$WORK/tls/server.key")
    if [[ "$TLS" == self-signed ]]; then certificate_make; else certificate_read "$TLS"; fi
    for name in key crt; do write_file "$STATE/tls/server.$name" 600 <"$WORK/tls/server.$name"; done
    rm -rf -- "$WORK/tls"
    say "    certificate: $STATE/tls/server.crt"
}

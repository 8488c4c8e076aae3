# shellcheck shell=bash
# The secrets of a kit, and other people's text without them: whatever leaves this host or is shown goes through `redact`.
#
# Rules: (1) a secret is found as it is, percent-encoded, escaped as in JSON or for a shell, in hexadecimal, and in base64 at each of the
# three places that it can begin at; (2) secrets are: settings and engine arguments with a telling name, keys of clients, passwords
# of proxies, the lines of private keys; (3) what has the form of a credential goes too, whosever it is; (4) secrets are on no command
# line, and in no file but $WORK; (5) what is left of a line stays as it was.

[[ -z "${SECRETS_SH:-}" ]] || return 0
SECRETS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/common.sh
. "${BASH_SOURCE[0]%/*}/../core/common.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/messages.sh
. "${BASH_SOURCE[0]%/*}/../core/messages.sh"

# A word of a name that tells of a secret; awk and sed -E read it. Not: tokenizer, max_tokens, key_limit.
readonly SECRET_NAME='(password|passwd|passphrase|passcode|secret|secrets|credential|credentials|authorization|token|api[-_]?keys?|(access|secret|private|account|signing|encryption|auth|master)[-_]?keys?)'

secrets_settings() { # secrets_settings FILE: NAME and TEXT of each telling setting of a .env, a line each, with a tab between
    local key
    [[ -f "$1" && -r "$1" ]] || return 0
    sed -n 's/^[[:space:]]*\(export[[:space:]]\{1,\}\)\{0,1\}\([A-Za-z_][A-Za-z0-9_]*\)=.*/\2/p' <(unmarked "$1") | sort -u | while IFS= read -r key; do
        value_of "$1" "$key" || continue
        if grep -qiE 'KEY|PASSW|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|AUTH' <<<"$key"; then printf '%s\t%s\n' "$key" "$REPLY"; fi
        if grep -qiE 'PROXY|URL|ENDPOINT' <<<"$key"; then secrets_userinfo "$key" "$REPLY"; fi
    done
}

secrets_userinfo() { # secrets_userinfo NAME URL: the password in it, and both with the name
    local user=$2
    [[ "$user" == *@* ]] || return 0
    user=${user%@*}
    user=${user#*://}
    printf '%s\t%s\n' "$1" "$user"
    [[ "$user" != *:* ]] || printf '%s\t%s\n' "$1" "${user#*:}"
}

secrets_keys() { # secrets_keys FILE: the keys of clients in it
    [[ -f "$1" && -r "$1" ]] || return 0
    awk '!/^[ \t]*(#|$)/ && NF >= 2 { name = $1; gsub(/[^A-Za-z0-9._-]/, "", name); print "key-" name "\t" $2 }' "$1"
}

secrets_private() { # secrets_private FILE: the lines of a private key in PEM form
    [[ -f "$1" && -r "$1" ]] || return 0
    awk '/-----BEGIN .*PRIVATE KEY-----/ { inside = 1; next } /-----END/ { inside = 0 } inside { sub(/\r$/, ""); if (length($0) > 15) print "private-key\t" $0 }' "$1"
}

secrets_json() { # secrets_json FILE: the texts below each telling name of a JSON file
    [[ -f "$1" && -r "$1" ]] || return 0
    SECRET=$SECRET_NAME awk '
        { text = text $0 "\n" }
        function telling(name) { name = tolower(name); return name ~ ("(^|[-_.])" ENVIRON["SECRET"] "$") }
        function found(name, value) {
            gsub(/\\\//, "/", value); gsub(/\\"/, "\"", value); gsub(/\\\\/, "\\", value); gsub(/[^A-Za-z0-9._-]/, "", name)
            if (value ~ /[[:cntrl:]]/) return
            print name "\t" value
            if (sub(/^(Bearer|Basic|Token) +/, "", value)) print name "\t" value
        }
        END {
            name = ""; depth = 0; flag[0] = ""
            while (match(text, /"([^"\\]|\\.)*"|[][{},:]|[^][{},:" \t\r\n]+/)) {
                token = substr(text, RSTART, RLENGTH); text = substr(text, RSTART + RLENGTH)
                if (token == "{" || token == "[") { flag[++depth] = flag[depth - 1] != "" ? flag[depth - 1] : (telling(name) ? name : ""); kind[depth] = token; name = ""; option = "" }
                else if (token == "}" || token == "]") { depth--; name = "" }
                else if (token == ",") { if (kind[depth] == "{") name = "" }
                else if (token == ":") continue
                else {
                    plain = token; if (plain ~ /^"/) plain = substr(plain, 2, length(plain) - 2)
                    if (text ~ /^[ \t\r\n]*:/ && kind[depth] == "{" && token ~ /^"/) { name = plain; continue }
                    if (token ~ /^"/ || plain ~ /[0-9]/) {
                        if (flag[depth] != "") found(flag[depth], plain)
                        else if (name != "" && telling(name)) found(name, plain)
                        else if (option != "") found(option, plain)
                        else if (plain ~ /^--[^=]+=/ && telling(substr(plain, 3, index(plain, "=") - 3))) found(substr(plain, 3, index(plain, "=") - 3), substr(plain, index(plain, "=") + 1))
                    }
                    option = kind[depth] == "[" && plain ~ /^--/ && telling(substr(plain, 3)) ? substr(plain, 3) : ""
                }
            }
        }' "$1"
}

secrets_yaml() { # secrets_yaml FILE: the texts of each telling name of a YAML file, on its line or below it
    [[ -f "$1" && -r "$1" ]] || return 0
    SECRET=$SECRET_NAME awk '
        function strip(value) {
            sub(/^[ \t]+/, "", value); sub(/^- +/, "", value)
            if (value ~ /^"/) { sub(/^"/, "", value); sub(/".*$/, "", value) }
            else if (value ~ /^'\''/) { sub(/^'\''/, "", value); sub(/'\''.*$/, "", value) }
            else sub(/[ \t]+#.*$/, "", value)
            sub(/[ \t\r]+$/, "", value)
            return value
        }
        function found(value) {
            value = strip(value)
            if (value == "" || value ~ /^[|>&*]/) return
            print name "\t" value
            if (sub(/^(Bearer|Basic|Token) +/, "", value)) print name "\t" value
        }
        {
            match($0, /^[ \t]*/); indent = RLENGTH
            if (inside && NF && (indent > level || $0 ~ /^[ \t]*- /)) { rest = $0; if (rest ~ /^[ \t]*[A-Za-z0-9_-]+:[ \t]/) sub(/^[^:]*:/, "", rest); found(rest); next }
            if (NF) inside = 0
        }
        {
            rest = $0
            while (match(tolower(rest), "[\"'\'']?[a-z0-9_.-]*" ENVIRON["SECRET"] "[\"'\'']?[ \t]*:")) {
                name = substr(rest, RSTART, RLENGTH); gsub(/[^A-Za-z0-9._-]/, "", name)
                rest = substr(rest, RSTART + RLENGTH)
                if (rest !~ /^[ \t]/ && rest != "") continue
                if (strip(rest) ~ /^([|>].*)?$/) { inside = 1; level = indent; break }
                if (strip(rest) ~ /^\[/) { list = rest; sub(/^[^[]*\[/, "", list); sub(/\].*/, "", list); count = split(list, part, ","); for (i = 1; i <= count; i++) found(part[i]) }
                else { value = rest; if ($0 ~ /[{]/ && strip(rest) !~ /^["'\'']/) sub(/[,}].*/, "", value); sub(/^[ \t]+/, "", value); found(value) }
            }
        }' "$1"
}

secrets_all() { # NAME and TEXT of everything that nobody else may see, a line each
    local file folder name
    for file in "$KIT/.env" "$STATE/before-restore/.env" "$STATE/env.carried" ${ENV_SOURCE:+"$ENV_SOURCE"}; do secrets_settings "$file"; done
    for file in "$STATE/keys" "$STATE/before-restore/keys"; do secrets_keys "$file"; done
    for file in "$STATE/tls" "$STATE/before-restore/tls" "$STATE/gateway/tls"; do secrets_private "$file/server.key"; done
    for folder in "$KIT/config" "$STATE/config.orig" "$STATE/config.carried" "$STATE/before-restore/config" "$STATE/conflicts"; do
        [[ -d "$folder" ]] || continue
        while IFS= read -r file; do
            case "$file" in
                *.json) secrets_json "$file" ;;
                *.yaml | *.yml) secrets_yaml "$file" ;;
                *.key | *.pem) secrets_private "$file" ;;
                *) ;;
            esac
        done < <(find "$folder" -type f)
    done
    secrets_yaml "$STATE/compose.yaml"
    for name in HTTP_PROXY HTTPS_PROXY ALL_PROXY FTP_PROXY http_proxy https_proxy all_proxy ftp_proxy; do
        secrets_userinfo "$name" "${!name-}"
    done
}

# Names and texts on stdin become a script for sed -E: one line a secret for its forms as text, and one for each of the others.
# A text is long enough to be no word of anything: 6 signs, and 12 where it has digits only.
secrets_script() {
    LC_ALL=C awk -F '\t' '
        BEGIN {
            for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i
            digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
            for (i = 0; i < 62; i++) sign[i] = substr(digits, i + 1, 1)
            sign[62] = "[-+]"; sign[63] = "[/_]"; mark = sprintf("%c", 1)
            power[0] = 1; for (i = 1; i < 16; i++) power[i] = 2 * power[i - 1] # some BusyBox have no ^
        }
        function hex(c) { return sprintf("%02x", code[c]) }
        function any_case(text,   i, c, out) {
            for (i = 1; i <= length(text); i++) { c = substr(text, i, 1); out = out (c ~ /[a-f]/ ? "[" c toupper(c) "]" : c) }
            return out
        }
        function one(c,   h, raw) { # an expression for every way to write the sign
            h = any_case(hex(c))
            if (c == "\\") return "(\\\\+|%(25)*" h "|\\\\+u00" h ")"
            raw = c ~ /[A-Za-z0-9]/ ? c : (c == "^" ? "\\\\*\\^" : "\\\\*[" c "]")
            if (c == " ") raw = raw "|[+]"
            if (c == "&") raw = raw "|&amp;"
            if (c == "<") raw = raw "|&lt;"
            if (c == ">") raw = raw "|&gt;"
            if (c == "\"") raw = raw "|&quot;|&#34;"
            return "(" raw "|%(25)*" h "|\\\\+u00" h ")"
        }
        function base64(text, skip,   i, value, bits, out, total, left) { # the signs that only the text decides, when it begins skip bytes behind a start
            left = (skip * 8) % 6; left = left ? 6 - left : 0
            value = 0; bits = 0; out = ""
            for (i = 1; i <= length(text); i++) {
                value = value * 256 + code[substr(text, i, 1)]; bits += 8
                if (i == 1 && left) { bits -= left; value %= power[bits] }
                while (bits >= 6) { bits -= 6; out = out sign[int(value / power[bits])]; value %= power[bits] }
            }
            return out
        }
        function rule(expression, name) { print "s" mark expression mark "[" name "]" mark "g" }
        { name = $1; text = substr($0, length($1) + 2); gsub(/[^A-Za-z0-9._-]/, "", name) }
        text ~ /[\001-\037\177]/ || length(text) < 6 || (text ~ /^[0-9.]+$/ && length(text) < 12) || text ~ /^\[.*\]$/ || seen[text]++ { next }
        {
            plain = ""; bytes = ""
            for (i = 1; i <= length(text); i++) { plain = plain one(substr(text, i, 1)); bytes = bytes any_case(hex(substr(text, i, 1))) }
            rule(plain, name)
            rule(bytes, name)
            for (skip = 0; skip < 3; skip++) rule(base64(text, skip), name)
        }'
}

secrets_forms() { # rules for what has the form of a credential, whosever it is
    local name=$SECRET_NAME any='[^]["'"'"'`,;&}<>[:space:]]' quote='["'"'"']?\\*'
    cat <<RULES
s#-----BEGIN [A-Z ]*PRIVATE KEY-----.*-----END [A-Z ]*PRIVATE KEY-----#[private-key]#g
/-----BEGIN [A-Z ]*PRIVATE KEY-----/,/-----END [A-Z ]*PRIVATE KEY-----/s#.*#[private-key]#
s#(://)[^[:space:]"'<>]*@#\1[userinfo]@#g
s#([Pp][Rr][Oo][Xx][Yy]\\\\*["']?[[:space:]]*[:=][[:space:]]*\\\\*["']?)[^][[:space:]"'@]+@#\1[userinfo]@#g
s#([Bb]earer|[Tt]oken)([[:space:]]+|%20)[A-Za-z0-9._~+/=-]*[0-9][A-Za-z0-9._~+/=-]{8,}#\1\2[hidden]#g
s#([Bb]asic)([[:space:]]+|%20)[A-Za-z0-9+/_-]{3,}[0-9A-Z+/=][A-Za-z0-9+/_=-]{3,}#\1\2[hidden]#g
s#(hf_[A-Za-z0-9]{3})[A-Za-z0-9]{10,}#\1[hidden]#g
s#(sk-[A-Za-z0-9]{3})[A-Za-z0-9_-]{12,}#\1[hidden]#g
s#(gh[opsur]_|github_pat_)[A-Za-z0-9_]{16,}#\1[hidden]#g
s#(AKIA|ASIA)[0-9A-Z]{16}#\1[hidden]#g
s#eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*#[hidden]#g
s#([?&](X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|[Ss]ig|[Ss]ignature|[Kk]ey|AWSAccessKeyId|[A-Za-z_-]*[Tt]oken)=)[^]["'&[:space:]]+#\1[hidden]#g
s#((^|[^A-Za-z0-9])[A-Za-z0-9_.-]*$name${quote}[[:space:]]*[:=][[:space:]]*$quote)$any{6,}#\1[hidden]#Ig
RULES
}

secrets_ready() { # -> $WORK/redact.sed, the rules, made once a run
    work_folder
    [[ ! -e "$WORK/redact.sed" ]] || return 0
    # The longest first: one may be a part of another.
    { secrets_all | awk '{ print length($0) "\t" $0 }' | sort -rn | cut -f 2- | secrets_script && secrets_forms; } >"$WORK/redact.new" ||
        die 1 'the list of secrets could not be made: nothing is shown without it'
    mv -- "$WORK/redact.new" "$WORK/redact.sed"
}

redact() { # stdin to stdout, line by line, each secret replaced by its name; after secrets_ready, which a pipe cannot do for us
    control_rules
    LC_ALL=C "${SED[@]}" -E -f "$WORK/redact.sed"
}

redacted() { # redacted TEXT -> REPLY
    REPLY=$1
    [[ -n "$1" ]] || return 0
    secrets_ready
    REPLY=$(redact <<<"$1")
}

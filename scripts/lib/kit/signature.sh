# shellcheck shell=bash
# Whose kit is it? Signatures of SHA256SUMS, by keys that the operator names or that the host demands.
#
# Rules: (1) "no signature" never passes where a key is demanded; (2) a key counts once, in however many files and forms it stands; (3) what
# the host demands, no option lowers; (4) nothing of the kit is run or sourced for it.

[[ -z "${SIGNATURE_SH:-}" ]] || return 0
SIGNATURE_SH=yes

# ---- signatures: this block stands in install.sh too, which must not source a file of a kit that is not trusted yet

KEYS_FOLDER=/etc/offline-kit/keys.d THRESHOLD_FILE=/etc/offline-kit/threshold

key_id() { # key_id KEY: the key ID of a public key in PEM form, on stdout; nothing when it is none, or more than one: openssl reads the first alone. One key has one ID, in whatever form its point is written
    [[ "$(grep -c -e '^-----BEGIN ' -- "$1" 2>/dev/null)" == 1 ]] || return 0
    openssl pkey -pubin -in "$1" -noout >/dev/null 2>&1 || return 0
    { openssl ec -pubin -in "$1" -conv_form uncompressed -param_enc named_curve -outform DER 2>/dev/null ||
        openssl pkey -pubin -in "$1" -outform DER 2>/dev/null; } | openssl dgst -sha256 -r 2>/dev/null | cut -c 1-16
}

# ---- one signature: this block stands in verify-kit.sh too, which no kit brings

verifies() { # verifies KEY SIGNATURE FILE: the signature of the file is by this key
    openssl dgst -sha256 -verify "$1" -signature "$2" "$3" >/dev/null 2>&1
}

# ---- end of one signature

is_signed_by() { # is_signed_by KEY KIT: one of the signatures in the kit or beside its folder is by this key
    local signature
    for signature in "$2"/SHA256SUMS*.sig "$2".SHA256SUMS*.sig; do
        [[ -f "$signature" ]] || continue
        ! verifies "$1" "$signature" "$2/SHA256SUMS" || return 0
    done
    return 1
}

harmless() { # harmless TEXT: without what a terminal would obey, on stdout: this block has nothing else to show it with
    printf '%s' "$1" | LC_ALL=C sed $'s/[\x01-\x09\x0b-\x1f\x7f]/?/g; s/\xc2[\x80-\x9f]/?/g; s/\xe2\x80[\x8b-\x8f\xa8-\xae]/?/g; s/\xe2\x81[\xa0-\xaf]/?/g'
}

demand_signers() { # demand_signers KIT LEAST KEY...: LEAST of the keys signed the kit, all when it is empty; else says who did not and fails
    local kit=$1 least=$2 key id counted=' ' absent='' signed=0 total=0
    shift 2
    type -P openssl >/dev/null || { printf 'error: keys are demanded, and openssl, which checks signatures, is missing\n' >&2 && return 1; }
    for key in "$@"; do
        id=$(key_id "$key")
        [[ "$id" =~ ^[0-9a-f]{16}$ ]] || { printf 'error: %s is not one public key in PEM form\n' "$(harmless "$key")" >&2 && return 1; }
        [[ "$counted" != *" $id "* ]] || continue
        counted+="$id " total=$((total + 1))
        if is_signed_by "$key" "$kit"; then signed=$((signed + 1)); else absent+=" $key"; fi
    done
    least=${least:-$total}
    [[ "$least" =~ ^[1-9][0-9]{0,3}$ ]] || { printf 'error: %s is no number of signers\n' "$(harmless "$least")" >&2 && return 1; }
    ((signed < least)) || return 0
    printf 'error: %s is not signed as demanded: %d of %d keys, %s wanted; not by:%s\n' "$(harmless "$kit")" "$signed" "$total" "$least" "$(harmless "$absent")" >&2
    return 1
}

demand_host_keys() { # demand_host_keys KIT: what the host demands, if it demands anything: every file in KEYS_FOLDER is a key
    local keys=() key least='' home=${KEYS_FOLDER%/*}
    [[ -e "$KEYS_FOLDER" || -L "$KEYS_FOLDER" || (-e "$home" && ! -x "$home") ]] || return 0
    if [[ ! -d "$KEYS_FOLDER" || ! -r "$KEYS_FOLDER" || ! -x "$KEYS_FOLDER" ]]; then
        printf 'error: this host may demand keys, and %s cannot be listed by this user\n' "$KEYS_FOLDER" >&2
        return 1
    fi
    for key in "$KEYS_FOLDER"/* "$KEYS_FOLDER"/.[!.]* "$KEYS_FOLDER"/..?*; do
        [[ ! -e "$key" && ! -L "$key" ]] || keys+=("$key")
    done
    ((${#keys[@]} > 0)) || return 0
    [[ ! -e "$THRESHOLD_FILE" ]] || read -r least <"$THRESHOLD_FILE" || true
    demand_signers "$1" "$least" "${keys[@]}"
}

# ---- end of signatures

host_signers() { # host_signers KIT -> REPLY: the key IDs of the keys of this host that signed the kit
    local key found=''
    for key in "$KEYS_FOLDER"/*; do
        [[ -f "$key" ]] || continue
        is_signed_by "$key" "$1" || continue
        found+="${found:+ }$(key_id "$key")"
    done
    REPLY=$found
}

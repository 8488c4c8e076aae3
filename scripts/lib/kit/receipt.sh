# shellcheck shell=bash
# The end of an installation: what was checked with which result, as a file for those who must file it and as a summary.
#
# Rules: (1) only what was seen in this run is written down; (2) valid JSON, every text escaped; (3) no secret in either;
# (4) the file of --json-receipt is written whatever the end, .state/receipt.json by a finished installation only.

[[ -z "${RECEIPT_SH:-}" ]] || return 0
RECEIPT_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/options.sh
. "${BASH_SOURCE[0]%/*}/../core/options.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/all.sh
. "${BASH_SOURCE[0]%/*}/../checks/all.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/settings.sh
. "${BASH_SOURCE[0]%/*}/settings.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/status.sh
. "${BASH_SOURCE[0]%/*}/../services/status.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/signature.sh
. "${BASH_SOURCE[0]%/*}/signature.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/checksums.sh
. "${BASH_SOURCE[0]%/*}/checksums.sh"

CHANGES=() BEGAN='' BEFORE='' SMOKE='' RECEIPT_FILE='' RECEIPT_RESULT=failed PREVIOUS_RECEIPT=''

receipt_argument() { # receipt_argument OPTION [FILE...] -> RECEIPT_FILE, in a folder that is there
    local folder
    argument "$@"
    [[ -n "$REPLY" && ! -d "$REPLY" ]] || usage_error "--json-receipt: '$REPLY' is no name for a file"
    folder=$(cd -- "$(dirname -- "$REPLY")" 2>/dev/null && pwd) || usage_error "--json-receipt: the folder of '$REPLY' is not there"
    [[ -w "$folder" ]] || usage_error "--json-receipt: $folder cannot be written"
    RECEIPT_FILE="$folder/${REPLY##*/}"
}

receipt_begin() {
    now && BEGAN=$REPLY
    receipt_before
    AT_EXIT=receipt_end
}

receipt_end() { # on the way out, whatever happened
    image_undo
    [[ -n "$RECEIPT_FILE" ]] || return 0
    if [[ -n "$DRY_RUN" && -z "$FAULT" ]]; then RECEIPT_RESULT='dry run'; fi
    if [[ "$RECEIPT_RESULT" == installed && -z "$FAULT" && -s "$WORK/receipt" ]]; then # the one that was kept: it names its own end
        write_file "$RECEIPT_FILE" 600 <"$WORK/receipt"
    else
        receipt_text | write_file "$RECEIPT_FILE" 600
    fi
}

receipt_changes() { # -> CHANGES: what this run changed, in words
    local key line after
    for key in ${IMAGES_LOADED[@]+"${IMAGES_LOADED[@]}"}; do CHANGES+=("image $key loaded"); done
    for key in ${ENV_ADDED[@]+"${ENV_ADDED[@]}"}; do CHANGES+=("setting $key written"); done
    while IFS= read -r line; do [[ -z "$line" ]] || CHANGES+=("$line"); done <<<"$APPLIED"
    container_ids
    after=$REPLY
    [[ "$after" == "$BEFORE" ]] || CHANGES+=('services started')
}

smoke_lines() { # the checks of $SMOKE, one a line, for people
    local line
    while IFS= read -r line; do say "    $line"; done < <(
        printf '%s\n' "$SMOKE" | sed 's/}, {/}\n{/g' |
            sed -n 's/.*"name": *"\([^"]*\)", *"ok": *\(true\|false\), *"seconds": *\([0-9.]*\), *"detail": *"\(.*\)".*/\2 \1 (\3 s): \4/p' |
            sed 's/^true/ok  /; s/^false/FAIL/; s/\\\(["\\]\)/\1/g'
    )
}

json_list() { # json_list TEXT... -> REPLY: a JSON array of strings
    local text out='' separator=''
    for text in "$@"; do
        json "$text"
        out+="$separator$REPLY"
        separator=', '
    done
    REPLY="[$out]"
}

receipt_before() { # -> PREVIOUS_RECEIPT: the digest of the receipt before this run's, of this kit or of the version that it was upgraded from
    local file="$STATE/receipt.json" previous
    if [[ ! -e "$file" && -r "$STATE/previous" ]]; then
        previous=$(<"$STATE/previous")
        file="$previous/.state/receipt.json"
    fi
    [[ ! -r "$file" ]] || PREVIOUS_RECEIPT=sha256:$(sha256sum <"$file" | cut -c 1-64)
}

receipt_keep() { # the receipt that lies here stays, under its digest: each names the one before
    local sum
    [[ -r "$STATE/receipt.json" ]] || return 0
    mkdir -p "$STATE/receipts"
    sum=$(sha256sum <"$STATE/receipt.json")
    write_file "$STATE/receipts/${sum:0:16}.json" 600 <"$STATE/receipt.json"
}

receipt_images() { # -> REPLY: a JSON array
    local key how out='' separator=''
    images
    for key in "${KEYS[@]}"; do
        image_expect "$key"
        how='not loaded'
        [[ " ${IMAGES_SKIPPED[*]-} " != *" $key "* ]] || how='already there'
        [[ " ${IMAGES_LOADED[*]-} " != *" $key "* ]] || how=loaded
        json "$key" && out+="$separator{\"image\": $REPLY"
        json "${EXPECT[NAME]}" && out+=", \"name\": $REPLY"
        json "${EXPECT[TAG]}" && out+=", \"tag\": $REPLY"
        json "${EXPECT[CONFIG]}" && out+=", \"config\": $REPLY"
        json "${EXPECT[MANIFEST]}" && out+=", \"manifest\": $REPLY"
        json "$how" && out+=", \"result\": $REPLY}"
        separator=', '
    done
    REPLY="[$out]"
}

receipt_models() { # -> REPLY: a JSON array: each model of the kit, and how many of its files SHA256SUMS names
    local count key out='' separator=''
    while read -r count key; do
        json "$key"
        out+="$separator{\"model\": $REPLY, \"files\": $count}"
        separator=', '
    done < <(sed -n 's|^.\{66\}models/\([^/]*\)/.*|\1|p' "$KIT/SHA256SUMS" 2>/dev/null | sort | uniq -c)
    REPLY="[$out]"
}

receipt_text() { # on stdout
    printf '{\n  "receipt": 1,\n'
    pair result "$RECEIPT_RESULT"
    pair error "$FAULT"
    pair kit "${KIT_FACT[KIT_NAME]}"
    pair version "${KIT_FACT[KIT_VERSION]:-}"
    pair platform "${KIT_FACT[KIT_PLATFORM]:-}"
    fingerprint && pair fingerprint "$REPLY"
    pair previous_receipt "$PREVIOUS_RECEIPT"
    host_signers "$KIT" && pair signed_by "$REPLY"
    pair folder "$KIT"
    pair host "$(uname -n)"
    pair kernel "$(uname -r)"
    pair started "$BEGAN"
    now && pair finished "$REPLY"
    pair docker "$DOCKER_VERSION"
    pair compose "$COMPOSE_VERSION"
    device && pair device "$REPLY"
    wanted_with && pair with "$REPLY"
    pair lock "$(sed -n 's/^\([0-9a-f]\{64\}\)  lock\.json$/sha256:\1/p' "$KIT/SHA256SUMS" 2>/dev/null)"
    json_list ${SUMS_NOTES[@]+"${SUMS_NOTES[@]}"}
    printf '  "files": {"result": "%s", "count": %d, "read": %d, "proven_earlier": %d, "bytes_read": %d, "seconds": %d, "sha256sums": "%s", "notes": %s},\n' \
        "$SUMS_RESULT" "$SUMS_FILES" "$SUMS_READ" "$((SUMS_FILES - SUMS_READ))" "$SUMS_BYTES" "$SUMS_SECONDS" "$SUMS_DIGEST" "$REPLY"
    checks_json && printf '  "host_checks": %s,\n' "$REPLY"
    receipt_models && printf '  "models": %s,\n' "$REPLY"
    receipt_images && printf '  "images": %s,\n' "$REPLY"
    status_rows && printf '  "services": %s,\n' "$REPLY"
    printf '  "smoke": %s,\n' "${SMOKE:-null}"
    json_list ${CHANGES[@]+"${CHANGES[@]}"}
    printf '  "changed": %s\n}\n' "$REPLY"
}

summary() { # on stdout: the last thing that an operator reads
    local port service host
    if [[ -n "$DRY_RUN" ]]; then
        say 'dry run: nothing was changed'
        return 0
    fi
    host=$(uname -n)
    printf '\n%s%s %s is installed%s\n' "$BOLD" "${KIT_FACT[KIT_NAME]}" "${KIT_FACT[KIT_VERSION]:-}" "$PLAIN"
    if ((${#CHANGES[@]} == 0)); then printf 'Everything was as it should be: nothing was changed.\n'; fi
    if [[ -z "$START" ]]; then
        printf 'Nothing was started (--no-start). Start:   %s/scripts/deploy.sh start\n' "$KIT"
        return 0
    fi
    printf '\n'
    while read -r port service; do
        printf '  http://%s:%s   %s\n' "$host" "$port" "$service"
    done <"$STATE/ports"
    printf '\n  API key   VLLM_API_KEY in %s\n' "$KIT/.env"
    printf '  status    %s/scripts/deploy.sh status\n' "$KIT"
    printf '  logs      %s/scripts/deploy.sh logs -f\n' "$KIT"
    printf '  receipt   %s\n' "$STATE/receipt.json"
}

# shellcheck shell=bash
# The receipt of a switch: an upgrade or a rollback is an installation too, and stands in the same chain.
#
# Rules: (1) run by the version that switched, with the folder that served before; (2) it names the digest of the receipt that was the
# last one there, whichever folder it lies in, and takes those before it along, so that the chain outlives that folder; (3) only what is
# seen now is written down; the questions were asked by the switch.

[[ -z "${SWITCH_RECEIPT_SH:-}" ]] || return 0
SWITCH_RECEIPT_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/receipt.sh
. "${BASH_SOURCE[0]%/*}/../kit/receipt.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/images.sh
. "${BASH_SOURCE[0]%/*}/../kit/images.sh"

receipts_take() { # receipts_take OLD: the receipts of the version before, each under its digest
    local file sum
    mkdir -p "$STATE/receipts"
    for file in "$1"/.state/receipts/*.json "$1/.state/receipt.json"; do
        [[ -f "$file" && ! -L "$file" && -r "$file" ]] || continue
        sum=$(sha256sum <"$file")
        [[ -e "$STATE/receipts/${sum:0:16}.json" ]] || write_file "$STATE/receipts/${sum:0:16}.json" 600 <"$file"
    done
}

verb_receipt() { # receipt OLD RESULT
    local old=${1:-}
    [[ -n "${OFFLINE_KIT_FOR:-}" && -f "$old/.state/compose.yaml" && $# == 2 ]] || usage_error 'receipt is a part of upgrade and rollback'
    lock_kit
    work_folder
    project
    now && BEGAN=$REPLY
    [[ ! -f "$old/.state/receipt.json" ]] || PREVIOUS_RECEIPT=sha256:$(sha256sum <"$old/.state/receipt.json" | cut -c 1-64)
    receipts_take "$old"
    state_demand
    sums_check remember
    checks_run
    images_load
    status_read
    # shellcheck disable=SC2034 # receipt.sh writes both
    CHANGES=("services were switched from $old") RECEIPT_RESULT=$2
    receipt_text >"$WORK/receipt"
    receipt_keep
    write_file "$STATE/receipt.json" 600 <"$WORK/receipt"
}

#!/bin/sh
# Checks the signatures of a kit, and then its files, before anything of the kit itself is run: it is published beside the
# bundle, with its own sum in verify-kit.sh.sha256. Needs sh, openssl, sha256sum, find, awk, grep and sort.
#
# Rules: (1) every key given must have signed; (2) a signature is one of the list SHA256SUMS, which names every other file by
# digest: what it does not name is an end, .env and .state/ too; (3) nothing of the kit is executed, nothing but plain files opened;
# (4) of a delta, all that is here is checked, and what is to come is counted: install.sh checks that as it comes.
set -eu
LC_ALL=C
export LC_ALL

# ---- one signature: this block stands in verify-kit.sh too, which no kit brings

verifies() { # verifies KEY SIGNATURE FILE: the signature of the file is by this key
    openssl dgst -sha256 -verify "$1" -signature "$2" "$3" >/dev/null 2>&1
}

# ---- end of one signature

if [ $# -lt 2 ] || [ "$1" = --help ]; then
    printf 'Usage: %s KIT KEY.pub...\n\nProves that each KEY signed the unpacked kit in the folder KIT, and that its files are those that were signed.\n' "$0" >&2
    printf 'Exit codes: 0 signed and whole; 2 wrong usage; 20 damaged; 22 not signed by each key\n' >&2
    exit 2
fi
harmless() { # harmless TEXT: with nothing that a terminal would obey: names in a kit are whoever's that carried it
    printf '%s' "$1" | LC_ALL=C tr -c '\n -~' '?'
}
damaged() {
    printf 'error: %s; do not install it\n' "$(harmless "$1")" >&2
    exit 20
}
kit=$(cd -- "$1" && pwd) || exit 2
shift
if [ ! -f "$kit/SHA256SUMS" ] || [ -h "$kit/SHA256SUMS" ]; then
    printf 'error: %s is not an unpacked kit\n' "$kit" >&2
    exit 2
fi
for key in "$@"; do
    [ -r "$key" ] || { printf 'error: the key %s cannot be read\n' "$(harmless "$key")" >&2 && exit 2; }
    [ "$(grep -c -e '^-----BEGIN ' -- "$key")" = 1 ] || { printf 'error: %s is not one public key in PEM form\n' "$(harmless "$key")" >&2 && exit 2; }
    signed=''
    for signature in "$kit"/SHA256SUMS*.sig "$kit".SHA256SUMS*.sig; do
        if [ -f "$signature" ] && verifies "$key" "$signature" "$kit/SHA256SUMS"; then
            signed=$signature
            break
        fi
    done
    [ -n "$signed" ] || { printf 'error: %s did not sign %s; do not install it\n' "$(harmless "$key")" "$(harmless "$kit")" >&2 && exit 22; }
    printf 'signed by %s: %s\n' "$(harmless "$key")" "$(harmless "$signed")"
done
cd -- "$kit"
strange=$(find . ! -type f ! -type d | head -n 5)
[ -z "$strange" ] || damaged "these are neither files nor folders: $strange"
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
: >"$work/needs"
[ ! -f delta/needs ] || cut -f 3 delta/needs | grep -E '^(images/blobs/sha256|models|files)/' >"$work/needs" || true
awk -v needs="$work/needs" -v delta="$([ ! -f delta/needs ] || echo yes)" '
    BEGIN { while ((getline path < needs) > 0) needed[path] }
    { path = substr($0, 67) }
    path in needed { next }
    delta != "" && path == "bundle.json" { path = "delta/bundle.json" }
    { print substr($0, 1, 66) path }' SHA256SUMS >"$work/list"
extra=$(find . -type f | awk -v list="$work/list" -v delta="$([ ! -f delta/needs ] || echo yes)" '
    BEGIN { while ((getline line < list) > 0) listed[substr(line, 67)] }
    { path = substr($0, 3) }
    path in listed || path ~ /^SHA256SUMS(\.[0-9a-f]+)?(\.sig|\.sigstore\.json)?$/ || (delta != "" && (path == "bundle.json" || path == "delta/needs")) { next }
    { print "  " path }')
[ -z "$extra" ] || damaged "nobody signed for these files, which the list does not name:
$extra
"
sha256sum --check --strict --quiet "$work/list" >"$work/said" 2>&1 || damaged "the kit is damaged:
$(cat "$work/said")
"
if [ -f delta/needs ]; then
    printf 'every file that is here is as the signed list says; a delta: %s more are to come (install.sh --base)\n' "$(grep -c . "$work/needs")"
else
    printf 'every file is as the signed list says\n'
fi

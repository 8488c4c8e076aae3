# shellcheck shell=bash
# Loading the kit's images into Docker, one by one, each held against what the kit says of it.
#
# Rules: (1) an image counts as there when its ID is the digest of its configuration, manifest or index (which of them
# depends on Docker's image store) AND its layers are the expected ones in their order; (2) after loading the same
# is asked again, and a container is created as proof: some engines accept a broken image with exit code 0; (3) a
# load that failed leaves no tag of ours behind and gives back a tag that it took; (4) blobs are proven before they
# go to Docker, and tar's failures count as much as Docker's.

[[ -z "${IMAGES_SH:-}" ]] || return 0
IMAGES_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/checksums.sh
. "${BASH_SOURCE[0]%/*}/checksums.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/failure_reasons.sh
. "${BASH_SOURCE[0]%/*}/../services/failure_reasons.sh"

declare -A EXPECT=()
EXPECT_LAYERS='' IMAGES_LOADED=() IMAGES_SKIPPED=()
IMAGE_UNDO=() IMAGE_LABEL='' IMAGE_BEGAN=0
AT_EXIT=image_undo

image_expect() { # image_expect KEY -> EXPECT, EXPECT_LAYERS
    local line file="$KIT/deploy/images/$1/expect" digest='^(DIFF_ID|CONFIG|MANIFEST|INDEX)=sha256:[0-9a-f]{64}$'
    EXPECT=([NAME]='' [TAG]='' [CONFIG]='' [MANIFEST]='' [INDEX]='' [CUDA]='' [KERNELS]='' [SIZE]=0)
    EXPECT_LAYERS=''
    [[ -r "$file" ]] || die "$EXIT_DAMAGED" "the kit is damaged: deploy/images/$1/expect is missing"
    while IFS= read -r line || [[ -n "$line" ]]; do
        case "$line" in
            NAME=* | TAG=* | CUDA=* | KERNELS=*) ;;
            SIZE=*) [[ "$line" =~ ^SIZE=[0-9]+$ ]] || die "$EXIT_DAMAGED" "deploy/images/$1/expect: '$line'" ;;
            *) [[ "$line" =~ $digest ]] || die "$EXIT_DAMAGED" "deploy/images/$1/expect: '$line'" ;;
        esac
        if [[ "$line" == DIFF_ID=* ]]; then EXPECT_LAYERS+=" ${line#*=}"; else EXPECT[${line%%=*}]=${line#*=}; fi
    done <"$file"
    [[ -n "${EXPECT[TAG]}" && -n "${EXPECT[CONFIG]}" ]] ||
        die "$EXIT_DAMAGED" "deploy/images/$1/expect: TAG or CONFIG is missing"
}

image_differs() { # what is not as expected of the image that EXPECT describes -> REPLY; status 1: nothing
    local found id layers
    REPLY=''
    if ! found=$(docker image inspect --format '{{.Id}}{{range .RootFS.Layers}} {{.}}{{end}}' "${EXPECT[TAG]}" 2>/dev/null); then
        REPLY='it is not there'
        return 0
    fi
    id=${found%% *}
    layers=${found#"$id"} # with a space before each; none of an image without layers
    case "$id" in
        "${EXPECT[CONFIG]}" | "${EXPECT[MANIFEST]}" | "${EXPECT[INDEX]}") ;;
        *) REPLY="its ID is $id, not ${EXPECT[CONFIG]}" && return 0 ;;
    esac
    [[ "$layers" != "$EXPECT_LAYERS" ]] || return 1
    REPLY='its layers are not those that the kit names'
}

image_runs() { # Docker can make a container of the tag: status 0; else its complaint -> REPLY
    local name="offline-kit-proof-$$"
    once_label
    if REPLY=$(docker create --label "$REPLY" --pull never --network none --name "$name" "${EXPECT[TAG]}" true 2>&1); then
        docker rm --force "$name" >/dev/null 2>&1 || true
        return 0
    fi
    return 1
}

image_blobs() { # the blobs of image KEY, checked against their names: what is wrong -> REPLY; status 1: nothing is
    local list="$KIT/deploy/images/$1/files" wrong
    REPLY="deploy/images/$1/files is missing or names something else than blobs"
    [[ -s "$list" ]] || return 0
    ! grep -qvE '^blobs/sha256/[0-9a-f]{64}$' "$list" || return 0
    work_folder
    sums_tool
    rm -rf "$WORK/batches"
    : >"$WORK/trouble"
    : >"$WORK/small"
    sums_unproven "$list" >"$WORK/big"
    SUMS_TO_READ=$(grep -c . "$WORK/big") || true
    run_foreground sums_tick sums_hash "$KIT/images"
    wrong=$(awk 'FILENAME == ARGV[1] { found[substr($0, 67)] = substr($0, 1, 64); next }
        !($0 in found) { print "missing or unreadable: images/" $0; next }
        $0 !~ (found[$0] "$") { print "changed: images/" $0 }' \
        "$WORK/hashed" "$WORK/big")
    [[ -n "$wrong" ]] || return 1
    REPLY=${wrong//$'\n'/, }
}

sums_unproven() { # the lines of LIST, paths below images/, that .state/proven does not vouch for as they are now
    local proven="$STATE/proven"
    [[ -n "$STATE_IS_OURS" && -f "$proven" && -r "$proven" ]] || proven=/dev/null
    # shellcheck disable=SC2016 # the inner shell expands
    tr '\n' '\0' <"$1" | TZ=UTC0 xargs -0 -r bash -c 'cd "$0" && stat -c "%s:%y:%z:%i	images/%n" "$@"' "$KIT/images" \
        >"$WORK/present" 2>/dev/null || true
    awk 'FILENAME == ARGV[1] { split($0, field, "\t"); proven[field[3]] = field[2]; next }
        FILENAME == ARGV[2] { split($0, field, "\t"); if (proven[field[2]] == field[1]) fine[field[2]] = 1; next }
        !("images/" $0 in fine)' "$proven" "$WORK/present" "$1"
}

image_stream() { # an archive with image KEY alone, as docker load reads it; $WORK/tar-failed appears when tar failed
    tar -cf - -C "$KIT/deploy/images/$1" oci-layout index.json manifest.json -C "$KIT/images" -T "$KIT/deploy/images/$1/files" ||
        : >"$WORK/tar-failed"
}

image_pipe() { image_stream "$1" 2>"$WORK/tar-says" | docker load --quiet >"$WORK/load-says" 2>&1; }

image_tick() { progress "    $IMAGE_LABEL: $((SECONDS - IMAGE_BEGAN)) s"; }

image_trouble() { # what tar and Docker said, in one line -> REPLY
    REPLY=$(cat "$WORK/tar-says" "$WORK/load-says" 2>/dev/null | tr '\n' ' ')
    REPLY=${REPLY:0:600}
}

image_forget() { # image_forget KEY EARLIER: removes our tag; the source's name goes back to the image EARLIER, if it had one
    docker image rm --force "${EXPECT[TAG]}" >/dev/null 2>&1 || true
    [[ -n "${EXPECT[NAME]}" && "${EXPECT[NAME]}" != *@* ]] || return 0
    if [[ -n "$2" ]]; then
        docker tag "$2" "${EXPECT[NAME]}" >/dev/null 2>&1 || true
    else
        docker image rm --force "${EXPECT[NAME]}" >/dev/null 2>&1 || true
    fi
}

image_before() { # image_before ID: what the source's name meant before a load takes it, kept for deploy.sh clean
    [[ -n "$1" ]] && ! grep -qF "${EXPECT[NAME]} " "$STATE/names-before" 2>/dev/null || return 0
    mkdir -p "$STATE"
    { cat "$STATE/names-before" 2>/dev/null || true; printf '%s %s\n' "${EXPECT[NAME]}" "$1"; } | write_file "$STATE/names-before" 644
}

image_load() { # image_load KEY: nothing to do when it is there; dies with 5, and the image's name, when it cannot be had
    local key=$1 earlier='' wrong=''
    image_expect "$key"
    human "${EXPECT[SIZE]}"
    IMAGE_LABEL="$key (${EXPECT[NAME]:-${EXPECT[TAG]}}, $REPLY)" IMAGE_BEGAN=$SECONDS
    if ! image_differs; then
        IMAGES_SKIPPED+=("$key")
        say "    $IMAGE_LABEL: already there"
        return 0
    fi
    if [[ -n "$DRY_RUN" ]]; then
        say "would load: $IMAGE_LABEL"
        return 0
    fi
    [[ -z "${EXPECT[NAME]}" ]] || earlier=$(docker image inspect --format '{{.Id}}' "${EXPECT[NAME]}" 2>/dev/null) || earlier=''
    image_before "$earlier"
    ! image_blobs "$key" || image_fail "$key" "$REPLY" "unpack the bundle again; scripts/verify.sh checks all files"
    rm -f "$WORK/tar-failed"
    say "    $IMAGE_LABEL: loading"
    IMAGE_UNDO=("$key" "$earlier")
    if ! run_foreground image_tick image_pipe "$key"; then
        image_trouble
        wrong="docker load failed: $REPLY"
    elif [[ -e "$WORK/tar-failed" ]]; then
        image_trouble
        wrong="reading it from the kit failed: $REPLY"
    elif image_differs; then
        wrong="after loading, $REPLY"
    elif ! image_runs; then
        wrong="no container can be made of it: ${REPLY//$'\n'/ }"
    fi
    if [[ -n "$wrong" ]]; then
        image_undo
        docker_silent || service_reason "$(cat "$WORK/tar-says" "$WORK/load-says" 2>/dev/null)"$'\n'"$wrong"
        image_fail "$key" "$wrong" "${REPLY:-"docker system df and df -h show whether Docker's disk is full; journalctl -u docker says more"}"
    fi
    IMAGE_UNDO=()
    IMAGES_LOADED+=("$key")
    say "    $IMAGE_LABEL: loaded in $((SECONDS - IMAGE_BEGAN)) s, content and a test container as they should be"
}

image_undo() { # also on the way out after a signal
    ((${#IMAGE_UNDO[@]} == 2)) || return 0
    image_forget "${IMAGE_UNDO[@]}"
    IMAGE_UNDO=()
}

image_fail() { die "$EXIT_LOAD" "image '$1' (${EXPECT[NAME]:-${EXPECT[TAG]}}) was not loaded: $2" "$3"; }

images_load() { # images_load [KEY...]: the named images, or all
    local key
    need docker tar
    work_folder
    if (($# == 0)); then
        images
        set -- "${KEYS[@]}"
    fi
    for key in "$@"; do image_load "$key"; done
}


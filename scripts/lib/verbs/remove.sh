# shellcheck shell=bash
# Taking away what this kit made on the host, and nothing else.
#
# Rules: (1) containers and networks by this kit's project and folder, images by this kit's tags, nothing by age or state: never a
# prune; (2) an image that a container or another installed kit uses stays; a name that an image had before it was loaded
# goes back to what it named; (3) clean keeps what is the operator's (.env, keys, config/, own models); uninstall leaves the
# folder as it was unpacked, but for own models; (4) without --force everything is only named.

[[ -z "${REMOVE_SH:-}" ]] || return 0
REMOVE_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/images.sh
. "${BASH_SOURCE[0]%/*}/../kit/images.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/host_record.sh
. "${BASH_SOURCE[0]%/*}/../kit/host_record.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/operator_files.sh
. "${BASH_SOURCE[0]%/*}/../kit/operator_files.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=verbs/boot.sh
. "${BASH_SOURCE[0]%/*}/boot.sh"

FORCE='' GONE=0

remove() { # remove WHAT COMMAND...: or only tells it
    GONE=$((GONE + 1))
    if [[ -z "$FORCE" || -n "$DRY_RUN" ]]; then
        say "    would remove: $1"
    elif "${@:2}" >/dev/null; then
        say "    removed: $1"
    else
        warn "could not be removed: $1"
    fi
}

remove_containers() { # of this project, made from this folder
    local id name folder
    [[ -z "$FORCE" || -n "$DRY_RUN" ]] || once_sweep
    while read -r id name folder; do
        [[ "$folder" == "$KIT" || ! -e "$folder/deploy/kit.env" ]] || continue
        remove "container $name" docker rm --force "$id"
    done < <(docker ps --all --filter "label=com.docker.compose.project=$PROJECT" \
        --format '{{.ID}} {{.Names}} {{.Label "com.docker.compose.project.working_dir"}}')
}

remove_networks() { # of this project, unless another version's containers are on them
    local id name
    [[ -z "$(docker ps --all --quiet --filter "label=com.docker.compose.project=$PROJECT")" || -z "$FORCE" ]] || return 0
    while read -r id name; do
        [[ -n "$id" ]] || continue
        remove "network $name" docker network rm "$id"
    done < <(docker network ls --filter "label=com.docker.compose.project=$PROJECT" --format '{{.ID}} {{.Name}}')
}

kits_beside() { # folders of other installed kits: beside this one, and this kit's other versions; a line each
    local folder
    value_of "$STATE/upgrade" TO || true
    for folder in "${KIT%/*}"/*/ "$(cat "$STATE/previous" 2>/dev/null || true)" "$REPLY"; do
        [[ -n "$folder" && -f "$folder/.state/compose.yaml" && -f "$folder/deploy/kit.env" ]] || continue
        folder=$(readlink -f -- "$folder")
        [[ "$folder" == "$KIT" ]] || printf '%s\n' "$folder"
    done | sort -u
}

image_used() { # image_used TAG: by a container of somebody else, or by another installed kit -> REPLY: by whom
    local folder id
    while IFS= read -r folder; do
        grep -qxE "KIT_IMAGE_[A-Za-z0-9_]+=$1" "$folder/deploy/kit.env" && REPLY=$folder && return 0
    done < <(kits_beside)
    id=$(docker ps --all --quiet --filter "ancestor=$1" --format '{{.Names}} {{.Label "com.docker.compose.project.working_dir"}}' |
        KIT=$KIT awk '{ name = $1; sub(/^[^ ]* ?/, ""); if ($0 != ENVIRON["KIT"]) found = name } END { print found }')
    REPLY="the container $id"
    [[ -n "$id" ]]
}

remove_image() { # remove_image KEY
    local tag id named earlier
    image_expect "$1"
    tag=${EXPECT[TAG]}
    id=$(docker image inspect --format '{{.Id}}' "$tag" 2>/dev/null) || return 0
    if image_used "$tag"; then
        say "    stays: image $tag, which $REPLY uses"
        return 0
    fi
    named=$(docker image inspect --format '{{.Id}}' "${EXPECT[NAME]:-none}" 2>/dev/null) || named=''
    earlier=$(NAME=${EXPECT[NAME]} awk '$1 == ENVIRON["NAME"] { print $2; exit }' "$STATE/names-before" 2>/dev/null) || earlier=''
    if [[ -n "$named" && "$named" == "$id" && "$earlier" != "$id" ]]; then
        if [[ -n "$earlier" ]] && docker image inspect "$earlier" >/dev/null 2>&1; then
            [[ -z "$FORCE" ]] || docker tag "$earlier" "${EXPECT[NAME]}"
        else
            remove "image ${EXPECT[NAME]}" docker image rm "${EXPECT[NAME]}"
        fi
    fi
    remove "image $tag" docker image rm "$tag"
}

remove_all() {
    local key
    need docker
    project
    step "Containers and networks of ${KIT_FACT[KIT_NAME]}"
    remove_containers
    remove_networks
    step 'Images'
    images
    for key in "${KEYS[@]}"; do remove_image "$key"; done
}

remove_options() { # [--force|--yes] -> FORCE
    while (($# > 0)); do
        case "$1" in
            --force | --yes) FORCE=yes ;;
            *) usage_error "unknown option or word '$1'" ;;
        esac
        shift
    done
}

remove_end() { # remove_end VERB: without --force the end is here, with 2
    [[ -z "$FORCE" && -z "$DRY_RUN" ]] || return 0
    die "$EXIT_USAGE" 'nothing was removed' "scripts/deploy.sh $1 --force does it; scripts/deploy.sh backup keeps your settings and keys"
}

verb_clean() {
    local entry
    remove_options "$@"
    lock_kit
    remove_all
    remove_end clean
    [[ -z "$DRY_RUN" ]] || return 0
    step "$STATE"
    # What tells the operator's from the kit's stays, and so do keys and certificate.
    for entry in "$STATE"/*; do
        case "${entry##*/}" in
            installed | record | config.orig | keys | tls | lock | lock.d) ;;
            *) [[ ! -e "$entry" ]] || remove "${entry#"$KIT"/}" rm -rf -- "$entry" ;;
        esac
    done
    say '    .env, keys and config/ are as they were: ./install.sh brings the services back'
}

verb_uninstall() {
    local name
    remove_options "$@"
    lock_kit
    remove_all
    if boot_enabled; then remove "$REPLY" boot_remove; fi
    own_models "$KIT"
    remove_end uninstall
    [[ -z "$DRY_RUN" ]] || return 0
    step "$KIT"
    if [[ -d "$STATE/config.orig" ]]; then
        own_config "$STATE/config.orig"
        say '    config/ is as the bundle brought it'
    fi
    remove '.env' rm -f -- "$KIT/.env"
    record_remove
    remove '.state' rm -rf -- "$STATE"
    for name in ${OWN_MODELS[@]+"${OWN_MODELS[@]}"}; do say "    stays: models/$name, which is yours: move it away before another install.sh"; done
    say "    the folder is as it was unpacked; remove it with: rm -r '$KIT'"
}

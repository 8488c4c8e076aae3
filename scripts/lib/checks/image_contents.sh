# shellcheck shell=bash
# Whether the images of the kit can be what they are carried for.
#
# Rules: (1) only what the kit says of them is read; (2) what is in Docker already is judged when it is loaded.

[[ -z "${IMAGE_CONTENTS_SH:-}" ]] || return 0
IMAGE_CONTENTS_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/findings.sh
. "${BASH_SOURCE[0]%/*}/../core/findings.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/images.sh
. "${BASH_SOURCE[0]%/*}/../kit/images.sh"

check_images() { # an image without layers has no program: Docker 20.10 does not keep it, and nothing could be started of it
    local key empty=''
    images
    for key in "${KEYS[@]}"; do
        image_expect "$key"
        [[ -n "$EXPECT_LAYERS" ]] || empty+="${empty:+, }$key (${EXPECT[NAME]:-${EXPECT[TAG]}})"
    done
    if [[ -n "$empty" ]]; then
        finding FAIL images "no layers, and so no program: $empty" 'build the bundle with the image that was meant: this one holds a configuration alone'
    else
        finding OK images "${#KEYS[@]}, each with layers"
    fi
}

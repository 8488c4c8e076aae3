# shellcheck shell=bash
# What is the operator's own in a kit: edits of config/, models beside those of the bundle.
#
# Rules: (1) a file of config/ is replaced by a rename, and only where it differs; (2) models are never written into, only
# taken over whole, by hard links where that is possible and nobody else can change what is behind them.

[[ -z "${OPERATOR_FILES_SH:-}" ]] || return 0
OPERATOR_FILES_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/start.sh
. "${BASH_SOURCE[0]%/*}/../services/start.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=kit/private_files.sh
. "${BASH_SOURCE[0]%/*}/private_files.sh"

OWN_MODELS=()

own_models() { # own_models KIT -> OWN_MODELS: the folders below models/ that SHA256SUMS of that kit does not name
    local folder name
    OWN_MODELS=()
    for folder in "$1"/models/*/; do
        [[ -d "$folder" ]] || continue
        name=$(basename -- "$folder")
        NAME="models/$name/" awk 'index(substr($0, 67), ENVIRON["NAME"]) == 1 { found = 1 } END { exit !found }' "$1/SHA256SUMS" ||
            OWN_MODELS+=("$name")
    done
}

own_config() { # own_config FOLDER: config/ gets the files of FOLDER and no others
    local path
    (cd "$1" && find . -type f) | while IFS= read -r path; do
        ! cmp -s "$1/$path" "$KIT/config/$path" || continue
        mkdir -p "$(dirname -- "$KIT/config/$path")"
        write_file "$KIT/config/$path" 644 <"$1/$path"
    done
    (cd "$KIT/config" && find . -type f) | while IFS= read -r path; do
        [[ -e "$1/$path" ]] || rm -f -- "$KIT/config/$path"
    done
}

own_model() { # own_model FOLDER: what somebody else could change in it becomes a copy, what is no plain file goes
    local path
    find "$1" ! -type d ! -type f -exec rm -f -- {} +
    find "$1" -type f | while IFS= read -r path; do
        ! own_inode "$path" || continue
        if ! { cp -- "$path" "$STATE/model.file" && chmod go-w,u-s,g-s "$STATE/model.file" && mv -f -- "$STATE/model.file" "$path"; }; then
            die 1 'a model could not be copied' "make room on the disk of $KIT"
        fi
    done
    find "$1" -type d -exec chmod go-w {} +
}

own_take_models() { # own_take_models OTHER: the operator's own models of the kit OTHER come here, unless they are here
    local name
    own_models "$1"
    for name in ${OWN_MODELS[@]+"${OWN_MODELS[@]}"}; do
        if [[ -e "$KIT/models/$name" ]]; then say "    models/$name: is here already" && continue; fi
        rm -rf -- "$STATE/model.partial"
        if ! cp -Rl "$1/models/$name" "$STATE/model.partial" 2>/dev/null; then
            rm -rf -- "$STATE/model.partial"
            cp -R "$1/models/$name" "$STATE/model.partial" || die 1 "models/$name could not be copied" "make room on the disk of $KIT"
        fi
        own_model "$STATE/model.partial"
        mv "$STATE/model.partial" "$KIT/models/$name"
        say "    models/$name: yours, taken over"
    done
}

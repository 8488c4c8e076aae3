# shellcheck shell=bash
# Who made .state/? A record outside of the kit says which folders were installed on this host: what travels with a kit cannot say it.
#
# The record: /var/lib/offline-kit/kits/ID for root, ~/.local/state/offline-kit/kits/ID for others; .state/record names the ID. It
# holds the digest of SHA256SUMS, the folder's path and its inode.
#
# Rules: (1) .state/ is this host's when a record of a user who could change the kit anyway fits its SHA256SUMS, and its path or
# its inode: a folder that was moved, or brought back from a backup to its place, stays known; a copy does not; (2) what .state/ and
# .env of any other folder say is not believed: no file counts as the operator's or as proven; (3) only an operator's word (--adopt)
# makes a .state/ of somewhere else this host's.

[[ -z "${HOST_RECORD_SH:-}" ]] || return 0
HOST_RECORD_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/lock.sh
. "${BASH_SOURCE[0]%/*}/../core/lock.sh"

STATE_IS_OURS='' STATE_DEMANDED='' ADOPT='' RECORD_SAYS=''
STATE_FOREIGN=()

record_folder() { # -> REPLY: where records of this user lie
    if ((EUID == 0)); then REPLY=/var/lib/offline-kit/kits; else REPLY="${HOME:-$(printf '%s' ~)}/.local/state/offline-kit/kits"; fi
}

record_facts() { # what makes this folder this one, on stdout, as KEY=value
    local digest place
    digest=$(sha256sum <"$KIT/SHA256SUMS" 2>/dev/null) || digest=''
    place=$(stat -c '%d:%i' -- "$KIT")
    printf 'SUMS=%s\nKIT=%s\nPLACE=%s\n' "${digest:0:64}" "$KIT" "$place"
}

record_fits() { # record_fits FILE OWNER: it is a record by the user OWNER (a number), of this folder with this SHA256SUMS
    local facts sums place
    [[ -f "$1" && ! -L "$1" && "$(stat -c %u -- "$1")" == "$2" ]] || return 1
    facts=$(record_facts)
    value_of "$1" SUMS || return 1
    sums=$REPLY
    value_of "$1" PLACE || return 1
    place=$REPLY
    value_of "$1" KIT || return 1
    [[ -n "$sums" && "$facts" == "SUMS=$sums"$'\n'* ]] || return 1
    [[ "$REPLY" == "$KIT" || "$facts" == *$'\nPLACE='"$place" ]]
}

record_id() { # -> REPLY: the ID that .state/record names; status 1 when it names none
    REPLY=''
    [[ -f "$STATE/record" && ! -L "$STATE/record" && -r "$STATE/record" && -f "$KIT/SHA256SUMS" ]] || return 1
    IFS= read -r REPLY <"$STATE/record" || return 1
    [[ "$REPLY" =~ ^[0-9a-f]{48}$ ]]
}

record_find() { # -> REPLY: the record of this folder, by root, by this user or, for root, by the owner of .state/; status 1: none
    local id owner name home
    record_id || return 1
    id=$REPLY
    REPLY="/var/lib/offline-kit/kits/$id"
    ! record_fits "$REPLY" 0 || { REPLY="/var/lib/offline-kit/kits/$id" && return 0; }
    record_folder
    home=$REPLY
    ! record_fits "$home/$id" "$EUID" || { REPLY="$home/$id" && return 0; }
    ((EUID == 0)) || return 1
    read -r owner name < <(stat -c '%u %U' -- "$STATE")
    [[ "$name" =~ ^[a-z_][a-z0-9_.-]*$ ]] || return 1
    eval "home=~$name" # the only way to ask for somebody's home without getent; the name has no sign that means anything
    record_fits "$home/.local/state/offline-kit/kits/$id" "$owner" || return 1
    REPLY="$home/.local/state/offline-kit/kits/$id"
}

env_is_example() { # .env is a copy of .env.example, which SHA256SUMS names: it says nothing that the kit does not
    [[ -f "$KIT/.env" && ! -L "$KIT/.env" && -f "$KIT/.env.example" && ! -L "$KIT/.env.example" ]] && cmp -s -- "$KIT/.env" "$KIT/.env.example"
}

state_look() { # -> STATE_IS_OURS, and else STATE_FOREIGN: what lies here that no script of this host made
    local entry
    STATE_IS_OURS='' STATE_FOREIGN=()
    if [[ -L "$STATE" || (-e "$STATE" && ! -d "$STATE") ]]; then STATE_FOREIGN=(.state) && return 0; fi
    if record_find; then STATE_IS_OURS=yes && return 0; fi
    for entry in "$STATE"/* "$STATE"/.[!.]*; do
        case "${entry##*/}" in
            lock | lock.d | proven | record) ;; # made before the first installation too, by verify.sh
            *) [[ ! -e "$entry" && ! -L "$entry" ]] || STATE_FOREIGN+=("${entry#"$KIT"/}") ;;
        esac
    done
    [[ ! -e "$KIT/.env" && ! -L "$KIT/.env" ]] || [[ -n "$ENV_SOURCE" && "$ENV_SOURCE" -ef "$KIT/.env" && ! -L "$KIT/.env" ]] ||
        env_is_example || STATE_FOREIGN+=(.env)
}

record_make() { # this folder is known to this host from now on
    local id folder
    id=$(od -An -v -tx1 -N 24 /dev/urandom | tr -d ' \n')
    record_folder
    folder=$REPLY
    mkdir -p "$folder" && record_facts | write_file "$folder/$id" 644 && write_file "$STATE/record" 644 <<<"$id"
}

state_claim() { # .state/, which has nothing that was made elsewhere, is this host's; status 1 when it is not
    [[ -z "$STATE_IS_OURS" ]] || return 0
    [[ -z "$DRY_RUN" ]] && ((${#STATE_FOREIGN[@]} == 0)) || return 1
    [[ ! -L "$STATE" ]] && mkdir -p "$STATE" 2>/dev/null && [[ -w "$STATE" ]] || return 1
    rm -rf -- "$STATE/proven" # whoever wrote it, what it says was proven is proven again
    RECORD_SAYS=$(record_make 2>&1) || return 1
    STATE_IS_OURS=yes
}

state_demand() { # before an installation: .state/ is this host's, or what is not is a finding of the check of files
    if [[ -n "$ADOPT" && ! -L "$STATE" ]] && ((${#STATE_FOREIGN[@]} > 0)); then
        say "    taken over as yours, made elsewhere: ${STATE_FOREIGN[*]}"
        STATE_FOREIGN=() STATE_IS_OURS=${DRY_RUN:+yes}
    fi
    # shellcheck disable=SC2034 # checksums.sh reads it
    STATE_DEMANDED=yes
    state_claim && return 0
    [[ -z "$DRY_RUN" ]] && ((${#STATE_FOREIGN[@]} == 0)) || return 0
    record_folder
    local remedy="let this user write in $REPLY and in $STATE"
    [[ "$RECORD_SAYS" != *[Nn]o\ space* ]] || remedy="make room there: df -h and df -i on $STATE and on $REPLY"
    die 1 "this host cannot keep a record of the installation${RECORD_SAYS:+: ${RECORD_SAYS##*$'\n'}}" "$remedy"
}

state_trusted() { # what .state/ and .env say of this kit was made by this host, or the end
    [[ -n "$STATE_IS_OURS" ]] || ((${#STATE_FOREIGN[@]} == 0)) || die "$EXIT_DAMAGED" "$STATE was not made by an installation on this host: ${STATE_FOREIGN[*]}" \
        'run ./install.sh first; if you moved this folder here yourself: ./install.sh --adopt'
}

state_told() { # the same as a warning, where nothing is run that .state/ names
    [[ -n "$STATE_IS_OURS" ]] || ((${#STATE_FOREIGN[@]} == 0)) ||
        warn "not made by an installation on this host: ${STATE_FOREIGN[*]}; ./install.sh checks every file, deploy.sh does not"
}

record_remove() { # with what it is about
    ! record_find || rm -f -- "$REPLY"
}

# shellcheck shell=bash
# Starting at boot: a systemd unit that brings the services up in their order, and stops them before Docker goes.
#
# Rules: (1) what the unit runs is `deploy.sh start --in-order`: engines that share a GPU never start side by side, also
# when Docker has started them all by itself after a power loss; (2) one unit a kit name, so that an upgrade moves it;
# (3) the unit runs as the user who installed the kit; (4) without systemd nothing is written, and what to do is said.

[[ -z "${BOOT_SH:-}" ]] || return 0
BOOT_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=core/options.sh
. "${BASH_SOURCE[0]%/*}/../core/options.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=services/start.sh
. "${BASH_SOURCE[0]%/*}/../services/start.sh"

readonly BOOT_FOLDER=/etc/systemd/system

boot_unit() { # -> REPLY: the unit's name
    fact KIT_NAME
    REPLY="offline-kit-$REPLY.service"
}

boot_enabled() { # the unit is there and starts this kit -> REPLY: its path
    boot_unit
    REPLY="$BOOT_FOLDER/$REPLY"
    [[ -f "$REPLY" ]] && grep -qxF "# kit: $KIT" "$REPLY"
}

boot_systemd() {
    if [[ ! -d /run/systemd/system ]] || ! type -P systemctl >/dev/null; then
        die 1 'no systemd runs on this host: there is no unit to enable' \
            "let what starts this host's services run, after Docker: $KIT/scripts/deploy.sh start --in-order"
    fi
}

boot_quoted() { # TEXT as one word of a unit's command -> REPLY
    REPLY=${1//\\/\\\\}
    REPLY=${REPLY//\"/\\\"}
    REPLY=${REPLY//%/%%}
    REPLY="\"${REPLY//\$/\$\$}\""
}

boot_text() { # the unit, on stdout
    local script user version
    boot_quoted "$KIT/scripts/deploy.sh"
    script=$REPLY
    user=$(stat -c %U "$KIT/.env")
    fact KIT_VERSION
    version=$REPLY
    fact KIT_NAME
    cat <<UNIT
# Written by deploy.sh enable-boot; deploy.sh disable-boot removes it.
# kit: $KIT
[Unit]
Description=$REPLY $version (offline-kit)
Requires=docker.service
PartOf=docker.service
After=docker.service

[Service]
Type=oneshot
RemainAfterExit=yes
User=$user
TimeoutStartSec=infinity
TimeoutStopSec=300
ExecStart=/bin/bash $script start --in-order
ExecStop=/bin/bash $script stop

[Install]
WantedBy=multi-user.target docker.service
UNIT
}

boot_remove() { # the unit goes; the services stay as they are
    local unit path
    boot_unit
    unit=$REPLY path="$BOOT_FOLDER/$REPLY"
    # Stopping the unit would stop the services: it is forgotten instead.
    systemctl disable "$unit" >/dev/null 2>&1 || true
    rm -f -- "$path"
    systemctl daemon-reload
    say "    $unit: removed; the services are as they were"
}

verb_enable_boot() {
    local unit path
    no_more "$@"
    installed
    boot_systemd
    boot_unit
    unit=$REPLY path="$BOOT_FOLDER/$REPLY"
    if [[ -n "$DRY_RUN" ]]; then say "would write and enable: $path" && return 0; fi
    [[ -w "$BOOT_FOLDER" ]] || die 1 "$BOOT_FOLDER cannot be written" 'run this verb as root'
    boot_text | write_file "$path" 644
    systemctl daemon-reload
    systemctl enable "$unit" >&2
    # Active from now on, so that a shutdown stops the services in order; healthy ones are not touched by it.
    systemctl start "$unit" || die "$EXIT_START" "$unit was enabled, and starting it failed" "journalctl -u $unit"
    say "    $unit: starts $KIT at boot, in order, after Docker"
}

verb_disable_boot() {
    no_more "$@"
    boot_systemd
    boot_unit
    if [[ ! -f "$BOOT_FOLDER/$REPLY" ]]; then say "    $REPLY: was not there" && return 0; fi
    boot_enabled || die 1 "$REPLY belongs to another kit: see the line 'kit:' in it" 'run disable-boot there'
    if [[ -n "$DRY_RUN" ]]; then say "would remove: $REPLY" && return 0; fi
    [[ -w "$BOOT_FOLDER" ]] || die 1 "$BOOT_FOLDER cannot be written" 'run this verb as root'
    boot_remove
}

# shellcheck shell=bash
# What could make an installation fail on this host: every finding at once, before anything is changed.
#
# Rules: (1) checks look and never change; (2) each adds at least one finding: OK, WARN or FAIL, what was seen, and for the
# last two what to do (docs/host-checks.md lists them all); (3) a check whose ground is missing (no Docker, say) adds nothing
# of its own; (4) what cannot be found out is a WARN, never an OK.

[[ -z "${ALL_SH:-}" ]] || return 0
ALL_SH=yes
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/ports.sh
. "${BASH_SOURCE[0]%/*}/ports.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/host.sh
. "${BASH_SOURCE[0]%/*}/host.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/disks.sh
. "${BASH_SOURCE[0]%/*}/disks.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/folder.sh
. "${BASH_SOURCE[0]%/*}/folder.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/image_contents.sh
. "${BASH_SOURCE[0]%/*}/image_contents.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/rehearsal.sh
. "${BASH_SOURCE[0]%/*}/rehearsal.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/network.sh
. "${BASH_SOURCE[0]%/*}/network.sh"
# shellcheck source-path=SCRIPTDIR/lib source-path=SCRIPTDIR/.. source=checks/gpus.sh
. "${BASH_SOURCE[0]%/*}/gpus.sh"

checks_run() {
    fact KIT_NAME
    PROJECT=${REPLY//./-}
    models_read
    check_bash
    check_programs
    check_architecture
    check_kernel
    check_clock
    check_folder
    check_images
    check_rehearsal
    check_environment
    check_docker
    check_compose
    check_network
    check_selinux
    check_memory
    check_disks
    check_modes
    check_ports
    device
    [[ "$REPLY" != nvidia ]] || check_gpus
}

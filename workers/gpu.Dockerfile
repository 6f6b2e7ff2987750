# The GPU worker: an LLM of ERank's kind on vLLM. Build it from the repository's root:
#
#     docker build -f workers/gpu.Dockerfile -t es-rerank-worker-gpu .
#
# The machine needs an NVIDIA driver and NVIDIA's container toolkit, and no CUDA of its own: vLLM's wheels bring theirs.
# The model is no part of the image: HF_HOME is where it is downloaded to, HOME where compiled kernels are kept, and
# both are worth a volume. docs/configuration.md says what fits on which card.
#
# For the same bytes in every build, append the digest to the tag: PYTHON=python:3.11.14-slim-bookworm@sha256:...
# (`docker buildx imagetools inspect python:3.11.14-slim-bookworm` prints it).
ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/es-rerank
WORKDIR /source
COPY pyproject.toml README.md ./
# vLLM and torch first, into a package that is still empty: gigabytes that a change of the source must not fetch again.
RUN mkdir es_rerank ingest workers \
    && touch es_rerank/__init__.py ingest/__init__.py workers/__init__.py \
    && /opt/es-rerank/bin/pip install '.[vllm]'
COPY es_rerank ./es_rerank
COPY ingest ./ingest
COPY workers ./workers
RUN /opt/es-rerank/bin/pip install --no-deps --force-reinstall .

FROM ${PYTHON}
# Triton compiles a launcher for each of its kernels while the worker runs.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
# The folders are there so that volumes mounted on them belong to the user.
RUN groupadd --system --gid 10001 es-rerank \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/cache/es-rerank --shell /usr/sbin/nologin es-rerank \
    && mkdir -p /models /var/cache/es-rerank/vllm \
    && chown -R 10001:10001 /models /var/cache/es-rerank
COPY --from=build /opt/es-rerank /opt/es-rerank
COPY deploy/worker_health.py /opt/es-rerank/worker_health.py
ENV PATH=/opt/es-rerank/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# What Triton, torch and NVIDIA's driver keep is put under HOME by themselves.
ENV HOME=/var/cache/es-rerank HF_HOME=/models VLLM_CACHE_ROOT=/var/cache/es-rerank/vllm
# Two parts of vLLM would have to be compiled by nvcc, which is not here: a sampler, where a scorer never samples, and
# products of matrices in FP8, for which vLLM has others.
ENV VLLM_USE_FLASHINFER_SAMPLER=0 VLLM_USE_DEEP_GEMM=0
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
ENTRYPOINT ["es-rerank"]
CMD ["worker", "--config", "/etc/es-rerank.toml"]

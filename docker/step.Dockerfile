# The staging image: fills the step directory of a pod before the command, and publishes the outputs after it.
#
#   docker build -f docker/step.Dockerfile -t registry.example.org/airflow-mlpipe-step:<version> .
#
# Name it in the workspace (`staging_image`). It holds the store's side of airflow-mlpipe and the drivers of object
# stores; neither Airflow nor anything of yours. The base image needs Python 3.10 to 3.13 and, if it is not Debian's,
# a static busybox at /bin/busybox.

ARG BASE_IMAGE=python:3.12-slim
FROM ${BASE_IMAGE}

RUN if ! command -v busybox >/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends busybox-static && rm -rf /var/lib/apt/lists/*; \
    fi

COPY constraints.txt /tmp/build/
RUN python -m pip install --no-cache-dir -c /tmp/build/constraints.txt \
      "fsspec>=2024.6" "typing-extensions" "s3fs>=2024.12" "gcsfs>=2024.12" "adlfs>=2024.12" "obstore>=0.7"

COPY pyproject.toml README.md LICENSE /tmp/build/
COPY airflow_mlpipe /tmp/build/airflow_mlpipe
# --no-deps: what it runs here needs the standard library and fsspec only.
RUN python -m pip install --no-cache-dir --no-deps /tmp/build && rm -rf /tmp/build \
 && python -c "import airflow_mlpipe.runtime.pod.program, s3fs, gcsfs, adlfs" \
 && busybox sh -c true

USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["python", "-m", "airflow_mlpipe.runtime.pod"]

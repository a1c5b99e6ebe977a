# An Airflow with airflow-mlpipe and the drivers of object stores, for a cluster or the compose file beside this one.
#
#   docker build -f docker/airflow.Dockerfile -t registry.example.org/airflow-mlpipe:<version> .
#
# It also holds a static busybox, so that it may serve as the staging image too: `staging_image` is then this one.

ARG BASE_IMAGE=apache/airflow:3.3.2
FROM ${BASE_IMAGE}

USER root
RUN if ! command -v busybox >/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends busybox-static && rm -rf /var/lib/apt/lists/*; \
    fi
COPY pyproject.toml README.md LICENSE /tmp/build/
COPY airflow_mlpipe /tmp/build/airflow_mlpipe
RUN chmod -R a+rX /tmp/build

USER airflow
# What the base image holds stays as it is: another botocore, say, would break its Amazon provider.
RUN pip list --format=freeze > /tmp/held.txt \
 && pip install --no-cache-dir -c /tmp/held.txt "/tmp/build[s3,gcs,azure,fast]" \
 && pip check && airflow version

# A sequential step costs 0.2 s of scheduling instead of 1.
ENV AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME=0.1

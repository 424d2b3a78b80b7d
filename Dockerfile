# One site of elmer. docker-compose.yml runs three of them.

FROM python:3.11-slim-bookworm AS build
# llfuse is built from source, against FUSE 2.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libfuse-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY requirements.txt ./
RUN python -m venv /opt/elmer && /opt/elmer/bin/pip install --no-cache-dir -r requirements.txt
COPY pyproject.toml ./
COPY crdt crdt
COPY translation translation
COPY replication replication
COPY elmer elmer
RUN /opt/elmer/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libfuse2 \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /data /mnt/elmer /tickets
COPY --from=build /opt/elmer /opt/elmer
ENV PATH=/opt/elmer/bin:$PATH
EXPOSE 7400
CMD ["elmer", "--help"]

#!/bin/sh
# Milvus in Docker, from nothing to a search: makes .env with passwords of its own if there is none, starts the
# stack of ../docker, waits until it is healthy, and runs pipeline.py on it. `make stack-down` stops it.
set -eu
cd "$(dirname "$0")/.."

if [ ! -f .env ]; then
    umask 077
    cp .env.example .env
    {
        echo "STACK_MILVUS_ROOT_PASSWORD=$(openssl rand -hex 24)"
        echo "STACK_MINIO_ROOT_USER=vecbridge"
        echo "STACK_MINIO_ROOT_PASSWORD=$(openssl rand -hex 24)"
    } >>.env
fi

make stack-up

. ./.env
MILVUS_TOKEN="root:$STACK_MILVUS_ROOT_PASSWORD" "${PYTHON:-python3}" examples/pipeline.py \
    "milvus://127.0.0.1:${STACK_MILVUS_PORT:-19530}"

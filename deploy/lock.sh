#!/bin/sh
# Writes requirements.lock: what pyproject.toml asks for and what builds it, resolved for every supported Python, with
# the hash of each file and no address. Needs uv (pip install uv). `--upgrade` takes the newest of everything.
set -eu
cd "$(dirname "$0")/.."
out=deploy/requirements.lock
sed -n 's/^requires = \["\(.*\)"\].*/\1/p' pyproject.toml |
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
    --no-emit-index-url --no-emit-find-links "$@" -o "$out" pyproject.toml -

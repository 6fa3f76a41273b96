#!/usr/bin/env bash
# Writes all that a node needs into a folder: this medtune as a wheel, the exact versions and hashes of everything that
# it stands on, the exact Python, and uv's own version. Run it in the checkout; carry the folder to every node.
#
#     cluster/lock.sh [FOLDER]        default: cluster/environment
set -euo pipefail
umask 022

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
folder="${1:-$here/environment}"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
cd "$here/.."

uv lock --quiet # within `exclude-newer` of pyproject.toml, so that it comes to the same everywhere
# server brings psycopg for cluster.ledger, and boto3, with which `ray up` starts machines
uv export --quiet --frozen --no-dev --no-emit-project --no-header --no-annotate \
    --extra cluster --extra server --output-file "$folder/requirements.txt" > /dev/null
rm -f "$folder"/medtune-*.whl
uv build --quiet --wheel --out-dir "$folder"
uv run --no-sync python -c 'import platform; print(platform.python_version())' > "$folder/python-version"
uv self version --short | cut -d' ' -f1 > "$folder/uv-version"
cp "$here"/{settings,install,token,head,worker,sweep}.sh "$folder"
echo "$folder: medtune and $(grep -c '^[a-z]' "$folder/requirements.txt") packages for Python $(cat "$folder/python-version")"

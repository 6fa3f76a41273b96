#!/usr/bin/env bash
# Makes the environment of a node from the folder that lock.sh wrote: the same Python and the same files on every node.
# A second time it changes only what differs.
#
#     install.sh [ENVIRONMENT]        default: ~/medtune-env, or $MEDTUNE_ENV
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
environment="${1:-${MEDTUNE_ENV:-$HOME/medtune-env}}"
export PATH="$HOME/.local/bin:$PATH"

if [ ! -e "$here/requirements.txt" ]; then
    echo "$here holds no requirements.txt: run cluster/lock.sh in the checkout, and carry the folder that it names here" >&2
    exit 2
fi
command -v uv > /dev/null || curl -LsSf "https://astral.sh/uv/$(cat "$here/uv-version")/install.sh" | sh
uv venv --quiet --allow-existing --python "$(cat "$here/python-version")" "$environment"
uv pip sync --quiet --python "$environment/bin/python" --require-hashes "$here/requirements.txt"
uv pip install --quiet --python "$environment/bin/python" --no-deps "$here"/medtune-*.whl
"$environment/bin/python" -c 'import platform, importlib.metadata as m; print(platform.python_version(), *(f"{name} {m.version(name)}" for name in ("medtune", "ray", "torch")))'

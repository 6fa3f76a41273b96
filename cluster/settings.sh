# shellcheck shell=bash
# What all nodes of a cluster have in common. The scripts beside this file source it; so may a shell on any node.

export PATH="${MEDTUNE_ENV:-$HOME/medtune-env}/bin:$HOME/.local/bin:$PATH"

# Whoever has no token is refused by every one of Ray's servers. The token lies in ~/.ray/auth_token, see token.sh.
export RAY_AUTH_MODE=token

# Every node has the same environment from install.sh. Ray would otherwise, under `uv run`, copy the working folder to
# every node and start each worker through uv anew.
export RAY_ENABLE_UV_RUN_RUNTIME_ENV=0

# Nobody is told of it.
export RAY_USAGE_STATS_ENABLED=0
export MLFLOW_DISABLE_TELEMETRY=true

#!/usr/bin/env bash
# Joins this machine to a cluster. HEAD: the address that was given to head.sh. More options go to `ray start`.
#
#     worker.sh HEAD[:PORT] [OPTIONS]        default: port 6379
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=settings.sh
source "$here/settings.sh"
head="${1:?say where the head is: worker.sh HEAD}"
shift
address="${head%:*}"
port="${head##*:}"
[ "$port" != "$head" ] || port=6379

token="${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}"
if [ ! -s "$token" ]; then
    echo "$token is missing: bring the head's, as with: scp -p $address:.ray/auth_token $token" >&2
    exit 2
fi
chmod 600 "$token"
said="$(mktemp)"
trap 'rm -f "$said"' EXIT
ray start --address="$address:$port" --disable-usage-stats \
    --node-manager-port=6380 --object-manager-port=6381 --runtime-env-agent-port=6382 --dashboard-agent-grpc-port=6383 \
    --dashboard-agent-listen-port=6384 --metrics-export-port=6385 --min-worker-port=10002 --max-worker-port=10999 "$@" \
    > "$said" 2>&1 || {
    if grep -q AuthenticationError "$said"; then
        echo "$address:$port refuses the token in $token: bring the head's, as with: scp -p $address:.ray/auth_token $token" >&2
    else
        tail -n 20 "$said" >&2
    fi
    exit 1
}
echo "joined  $address:$port"

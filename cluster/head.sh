#!/usr/bin/env bash
# Starts the head of a cluster on this machine. ADDRESS: of this machine, as the others reach it. More options go to
# `ray start`, as --num-gpus=1.
#
#     head.sh ADDRESS[:PORT] [OPTIONS]        default: port 6379
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=settings.sh
source "$here/settings.sh"
head="${1:?say by which address the other machines reach this one: head.sh ADDRESS}"
shift
address="${head%:*}"
port="${head##*:}"
[ "$port" != "$head" ] || port=6379

"$here/token.sh"
# The ports that a firewall has to open between the machines, see docs/cluster.md; the dashboard is for this machine alone
said="$(mktemp)"
trap 'rm -f "$said"' EXIT
ray start --head --node-ip-address="$address" --port="$port" --dashboard-host=127.0.0.1 --disable-usage-stats \
    --node-manager-port=6380 --object-manager-port=6381 --runtime-env-agent-port=6382 --dashboard-agent-grpc-port=6383 \
    --dashboard-agent-listen-port=6384 --metrics-export-port=6385 --min-worker-port=10002 --max-worker-port=10999 "$@" \
    > "$said" 2>&1 || {
    tail -n 20 "$said" >&2
    exit 1
}
echo "head  $address:$port"
echo "next  carry ~/.ray/auth_token to each other machine (scp -p), then there: worker.sh $address:$port"

#!/usr/bin/env bash
# A sweep on some nodes of a SLURM cluster, which goes on by itself after the time limit. From the folder that holds
# cluster/ and the sweep file, on a file system that all nodes see:
#
#     sbatch --nodes=4 --gpus-per-node=4 cluster/slurm.sh sweeps/breastmnist.yaml runs/breastmnist [--set key=value ...]
#
#SBATCH --job-name=medtune
#SBATCH --output=medtune-%j.log
#SBATCH --open-mode=append
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --no-kill
set -euo pipefail

# SLURM runs a copy of this script; cluster/ is where it was handed in
here="${MEDTUNE_CLUSTER:-$SLURM_SUBMIT_DIR/cluster}"
# shellcheck source=settings.sh
source "$here/settings.sh"
"$here/token.sh" # in a home folder that all nodes see

# The node of this script is the first of the list, and becomes the head, which finds itself by its address
first="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
address="$(getent ahostsv4 "$first" | awk 'NR == 1 {print $1}')"
port=$((20000 + SLURM_JOB_ID % 10000)) # a job that has just ended may still hold its own
temporary="/tmp/medtune-$SLURM_JOB_ID"   # short: the names of sockets in it are long
mkdir -p "$temporary"
export RAY_TMPDIR="$temporary" # with --temp-dir, symmetric-run would not find its own cluster and wait in vain
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # seconds for slow nodes; Ray itself waits 30

# Some time before the limit, or on SIGTERM, medtune alone is asked to end, which needs Ray until it has ended. Not by
# SLURM's --signal, which comes only at the first start of a job that is queued again (22.05)
asked_to_end=
# shellcheck disable=SC2329 # by the trap
ask_to_end() {
    if [ -n "$asked_to_end" ]; then return; fi
    asked_to_end=yes
    if [ ! -s "$temporary/pid" ]; then
        kill -TERM "$steps" # the sweep has not begun
    elif [ ! -s "$temporary/status" ]; then
        kill -TERM "$(cat "$temporary/pid")" || true
    fi
}
limit="$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/.* EndTime=\([^ ]*\).*/\1/p')"
if end="$(date --date="$limit" +%s 2> /dev/null)"; then # Unknown where there is none
    (
        trap 'kill "$asleep"' TERM
        sleep $((end - $(date +%s) - ${MEDTUNE_SECONDS_TO_END:-180})) &
        asleep=$!
        wait "$asleep" && kill -TERM $$
    ) > /dev/null 2>&1 &
    timer=$!
fi
trap ask_to_end TERM
trap 'rm -rf "$temporary"; kill ${timer:+"$timer"} 2> /dev/null || true' EXIT

# The other nodes wait for the head's port: symmetric-run gives up where that takes half a minute (2.60). The innermost
# shell is on the head, and leaves the number of its process and its exit code
# shellcheck disable=SC2016 # the inner shells put in their own
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --no-kill \
    bash -c 'for _ in $(seq "$RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT"); do
        if [ "${SLURM_NODEID:-0}" = 0 ] || (exec 3<> "/dev/tcp/$0/$1") 2> /dev/null; then break; fi
        sleep 1
    done
    shift; exec "$@"' "$address" "$port" \
    ray symmetric-run --address "$address:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_ON_NODE" --disable-usage-stats \
    -- bash -c '"$@" & echo $! > "$0/pid"; wait $!; echo $? > "$0/status"' "$temporary" "$here/sweep.sh" "$@" &
steps=$!
status=0
wait "$steps" || status=$?
while kill -0 "$steps" 2> /dev/null; do # a signal ended the waiting, not what is waited for
    status=0
    wait "$steps" || status=$?
done
if [ -s "$temporary/status" ]; then # what Ray's own processes end with says nothing of the sweep
    status="$(cat "$temporary/status")"
fi

# 130; more than 128 too where the signal came before the sweep had begun. A sweep that failed (1, 2) would fail again
if [ -n "$asked_to_end" ] && [ "$status" -gt 128 ]; then
    echo "the time is up: the job goes back into the queue, and the sweep goes on where it was"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"

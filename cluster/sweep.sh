#!/usr/bin/env bash
# Runs a sweep on the cluster that this machine belongs to, or goes on with it where its folder is there already: what is
# started again after a node or the whole cluster was lost says the same command.
#
#     sweep.sh FILE FOLDER [--set key=value ...]
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=settings.sh
source "$here/settings.sh"
file="${1:?say which sweep: sweep.sh FILE FOLDER}"
folder="${2:?say which folder: sweep.sh FILE FOLDER}"
shift 2

if [ -e "$folder/sweep.id" ]; then
    exec medtune resume "$folder"
fi
exec medtune sweep "$file" --folder "$folder" --set cluster.address=auto "$@"

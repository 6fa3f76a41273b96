#!/usr/bin/env bash
# Makes the token of the cluster where Ray looks for it, ~/.ray/auth_token, unless it is there, and shows it to nobody
# else. All nodes, and whoever hands in jobs, need the same one.
set -euo pipefail
umask 077 # Ray itself would write it for all to read

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=settings.sh
source "$here/settings.sh"
mkdir -p "$HOME/.ray"
ray get-auth-token --generate > /dev/null # which prints it
[ ! -e "$HOME/.ray/auth_token" ] || chmod 600 "$HOME/.ray/auth_token"

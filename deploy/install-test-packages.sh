#!/bin/sh
# Install what deploy/test-packages.txt names, where this is Debian (or a relative) and we are root.
# Elsewhere nothing happens: the tests that need a missing program skip by its name.
set -eu
list="$(dirname "$0")/test-packages.txt"
wanted=$(grep -v '^#' "$list")

missing=""
for package in $wanted; do
    if command -v dpkg-query >/dev/null 2>&1 &&
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ]; then
        continue
    fi
    missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" -ne 0 ]; then
    echo "not installed (needs root and apt-get):$missing; tests that need them will skip by name"
    exit 0
fi

# Orthanc's package would start a server of its own; the tests start theirs, on loopback, and stop it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list of names
apt-get install -y -qq --no-install-recommends $missing >/dev/null
echo "installed:$missing"

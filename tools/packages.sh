# packages.sh - sourced by tools/test and tools/demo: sees that the packages of .ci/packages are there.
#
# As root it installs what is missing with apt-get, and no service is started by that; as an ordinary user it says
# what to install. Nothing else on the machine is changed.

missing_packages() { # [needed|all]
    local line name wanted=$1
    while read -r line; do
        case $line in
        '' | '#'*) continue ;;
        '?'*) [ "$wanted" = all ] || continue ;;
        esac
        name=${line#\?}
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q '^install ok' || printf '%s ' "$name"
    done <"$root/.ci/packages"
}

# Keeps installation scripts from starting servers: the tests start their own.
with_services_denied() {
    local policy=/usr/sbin/policy-rc.d made=no status=0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && made=yes
    fi
    "$@" || status=$?
    [ "$made" = no ] || rm -f "$policy"
    return $status
}

install_packages() {
    local missing
    if ! command -v dpkg-query >/dev/null; then
        echo "This is not Debian: what .ci/packages lists must be installed by hand." >&2
        return 0
    fi
    missing=$(missing_packages all)
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "Not installed: $missing" >&2
        echo "Install it with: sudo apt-get install --no-install-recommends $missing" >&2
        [ -z "$(missing_packages needed)" ]
        return
    fi
    echo "Installing with apt-get: $missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086
    with_services_denied sh -c 'apt-get -qq update && apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@"' sh $missing \
        </dev/null >"$log_folder/apt.log" 2>&1 || {
        tail -n 30 "$log_folder/apt.log" >&2
        echo "apt-get failed" >&2
        return 1
    }
}

#!/usr/bin/env bash
# Installs what pip cannot bring: a C++ compiler, Python's headers, and Python's venv module. With arguments, a C++
# compiler and the commands that they name.
# Where nothing is missing it does nothing. Where it may not install, it says what to install and fails.
set -euo pipefail
python=${PYTHON:-python3}

missing_packages() {
    compiles || echo g++
    if [ $# = 0 ]; then
        missing_for_python
        return
    fi
    local command
    for command in "$@"; do command -v "$command" >/dev/null || package_of "$command"; done | sort -u
}

package_of() {
    case $1 in
    aarch64-linux-gnu-g++) echo g++-aarch64-linux-gnu ;;
    qemu-*) echo qemu-user ;;
    *) echo "$1" ;;
    esac
}

missing_for_python() {
    # Debian keeps the parts of its own Python in packages named after the version.
    local version package=python3
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$("$python" -c 'import sys; print(sys.base_prefix)')" = /usr ]; then package=python$version; fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$package-venv"
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || echo "$package-dev"
}

compiles() {
    local probe
    probe=$(mktemp -d)
    echo '#include <vector>
int main() { return 0; }' >"$probe/probe.cpp"
    "${CXX:-c++}" -std=c++17 -o "$probe/probe" "$probe/probe.cpp" 2>/dev/null
    local status=$?
    rm -rf "$probe"
    return $status
}

if [ $# = 0 ] && ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "ossature needs Python 3.11 or newer; '$python' is not. Name one with: make PYTHON=python3.12 test" >&2
    exit 1
fi

missing=$(missing_packages "$@")
[ -n "$missing" ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi
if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
    echo "Missing, and not installable from here without a password:" $missing >&2
    echo "Install them (Debian and Ubuntu: apt-get install" $missing"), then run this again." >&2
    exit 1
fi
echo "Installing" $missing
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null

missing=$(missing_packages "$@")
if [ -n "$missing" ]; then
    echo "Still missing after the installation:" $missing >&2
    exit 1
fi

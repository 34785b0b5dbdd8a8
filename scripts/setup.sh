#!/bin/sh
# Builds .venv if it is missing or broken, and installs a set of packages if it has changed since the last time: the
# exact versions and files of requirements/SET.lock or, without a lock, what requirements/SET.txt allows.
# Usage: [PYTHON=...] sh scripts/setup.sh runtime|test|dev
set -eu

set=$1
requirements=requirements/$set.txt
lock=requirements/$set.lock
venv=.venv
oldest="3, 11"

fail() {
    echo "setup: $1" >&2
    exit 2
}

# Running it detects a command that exists but fails (a pyenv shim without its version, a Windows store stub).
new_enough() {
    "$1" -c "import sys; sys.exit(sys.version_info < ($oldest))" >/dev/null 2>&1
}

can_build_venvs() {
    "$1" -c "import ensurepip, venv" >/dev/null 2>&1
}

find_python() {
    without_venv=
    for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
        new_enough "$candidate" || continue
        if can_build_venvs "$candidate"; then
            python=$candidate
            return
        fi
        without_venv=$candidate
    done
    if [ -n "$without_venv" ]; then
        fail "$without_venv cannot build virtual environments; install them (Debian, Ubuntu: apt install python3-venv)"
    fi
    if [ -n "${PYTHON:-}" ]; then
        fail "PYTHON=$PYTHON is not a Python 3.11 or newer that runs"
    fi
    fail "Python 3.11 or newer is needed; found: $(python3 --version 2>/dev/null || echo none). Name one with PYTHON=/path/to/python"
}

# A checksum of contents, so that a checkout that only changes file times installs nothing.
wanted() {
    cat requirements/*.txt requirements/*.lock 2>/dev/null | cksum
}

pip_install() {
    PIP_USER=0 "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

if [ -d "$venv" ] && ! new_enough "$venv/bin/python"; then
    echo "setup: $venv does not run here; building a new one" >&2
    rm -rf "$venv"
fi

stamp=$venv/.installed-$set
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted)" ]; then
    exit 0
fi

if [ ! -d "$venv" ]; then
    find_python
    echo "setup: building $venv with $("$python" --version 2>&1), once" >&2
    "$python" -m venv "$venv" || { rm -rf "$venv"; fail "$python could not build $venv"; }
fi

if [ -f "$lock" ]; then
    echo "setup: installing $lock, which can take some minutes" >&2
    pip_install --require-hashes -r "$lock" || fail "pip could not install $lock; see the reason above"
else
    echo "setup: installing $requirements, which can take some minutes" >&2
    pip_install -r "$requirements" || fail "pip could not install $requirements; see the reason above"
fi

case $set in # a set includes those before it
dev) done="dev test runtime" ;;
test) done="test runtime" ;;
*) done=$set ;;
esac
for each in $done; do
    wanted >"$venv/.installed-$each"
done

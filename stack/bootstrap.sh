#!/bin/sh
# Build .venv from uv.lock. Needs a Python 3.11 to 3.13 with its venv module, and the package registry; nothing else.
# A second call with the same lock file returns at once. All it writes is .venv/ and var/.
set -eu
cd "$(dirname "$0")/.."
checkout=$(pwd)
var=${VAR_DIR:-$checkout/var}

fail() {
    printf 'make env: %s\n' "$*" >&2
    exit 1
}

wanted="$checkout $(cat pyproject.toml uv.lock | sha256sum)"
if [ "$(cat .venv/.built-from 2>/dev/null || true)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

python=
# An explicit one first; then the system's own; then whatever else is on the path.
for candidate in ${PYTHON:-python3 /usr/bin/python3 python3.13 python3.12 python3.11}; do
    if found=$("$candidate" -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14); print(sys.executable)' 2>/dev/null)
    then
        python=$found
        break
    fi
done
if [ -z "$python" ]; then
    fail "no Python from 3.11 to 3.13 found (looked for: ${PYTHON:-python3 python3.13 python3.12 python3.11})." \
        "Install one, for example: apt-get install python3 python3-venv; or name one: make env PYTHON=/path/to/python3.12"
fi

# Trust what the machine trusts, where it says so: a company's own certificate, for example.
if [ -r /etc/ssl/certs/ca-certificates.crt ]; then
    export PIP_CERT="${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}" UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
fi

if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then
    uv=uv
else
    uv=$var/uv/bin/uv
    if ! "$uv" --version >/dev/null 2>&1; then
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$python cannot make virtual environments. Install what it lacks: apt-get install python3-venv"
        echo "installing uv into $var/uv"
        rm -rf "$var/uv"
        mkdir -p "$var"
        "$python" -m venv "$var/uv"
        "$var/uv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check 'uv>=0.9,<1' ||
            fail "pip could not install uv: is the package registry reachable?"
    fi
fi

# uv takes the Python found above, never one of its own, and keeps its cache here unless told otherwise.
export UV_PYTHON_DOWNLOADS=never UV_PYTHON="$python" UV_PROJECT_ENVIRONMENT="$checkout/.venv"
export UV_CACHE_DIR="${UV_CACHE_DIR:-$var/uv-cache}"
unset VIRTUAL_ENV PYTHONDONTWRITEBYTECODE UV_NO_SYNC
echo "building .venv with $("$python" -V) and $($uv --version)"
"$uv" sync --locked --compile-bytecode --quiet || fail "uv could not build .venv from uv.lock (see above)"
printf '%s\n' "$wanted" >.venv/.built-from
echo "built .venv"

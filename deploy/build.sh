#!/bin/sh
# Installs the proxy into a virtual environment of its own: `deploy/build.sh /opt/apikeyrouter`. The image does this, and so
# may any machine with Python 3.11 or newer and its venv module. Versions are those of constraints.txt.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
target=${1:?Say where to install, for instance: deploy/build.sh /opt/apikeyrouter}
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; $("$python" --version) was found. Set PYTHON to another one." >&2
    exit 1
}
"$python" -m venv "$target"
PIP_CONSTRAINT="$source/constraints.txt" "$target/bin/python" -m pip --disable-pip-version-check --no-cache-dir --quiet \
    install "$source/packages/core[postgres,redis]" "$source/packages/proxy"
"$target/bin/python" -m compileall -q "$target/lib" || true
"$target/bin/apikeyrouter" --version

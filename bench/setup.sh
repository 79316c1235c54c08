#!/usr/bin/env bash
# Installs what the benchmarks need, each in a place of its own; running it again does nothing.
#   wrk, nginx   from the system's packages (needs root; else it says what is missing)
#   LiteLLM      .cache/bench/litellm   a venv with litellm[proxy]
#   Portkey      .cache/bench/portkey   npm, versions pinned by bench/peers/portkey/package-lock.json
# A peer that cannot be installed is left out with a message: the benchmark then prints the table without it.
set -euo pipefail
cd "$(dirname "$0")/.."
CACHE="${BENCH_CACHE:-.cache/bench}"
LITELLM_VERSION="1.109.1"
PYTHON="${PYTHON:-python3}"
mkdir -p "$CACHE"

install_tools() {
    local missing=()
    command -v wrk >/dev/null || missing+=(wrk)
    command -v nginx >/dev/null || missing+=(nginx)
    command -v taskset >/dev/null || missing+=(util-linux)
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "bench: missing ${missing[*]}; install them (apt-get install ${missing[*]})" >&2
        return 0
    fi
    apt-get update -qq
    # No daemon is wanted: the benchmark starts its own nginx with its own configuration.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# LiteLLM pins sister packages and certifi to versions that are not always published yet. The sisters hold database
# migrations and enterprise features, which no benchmark touches, so those three pins (and no other) are loosened.
install_litellm() {
    local home="$CACHE/litellm" stamp="$CACHE/litellm/.installed-$LITELLM_VERSION"
    [ -f "$stamp" ] && return 0
    rm -rf "$home"
    "$PYTHON" -m venv "$home"
    "$home/bin/pip" install -q --disable-pip-version-check --no-deps "litellm==$LITELLM_VERSION"
    "$home/bin/python" bench/peers/litellm_requirements.py >"$home/requirements.txt"
    "$home/bin/pip" install -q --disable-pip-version-check -r "$home/requirements.txt"
    touch "$stamp"
}

install_portkey() {
    local home="$CACHE/portkey"
    if ! command -v npm >/dev/null; then
        echo "bench: no npm, so no Portkey gateway (install Node.js 20 or newer)" >&2
        return 0
    fi
    if [ -d "$home/node_modules" ] && cmp -s bench/peers/portkey/package-lock.json "$home/installed-lock.json"; then
        return 0
    fi
    rm -rf "$home"
    mkdir -p "$home"
    cp bench/peers/portkey/package.json bench/peers/portkey/package-lock.json "$home/"
    (cd "$home" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    cp bench/peers/portkey/package-lock.json "$home/installed-lock.json"
}

# The output of an installation goes to a log; only its end is shown, and only when it failed.
# A subshell with its own `set -e`: inside `f || g` bash would go on after a failed line of f.
attempt() {
    set +e
    local log="$CACHE/$1.log"
    (set -e; "$1") >"$log" 2>&1
    local code=$?
    set -e
    grep '^bench: ' "$log" >&2 || true
    [ $code -eq 0 ] || { tail -n 12 "$log" >&2; echo "bench: $1 failed ($code); going on without it" >&2; }
}

attempt install_tools
for peer in ${BENCH_PEERS-litellm portkey}; do
    attempt "install_$peer"
done

#!/usr/bin/env bash
# Compares with lowtime from PyPI, which it installs into build/ the first time. Arguments: microbatches (12 24).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

readonly venv=build/lowtime-venv lowtime='lowtime==0.3.0'

fail() { printf 'lowtime_bench: %s\n' "$1" >&2; exit 1; }

[ -x build/release/bench/plan_bench ] || fail 'first: cmake --preset release && cmake --build --preset release'
if ! "$venv/bin/python" -c 'import lowtime' 2>/dev/null; then
  python3 -m venv "$venv" || fail 'no virtual environment (Debian: python3-venv)'
  "$venv/bin/pip" install --quiet --retries 1 "$lowtime" || fail "cannot install $lowtime; is there a network?"
fi
exec "$venv/bin/python" bench/lowtime_bench.py "$@"

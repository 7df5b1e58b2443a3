#!/usr/bin/env bash
# Compares with the Perseus client of Zeus from PyPI, which it installs into build/ the first time. Arguments: runs (5),
# seconds of each (10).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

readonly venv=build/zeus-venv zeus='zeus[pfo]==0.16.0' runs=${1:-5} seconds=${2:-10}
readonly bench=build/release/bench/hook_bench

fail() { printf 'hook_bench: %s\n' "$1" >&2; exit 1; }

[ -x "$bench" ] || fail 'first: cmake --preset release && cmake --build --preset release'
if ! "$venv/bin/python" -c 'import zeus, aiofiles' 2>/dev/null; then
  python3 -m venv "$venv" || fail 'no virtual environment (Debian: python3-venv)'
  # Its client imports aiofiles but does not ask for it.
  "$venv/bin/pip" install --quiet --retries 1 "$zeus" aiofiles || fail "cannot install $zeus; is there a network?"
fi
"$bench" --runs "$runs" --seconds "$seconds"
echo
# The driver of pynvml is the same stand-in as that of our agent.
exec "$bench" --within $((seconds * 200 + 1)) env LD_LIBRARY_PATH="$PWD/build/release/bench/driver" \
  "$venv/bin/python" bench/hook_bench.py --runs "$runs" --seconds "$seconds"

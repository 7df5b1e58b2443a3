#!/usr/bin/env bash
# Runs the README's commands as printed, in a copy of what a user has: the profiles, and binaries in build/release.
# usage: readme_test.sh SOURCE_DIR BINARY_DIR
set -euo pipefail
source=$1 binaries=$2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export SLACKLINE_RUNTIME_DIR=$scratch/run
mkdir -p "$scratch/build"
ln -s "$binaries" "$scratch/build/release"
ln -s "$source/profiles" "$scratch/profiles"
cd "$scratch"
awk '/^```sh$/ {inside = 1; next} /^```/ {inside = 0} inside' "$source/README.md" | grep -v quickstart >commands
[ "$(wc -l <commands)" -ge 5 ]
while read -r command; do
  printf '$ %s\n' "$command"
  bash -c "$command" </dev/null
done <commands

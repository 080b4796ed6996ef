#!/usr/bin/env bash
# The newcomer's check: the README's commands, in a fresh clone of the last commit and fresh environments.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

git clone --quiet . "$work/clone"
cd "$work/clone"
. ci/fresh_hatch.sh "$work"

hatch run demo
hatch run test

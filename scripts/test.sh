#!/usr/bin/env bash
# Formats, lints, type-checks and tests.
#
#   scripts/test.sh [--slow] [PYTEST ARGUMENTS]    --slow: the slow tests too
#
# --slow needs Chromium, and asks before it installs it; with CI=true it does not
# ask, and without a terminal it leaves out the tests of the pages.
set -euo pipefail
cd "$(dirname "$0")/.."
slow=
[ "${1:-}" = --slow ] && { slow=1; shift; }

may() {  # Whether a person at the terminal agrees to $1; CI=true agrees to all.
  if [ "${CI:-}" = true ]; then return; fi
  if [ ! -t 0 ]; then return 1; fi
  local answer
  read -r -p "$1? [y/N] " answer
  [ "$answer" = y ]
}

install_chromium() {  # For the tests of the pages.
  local as_root=(env)
  if command -v chromium google-chrome > /dev/null; then return; fi
  if ! may 'No Chromium is here. Install it as root with apt-get'; then
    echo 'no Chromium, and nobody agreed to install it: the pages are not tested'
    return
  fi
  if [ "$(id -u)" != 0 ]; then as_root=(sudo --non-interactive); fi
  if ! "${as_root[@]}" true 2> /dev/null || ! command -v apt-get > /dev/null; then
    echo 'no Chromium, and no right to install it: the pages are not tested'
    return
  fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" apt-get install -qq --yes --no-install-recommends chromium
}

scripts/setup.sh --dev
export PATH="$PWD/.venv/bin:$PATH"

echo '=== format, lint, types'
python -m ruff format --check .
python -m ruff check .
python -m mypy
# Two at a time: a test keeps a core busy, and TensorFlow takes 1 GB. A file's
# tests stay together, for what they share is made once. tests/conftest.py puts
# the files that take longest first.
workers=(--numprocesses=2 --dist=loadfile --no-loadscope-reorder)
echo '=== fast tests'
# pytest ends with 5 where it finds no test: none of a kind is no failure.
python -m pytest "${workers[@]}" -m 'not slow' "$@" || [ $? -eq 5 ]
if [ -n "$slow" ]; then
  echo '=== slow tests'
  install_chromium
  python -m pytest "${workers[@]}" -m slow "$@" || [ $? -eq 5 ]
fi

#!/usr/bin/env bash
# Formats, lints, type-checks and tests.
#
#   scripts/test.sh [--slow] [PYTEST ARGUMENTS]    --slow: the slow tests too
set -euo pipefail
cd "$(dirname "$0")/.."
slow=
[ "${1:-}" = --slow ] && { slow=1; shift; }

scripts/setup.sh --dev
export PATH="$PWD/.venv/bin:$PATH"

echo '=== format, lint, types'
python -m ruff format --check .
python -m ruff check .
python -m mypy
echo '=== fast tests'
# pytest ends with 5 where it finds no test: none of a kind is no failure.
python -m pytest -m 'not slow' "$@" || [ $? -eq 5 ]
if [ -n "$slow" ]; then
  echo '=== slow tests'
  python -m pytest -m slow "$@" || [ $? -eq 5 ]
fi

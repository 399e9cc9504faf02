#!/usr/bin/env bash
# Makes .venv from the locks; does nothing where it is up to date.
#
#   scripts/setup.sh [--dev]     --dev: the test tools too
#   scripts/setup.sh --tpu       .venv for a Cloud TPU VM: tensorflow-tpu
#   scripts/setup.sh --beam      .venv-beam, for data_prep's --runner=beam
#   scripts/setup.sh --interop   .venv-interop: PyTorch and transformers, with
#                                which tests read what is exported
#
# PYTHON names the interpreter to use. Where requirements.txt has changed, or an
# install was interrupted, .venv is made anew, so that nothing stale stays in it.
set -euo pipefail
cd "$(dirname "$0")/.."

usable() {
  command -v "$1" > /dev/null && "$1" -c \
    'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null
}

chosen_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3}; do
    if usable "$candidate"; then echo "$candidate"; return; fi
  done
  echo "error: expected Python 3.11, 3.12 or 3.13; got" \
    "$("${PYTHON:-python3}" --version 2>&1 | head -n 1 || true):" \
    'apt-get install python3, or name one with PYTHON=' >&2
  return 1
}

make_venv() {
  local python
  python=$(chosen_python)
  "$python" -c 'import ensurepip, venv' 2> /dev/null || {
    echo 'error: expected Python with venv and ensurepip; got one without:' \
      'apt-get install python3-venv' >&2
    return 1
  }
  "$python" -m venv --clear "$venv"
}

is_installed() {  # A stamp is written last, so it says that all is there.
  [ "$(cat "$venv/$1.sha256" 2> /dev/null)" = "$(sha256sum < "$1")" ]
}

install() {
  echo "installing $1 into $venv ($2)"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --no-deps --require-hashes --only-binary=:all: -r "$1"
  sha256sum < "$1" > "$venv/$1.sha256"
}

make_anew() {
  if ! { usable "$venv/bin/python" && is_installed "$1"; }; then
    make_venv
    install "$@"
  fi
}

# One at a time: a second script waits for the first one's install.
exec 9< scripts/setup.sh
flock --nonblock 9 || { echo 'waiting for another setup.sh'; flock 9; }

if [ "${1:-}" = --beam ]; then
  venv=.venv-beam
  make_anew requirements-beam.txt 'a minute, 0.5 GB on disk'
  exit
fi
if [ "${1:-}" = --interop ]; then
  # PyTorch alone is pinned without hashes: its builds for CPUs and for CUDA have
  # one version and different files, and either will do. What it needs beside
  # CUDA's packages is in the lock.
  venv=.venv-interop
  if ! is_installed requirements-interop.in; then
    rm -f "$venv/requirements-interop.txt.sha256"
  fi
  make_anew requirements-interop.txt 'a minute, 0.8 GB on disk'
  if ! is_installed requirements-interop.in; then
    torch=$(grep '^torch==' requirements-interop.in)
    echo "installing $torch into $venv (minutes, 1 to 5 GB)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --only-binary=:all: "$torch"
    sha256sum < requirements-interop.in > "$venv/requirements-interop.in.sha256"
  fi
  exit
fi
venv=.venv
if [ "${1:-}" = --tpu ]; then
  # tensorflow and tensorflow-tpu own the same folder: never both.
  make_anew requirements-tpu.txt '2 to 5 minutes, 1 GB to fetch, 3 GB on disk'
  exit
fi
make_anew requirements.txt '2 to 5 minutes, 0.9 GB to fetch, 3 GB on disk'
is_installed requirements-web.txt || install requirements-web.txt 'seconds'
if [ "${1:-}" = --dev ] && ! is_installed requirements-dev.txt; then
  install requirements-dev.txt 'seconds'
fi

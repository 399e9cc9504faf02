#!/usr/bin/env bash
# Makes the locks anew from the .in files: complete, with hashes, for Linux.
#
#   scripts/lock.sh
#   scripts/lock.sh --upgrade     what is locked already moves too
#
# uv does it, in the version of requirements-lock.txt, whose hashes are checked; it
# is installed into .venv-lock.
#
# They are installed with --no-deps, since they are complete but for what
# tf-models-official asks for and nothing here imports.
set -euo pipefail
cd "$(dirname "$0")/.."
upgrade=("$@")

venv=.venv-lock
python3 -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  --no-deps --require-hashes --only-binary=:all: -r requirements-lock.txt

compile() {
  "$venv/bin/uv" pip compile --quiet --python-version 3.11 \
    --python-platform "${platform:-linux}" \
    --generate-hashes --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links "$@"
}

# lock FILE WHAT ARGUMENTS: the old FILE says which versions stay.
lock() {
  local file=$1 what=$2
  cp "$file" "$file.new"
  compile "${upgrade[@]}" --output-file "$file.new" "${@:3}" > /dev/null
  {
    echo "# Made by scripts/lock.sh; $what."
    # scripts/setup.sh says why PyTorch, and CUDA with it, have no hashes.
    awk '/^[a-z]/ { torch = /^(torch|triton|cuda-|nvidia-)/ } !torch' "$file.new"
    case $file in
      requirements.txt | requirements-tpu.txt)
        compile --no-deps requirements-models.in ;;
    esac
  } > "$file.whole"
  mv "$file.whole" "$file"
  rm "$file.new"
}

lock requirements.txt 'installed with --no-deps --require-hashes' \
  requirements.in
lock requirements-dev.txt 'installed on top of requirements.txt' \
  requirements-dev.in
lock requirements-web.txt 'for web pages, installed on top of requirements.txt' \
  --constraint requirements.txt --constraint requirements-dev.txt \
  requirements-web.in
lock requirements-beam.txt 'for --runner=beam, installed apart' \
  requirements-beam.in
lock requirements-interop.txt 'for tests of exports, installed apart' \
  requirements-interop.in
lock requirements-lock.txt 'for scripts/lock.sh' requirements-lock.in
# libtpu has wheels for this platform alone.
platform=x86_64-manylinux_2_31 lock requirements-tpu.txt \
  'for Cloud TPU VMs, instead of requirements.txt' \
  --no-emit-package tensorflow requirements.in requirements-tpu.in

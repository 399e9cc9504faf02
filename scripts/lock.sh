#!/usr/bin/env bash
# Makes the locks anew from the .in files: complete, with hashes, for Linux.
#
#   scripts/lock.sh       needs uv (pip install uv)
#
# They are installed with --no-deps, since they are complete but for what
# tf-models-official asks for and nothing here imports.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
  uv pip compile --quiet --python-version 3.11 \
    --python-platform "${platform:-linux}" \
    --generate-hashes --no-header --no-annotate \
    --no-emit-index-url --no-emit-find-links "$@"
}

{
  echo '# Made by scripts/lock.sh; installed with --no-deps --require-hashes.'
  compile requirements.in
  compile --no-deps requirements-models.in
} > requirements.txt.new
mv requirements.txt.new requirements.txt
{
  echo '# Made by scripts/lock.sh; installed on top of requirements.txt.'
  compile requirements-dev.in
} > requirements-dev.txt.new
mv requirements-dev.txt.new requirements-dev.txt
{
  echo '# Made by scripts/lock.sh; for --runner=beam, installed apart.'
  compile requirements-beam.in
} > requirements-beam.txt.new
mv requirements-beam.txt.new requirements-beam.txt
{
  echo '# Made by scripts/lock.sh; for Cloud TPU VMs, instead of requirements.txt.'
  # libtpu has wheels for this platform alone.
  platform=x86_64-manylinux_2_31 compile --no-emit-package tensorflow \
    requirements.in requirements-tpu.in
  compile --no-deps requirements-models.in
} > requirements-tpu.txt.new
mv requirements-tpu.txt.new requirements-tpu.txt

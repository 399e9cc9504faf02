#!/usr/bin/env bash
# Pretrains on a Cloud TPU VM: makes it, fills it, runs on it, gives it back.
#
#   scripts/tpu_vm.sh watch [OPTIONS] -- FLAGS   the next three, until it is done
#   scripts/tpu_vm.sh create [OPTIONS]           a TPU VM that is ready
#   scripts/tpu_vm.sh install [OPTIONS]          what git tracks here, and .venv;
#                                                Python 3.11 too, as root and with
#                                                apt, where the TPU VM has none
#   scripts/tpu_vm.sh run [OPTIONS] -- FLAGS     run_pretraining.py FLAGS: begin,
#                                                or follow the one that runs
#   scripts/tpu_vm.sh stop [OPTIONS]             save a checkpoint and end
#   scripts/tpu_vm.sh delete [OPTIONS]           what costs money
#
#   --name=albert-mn     of the TPU VM, and of its place in the queue
#   --project=, --zone=  where; those of `gcloud config` otherwise
#   --type=v3-8          v2-8, v3-8, v4-8, v5litepod-8, …
#   --version=           the image; Google's plain one for the type otherwise
#   --spot               cheaper, and may be taken away; or --preemptible: the
#                        same, and taken away within a day
#   --queued             wait in Google's queue until there is one
#   --retries=20         of watch: failures in a row, after which it gives up
#   --pause=60           of watch: seconds after the first, then twice as many
#                        each time, 15 minutes at most
#   --delete_when_done   of watch
#
# watch runs on a Linux machine of yours, or in Cloud Shell. It ends with
#
#   0    done
#   64   bad flags, 65 bad input
#   69   no TPU, or no way to reach it, for as long as it was to try
#   70   training failed over and over
#   77   no permission, or no quota
#   130  Ctrl-C, or stop
#
# docs/tpu.md tells what comes before, and what it costs.
set -euo pipefail
cd "$(dirname "$0")/.."
self=scripts/tpu_vm.sh
name=albert-mn type=v3-8 version='' how='' queued='' retries=20 pause=60
delete_when_done='' where=() options=()
steady=600  # seconds: what fails after them fails for the first time again
longest_pause=900

say() { echo "$(date +%T) tpu_vm.sh: $*" >&2; }

die() { echo "error: $2" >&2; exit "$1"; }

image() {
  case $type in
    v[234]-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) die 64 "expected --type=v2-8, v3-8, v4-8, …; got $type: docs/tpu.md" ;;
  esac
}

tpu() { gcloud compute tpus "$1" "$2" "$name" "${where[@]}" "${@:3}"; }

state() {  # Of a tpu-vm or of queued-resources; nothing where there is none.
  local field=state
  if [ "$1" = queued-resources ]; then field=state.state; fi
  if ! tpu "$1" describe --format="value($field)" 2> "$errors"; then
    grep -q NOT_FOUND "$errors" || { cat "$errors" >&2; return 69; }
  fi
}

refused() {  # Tells what needs a person from what needs time.
  cat "$errors" >&2
  grep -qE '[Qq]uota.*exceeded|PERMISSION_DENIED|UNAUTHENTICATED|INVALID_ARG' \
    "$errors" || exit 69
  die 77 "expected a $type; got the refusal above: docs/tpu.md, troubleshooting"
}

make() {
  local wanted=(--accelerator-type="$type")
  if [ -n "$how" ]; then wanted+=("$how"); fi
  say "asking for a $type as $name"
  if [ -n "$queued" ]; then
    tpu queued-resources create --async --node-id="$name" "${wanted[@]}" \
      --runtime-version="$version" 2> "$errors" || refused
  else
    tpu tpu-vm create "${wanted[@]}" --version="$version" 2> "$errors" || refused
  fi
}

is_coming() {  # $1: the state of the TPU VM, $2: of its place in the queue.
  case $1/$2 in
    *ING/* | /ACTIVE | /ACCEPTED | /WAITING_FOR_RESOURCES | /PROVISIONING | \
      /CREATING) ;;
    *) return 1 ;;
  esac
}

create() {
  local now place said='' asked=''
  while :; do
    now=$(state tpu-vm)
    if [ "$now" = READY ]; then break; fi
    place=$(state queued-resources)
    if is_coming "$now" "$place"; then
      if [ "$now$place" != "$said" ]; then say "${now:-$place}: waiting"; fi
      said=$now$place
      sleep 30
      continue
    fi
    if [ -n "$now$place" ]; then
      say "it is ${now:-$place}: away with it"
      delete
    fi
    if [ -n "$asked" ]; then exit 69; fi
    make
    asked=1
  done
  say "$name is ready"
}

delete() {
  local now place
  place=$(state queued-resources)
  now=$(state tpu-vm)
  if [ -n "$place" ]; then
    tpu queued-resources delete --force --quiet
  elif [ -n "$now" ]; then
    tpu tpu-vm delete --quiet
  fi
}

on_the_vm() {  # Runs $1 there; the rest are flags of gcloud.
  tpu tpu-vm ssh "${@:2}" --command="$1"
}

install() {
  local archive=$scratch/albert-mn.tar.gz
  git ls-files -z | tar --null --files-from=- --create --gzip --file="$archive"
  gcloud compute tpus tpu-vm scp "$archive" "$name:" "${where[@]}" --worker=all
  # A run that is under way keeps the files it began with.
  on_the_vm 'set -eu
    mkdir -p albert-mn/run
    flock --nonblock albert-mn/run/lock true || exit 0
    tar -xzf albert-mn.tar.gz -C albert-mn
    cd albert-mn
    if ! command -v python3.11 > /dev/null; then
      sudo add-apt-repository --yes ppa:deadsnakes/ppa
      sudo apt-get -o DPkg::Lock::Timeout=600 install --yes \
        python3.11 python3.11-venv
    fi
    PYTHON=python3.11 scripts/setup.sh --tpu' --worker=all
}

run() {
  local there=(TPU_NAME=local)
  if [ "${type##*-}" -gt 8 ]; then  # Several hosts: each serves its cores.
    on_the_vm 'cd albert-mn
      flock --nonblock serving true || exit 0
      exec 9> serving
      setsid .venv/bin/start_grpc_tpu_worker < /dev/null > serving.log 2>&1 &
      sleep 20' --worker=all
    there=(TPU_NAME="$name" TPU_LOAD_LIBRARY=0)
  fi
  local command=(env "${there[@]}" .venv/bin/python run_pretraining.py "$@")
  on_the_vm "cd albert-mn && scripts/keep_going.sh run ${command[*]@Q}" \
    --worker=0
}

stop() {
  on_the_vm 'cd albert-mn && scripts/keep_going.sh --stop run' --worker=0
}

watch() {
  local failures=0 code began rest=$pause
  if [[ " $*" != *" --output_dir=gs://"* ]]; then
    die 64 "expected --output_dir=gs://BUCKET/…; got none: a TPU VM's disk\
 goes when the TPU does"
  fi
  trap interrupted INT
  while :; do
    began=$SECONDS code=0
    round "$@" || code=$?
    case $code in
      0) break ;;
      64 | 65 | 70 | 77 | 130) still_there; exit "$code" ;;
    esac
    if ((SECONDS - began >= steady)); then failures=0 rest=$pause; fi
    if ((++failures > retries)); then
      say "exit code $code, the failure number $failures in a row: gave up"
      still_there
      exit 69
    fi
    say "exit code $code: again in $rest s, retry $failures of $retries"
    sleep "$rest"
    rest=$((rest * 2 < longest_pause ? rest * 2 : longest_pause))
  done
  say 'the run is done'
  if [ -n "$delete_when_done" ]; then delete; else still_there; fi
}

round() {  # In processes of their own: `set -e` holds in them.
  "$self" create "${options[@]}" && "$self" install "${options[@]}" \
    && "$self" run "${options[@]}" -- "$@"
}

still_there() {
  say "what is there of $name costs money until it is deleted:" \
    "$self delete ${options[*]@Q}"
}

interrupted() {
  say "no longer watching; a run that was under way goes on without being" \
    "watched. To watch it again: the same command. To save and end it:" \
    "$self stop ${options[*]@Q}"
  still_there
  exit 130
}

action=${1:-}
case $action in
  create | install | run | watch | stop | delete) shift ;;
  *) die 64 "expected create, install, run, watch, stop or delete; got \
'$action': see $self" ;;
esac
while [ $# -gt 0 ]; do
  case $1 in
    --name=?*) name=${1#*=} ;;
    --project=?* | --zone=?*) where+=("$1") ;;
    --type=?*-*[0-9]) type=${1#*=} ;;
    --version=?*) version=${1#*=} ;;
    --spot | --preemptible) how=$1 ;;
    --queued) queued=1 ;;
    --retries=?*) retries=${1#*=} ;;
    --pause=?*) pause=${1#*=} ;;
    --delete_when_done) delete_when_done=1 ;;
    --) shift; break ;;
    *) die 64 "expected an option; got $1: see $self" ;;
  esac
  options+=("$1")
  shift
done
if [ "$queued$how" = 1--preemptible ]; then
  die 64 'expected --spot with --queued; got --preemptible: the queue has none'
fi
version=${version:-$(image)}
scratch=$(mktemp -d)
errors=$scratch/errors
trap 'rm -r "$scratch"' EXIT
"$action" "$@"

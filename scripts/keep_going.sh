#!/usr/bin/env bash
# Runs a command until it is done, out of reach of a lost connection.
#
#   scripts/keep_going.sh [OPTIONS] FOLDER COMMAND...  begin, or follow what runs
#   scripts/keep_going.sh --stop FOLDER                let it save and end
#
#   --retries=5    failures in a row, after which it gives up
#   --pause=30     seconds after the first, then twice as many each time
#   --steady=600   seconds: what fails after them fails for the first time again
#
# FOLDER holds the log, a lock, and how it ended. COMMAND has a session of its
# own: Ctrl-C here ends the following of the log and no more. COMMAND is begun
# again at once when it has saved on SIGTERM (143), and after a pause when it
# failed in a way that its input does not explain. Ends with
#
#   0    done
#   64   bad flags, 65 bad input: COMMAND's 2 and 1, which no patience mends;
#        other numbers, since gcloud and ssh too end with 1 and 2
#   70   gave up
#   75   it was killed before it could say how it ended: call this again
#   130  --stop, or Ctrl-C for COMMAND
#   143  a shutdown: COMMAND has saved
set -euo pipefail
retries=5 pause=30 steady=600 mode=start

say() { echo "$(date +%T) keep_going.sh: $*"; }

finish() {
  local code=$1
  if [ -e "$folder/stop" ]; then code=130; fi
  shift
  say "$*"
  echo "$code" > "$folder/ended"
  exit "$code"
}

stopped() {  # Ends COMMAND, or the pause between two.
  stopping=1
  [ -z "$child" ] || kill -TERM "$child" 2> /dev/null || true
}

child_code() {  # A trapped signal ends `wait` while the child goes on.
  code=0
  wait "$child" || code=$?
  while kill -0 "$child" 2> /dev/null; do
    code=0
    wait "$child" || code=$?
  done
}

supervise() {
  local failures=0 code began
  stopping='' child=''
  trap stopped TERM
  while [ -z "$stopping" ]; do
    began=$SECONDS
    "$@" &
    child=$!
    [ -z "$stopping" ] || stopped
    child_code
    case $code in
      0) finish 0 'done' ;;
      1) finish 65 'bad input: mend what the line above says' ;;
      2) finish 64 'bad flags: mend what the line above says' ;;
      130) finish 130 'interrupted' ;;
      143) say 'it was told to save and end'; continue ;;
    esac
    if ((SECONDS - began >= steady)); then failures=0; fi
    if ((++failures > retries)); then
      finish 70 "exit code $code, failure number $failures in a row: gave up"
    fi
    say "exit code $code: again in $((pause << (failures - 1))) s," \
      "retry $failures of $retries"
    sleep $((pause << (failures - 1))) &
    child=$!
    child_code
  done
  finish 143 'told to end'
}

follow() {  # From byte $1 of the log on.
  local tries
  for tries in {1..50}; do  # Who began it may not have said so yet.
    [ ! -s "$folder/pid" ] || break
    [ "$tries" -lt 50 ] || return 75
    sleep 0.1
  done
  tail --pid="$(cat "$folder/pid")" -c "$1" -f "$folder/log"
  if [ ! -e "$folder/ended" ]; then
    echo "$0: killed: call this again" >&2
    return 75
  fi
  return "$(cat "$folder/ended")"
}

start() {
  local size
  rm -f "$folder/ended" "$folder/stop" "$folder/pid"
  touch "$folder/log"
  size=$(stat -c %s "$folder/log")
  # It inherits the lock, and COMMAND does: no second one while either lives.
  setsid "$0" --retries="$retries" --pause="$pause" --steady="$steady" \
    --supervise "$folder" "$@" < /dev/null >> "$folder/log" 2>&1 &
  echo $! > "$folder/pid"
  exec 9>&-
  follow "+$((size + 1))"
}

stop() {
  touch "$folder/stop"
  kill -TERM "$(cat "$folder/pid")"
  follow 0 || [ $? -eq 130 ]
}

while [ $# -gt 0 ]; do
  case $1 in
    --retries=*) retries=${1#*=} ;;
    --pause=*) pause=${1#*=} ;;
    --steady=*) steady=${1#*=} ;;
    --stop) mode=stop ;;
    --supervise) mode=supervise ;;
    *) break ;;
  esac
  shift
done
if [ $# -eq 0 ] || { [ $# -eq 1 ] && [ "$mode" != stop ]; }; then
  echo "error: expected FOLDER and COMMAND; got ${*:-nothing}: see $0" >&2
  exit 64
fi
folder=$1
shift
if [ "$mode" = supervise ]; then supervise "$@"; fi

mkdir -p "$folder"
exec 9>> "$folder/lock"
if flock --nonblock 9; then
  if [ "$mode" = start ]; then start "$@"; else echo 'nothing runs'; fi
else
  exec 9>&-
  if [ "$mode" = start ]; then follow -2000; else stop; fi
fi

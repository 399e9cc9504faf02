"""Tests of the scripts that start a run again after its TPU was taken away.

gcloud is a program that keeps a TPU's state in a file and runs `ssh --command`
here, in a folder that stands for the TPU VM's home; the commands that it was
given are checked against the real gcloud, where that is installed.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests import conftest, running

TPU_VM = str(running.ROOT / "scripts/tpu_vm.sh")
KEEP_GOING = str(running.ROOT / "scripts/keep_going.sh")
OUTPUT = "--output_dir=gs://bucket/run"

# Answers as gcloud does: states on standard output, errors in its words, the
# exit code of a remote command, 1 for its own errors.
GCLOUD = r"""
import json, os, pathlib, subprocess, sys

home = pathlib.Path(os.environ["CLOUD"])
with open(home / "calls", "a") as calls:
  calls.write(json.dumps(sys.argv[1:]) + "\n")
_, _, kind, action, *rest = sys.argv[1:]
place = home / (kind if kind == "queued-resources" else "tpu-vm")
plan = json.loads((home / "plan").read_text())

def fail(message):
  print(f"ERROR: (gcloud.compute.tpus.{kind}.{action}) {message}",
    file=sys.stderr)
  sys.exit(1)

def next_of(name):
  answers = plan.get(name, [])
  answer = answers.pop(0) if answers else None
  (home / "plan").write_text(json.dumps(plan))
  return answer

if action == "describe":
  if not place.exists():
    fail("NOT_FOUND: Resource 'projects/p/nodes/x' was not found. This command "
      "is authenticated as me@x.mn which is the active account")
  states = place.read_text().split()
  print(states[0])
  if states[1:]:
    place.write_text(" ".join(states[1:]))
    if states[1] == "ACTIVE":
      (home / "tpu-vm").write_text("READY")
elif action == "create":
  refusal = next_of("create")
  if refusal:
    fail(refusal)
  queue = "WAITING_FOR_RESOURCES PROVISIONING ACTIVE"
  place.write_text(queue if kind == "queued-resources" else "READY")
elif action == "delete":
  for file in ("queued-resources", "tpu-vm"):
    (home / file).unlink(missing_ok=True)
elif action == "ssh":
  (command,) = [a.split("=", 1)[1] for a in rest if a.startswith("--command=")]
  if "keep_going.sh" in command:
    answer = next_of("run") if "run_pretraining.py" in command else None
    if answer == "preempted":
      (home / "tpu-vm").write_text("PREEMPTED")
      (home / "queued-resources").exists() and (
        home / "queued-resources").write_text("SUSPENDED")
      sys.exit(255)
    if answer is not None:
      sys.exit(answer)
    sys.exit(subprocess.run(["bash", "-c", command], cwd=home).returncode)
"""


class Cloud:
  """A stand-in for Google Cloud: programs `gcloud` and `sleep` in a folder.

  `gcloud` writes down the actions and answers as planned; `sleep` only writes
  down the seconds.

  Args:
    home: an empty folder, which is the home of the TPU VM too.
    plan: "create" → the refusals of the first requests, in order; "run" → the
      exit code of each start of the training, or "preempted".
  """

  def __init__(
    self, home: pathlib.Path, plan: dict[str, list[str | int]]
  ) -> None:
    self.home = home
    (home / "plan").write_text(json.dumps(plan))
    self._program("gcloud", f"#!{sys.executable}\n{GCLOUD}")
    self._program("sleep", '#!/bin/sh\necho "$1" >> "$CLOUD/pauses"\n')
    self.environment = os.environ | {
      "CLOUD": str(home),
      "PATH": f"{home}/bin:{os.environ['PATH']}",
    }

  def _program(self, name: str, text: str) -> None:
    path = self.home / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)

  def run(self, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
      [TPU_VM, *command],
      env=self.environment,
      cwd=self.home,
      capture_output=True,
      text=True,
      check=False,
      timeout=100,
    )

  def calls(self) -> list[list[str]]:
    lines = (self.home / "calls").read_text().splitlines()
    return [json.loads(line) for line in lines]

  def did(self, *actions: str) -> list[str]:
    """Returns, in order, the requested actions that are in `actions`."""
    return [call[3] for call in self.calls() if call[3] in actions]

  def pauses(self) -> list[int]:
    path = self.home / "pauses"
    return [int(p) for p in path.read_text().split()] if path.exists() else []


def test_a_tpu_that_is_taken_twice_is_made_anew_and_the_run_ends(
  tmp_path: pathlib.Path,
) -> None:
  cloud = Cloud(tmp_path, {"run": ["preempted", "preempted", 0]})
  done = cloud.run("watch", "--zone=z", "--spot", "--", OUTPUT)
  assert done.returncode == 0, done.stderr
  asked = ["create", "delete", "create", "delete", "create"]
  assert cloud.did("create", "delete") == asked
  assert done.stderr.count("it is PREEMPTED: away with it") == 2
  assert "the run is done" in done.stderr
  assert "costs money until it is deleted" in done.stderr
  assert cloud.pauses() == [60, 120]


def test_the_queue_is_waited_for_and_entered_anew_after_preemption(
  tmp_path: pathlib.Path,
) -> None:
  cloud = Cloud(tmp_path, {"run": ["preempted", 0]})
  flags = ("--queued", "--spot", "--delete_when_done", "--", OUTPUT)
  done = cloud.run("watch", *flags)
  assert done.returncode == 0, done.stderr
  for said in ("WAITING_FOR_RESOURCES: waiting", "PROVISIONING: waiting"):
    assert done.stderr.count(said) == 2
  kinds = [c[2] for c in cloud.calls() if c[3] in ("create", "delete")]
  assert kinds == ["queued-resources"] * 4
  assert not (tmp_path / "tpu-vm").exists()


@pytest.mark.parametrize("code", [64, 65, 70, 130])
def test_what_trying_again_does_not_mend_ends_at_once(
  tmp_path: pathlib.Path, code: int
) -> None:
  cloud = Cloud(tmp_path, {"run": [code, 0]})
  done = cloud.run("watch", "--", OUTPUT)
  assert done.returncode == code, done.stderr
  assert cloud.did("create", "delete") == ["create"]
  assert cloud.pauses() == []
  assert "costs money until it is deleted" in done.stderr


NO_CAPACITY = 'There is no more capacity in the zone "europe-west4-a"'
NO_QUOTA = (
  "RESOURCE_EXHAUSTED: Quota limit 'TPUV3sPerProjectPerZoneForTPUAPI' has been "
  "exceeded. Limit: 0 in zone europe-west4-a."
)


def test_without_capacity_the_pauses_grow_up_to_a_limit_and_so_do_the_tries(
  tmp_path: pathlib.Path,
) -> None:
  cloud = Cloud(tmp_path, {"create": [NO_CAPACITY] * 9})
  done = cloud.run("watch", "--retries=6", "--", OUTPUT)
  assert done.returncode == 69, done.stderr
  assert cloud.did("create") == ["create"] * 7
  assert cloud.pauses() == [60, 120, 240, 480, 900, 900]
  assert "failure number 7 in a row: gave up" in done.stderr
  cloud = Cloud(tmp_path, {"create": [NO_CAPACITY], "run": [0]})
  assert cloud.run("watch", "--pause=1", "--", OUTPUT).returncode == 0


def test_without_quota_a_person_is_asked_at_once(
  tmp_path: pathlib.Path,
) -> None:
  cloud = Cloud(tmp_path, {"create": [NO_QUOTA] * 2})
  done = cloud.run("watch", "--", OUTPUT)
  assert done.returncode == 77, done.stderr
  assert cloud.did("create") == ["create"]
  assert cloud.pauses() == []
  assert NO_QUOTA in done.stderr
  assert "docs/tpu.md" in done.stderr


def test_a_lost_connection_is_taken_up_again_on_the_same_tpu(
  tmp_path: pathlib.Path,
) -> None:
  cloud = Cloud(tmp_path, {"run": [255, 1, 0]})
  done = cloud.run("watch", "--", OUTPUT)
  assert done.returncode == 0, done.stderr
  assert cloud.did("create", "delete") == ["create"]


@pytest.mark.parametrize(
  ("command", "message"),
  [
    (["watch", "--", "--output_dir=run"], "expected --output_dir=gs://"),
    (["create", "--type=v9-8"], "expected --type=v2-8"),
    (["create", "--zonee=x"], "expected an option; got --zonee=x"),
    (["create", "--queued", "--preemptible"], "expected --spot with --queued"),
    (["make"], "expected create, install, run"),
  ],
)
def test_a_wrong_option_ends_in_one_line_before_gcloud_is_asked(
  tmp_path: pathlib.Path, command: list[str], message: str
) -> None:
  cloud = Cloud(tmp_path, {})
  done = cloud.run(*command)
  assert done.returncode == 64
  assert message in done.stderr
  assert done.stderr.count("\n") == 1
  assert not (tmp_path / "calls").exists()


def _machine(home: pathlib.Path, python: str) -> pathlib.Path:
  """Makes what `install` leaves on the TPU VM, with a `python` of one line."""
  there = home / "albert-mn"
  (there / ".venv/bin").mkdir(parents=True)
  for name in ("run_pretraining.py", "scripts"):
    (there / name).symlink_to(running.ROOT / name)
  interpreter = there / ".venv/bin/python"
  interpreter.write_text(f"#!/bin/sh\necho $$ > python.pid\n{python}\n")
  interpreter.chmod(0o755)
  (home / "bin/sleep").unlink()  # what runs there has its real pauses
  return there


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def _pid(path: pathlib.Path) -> int:
  _until(lambda: path.exists() and path.read_text().strip() != "")
  return int(path.read_text())


SAVES_ON_SIGTERM = """
trap 'echo saving; exit 143' TERM
printf 'training:'; printf ' [%s]' "$@"; echo
while :; do sleep 0.05; done
"""


def test_ctrl_c_ends_the_watching_and_leaves_tpu_and_training(
  tmp_path: pathlib.Path,
) -> None:
  cloud = Cloud(tmp_path, {})
  there = _machine(tmp_path, SAVES_ON_SIGTERM)
  records = "--input_file=gs://bucket/улаан хот/train-*"
  watching = subprocess.Popen(
    [TPU_VM, "watch", "--name=a", "--", OUTPUT, records],
    env=cloud.environment,
    stderr=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    start_new_session=True,
    preexec_fn=running.heed_ctrl_c,
  )
  training = _pid(there / "python.pid")
  try:
    _until(lambda: "training" in (there / "run/log").read_text())
    os.killpg(watching.pid, signal.SIGINT)
    said = watching.communicate(timeout=60)[1]
    assert watching.returncode == 130, said
    assert "a run that was under way goes on" in said
    assert "scripts/tpu_vm.sh delete '--name=a'" in said
    os.kill(training, 0)  # It is there.
    assert (tmp_path / "tpu-vm").read_text() == "READY"
    assert cloud.run("stop", "--name=a").returncode == 0
    _until(lambda: not pathlib.Path(f"/proc/{training}").exists())
    log = (there / "run/log").read_text()
    assert f"training: [run_pretraining.py] [{OUTPUT}] [{records}]" in log
    assert "saving" in log
  finally:
    _stop(there)


def _stop(there: pathlib.Path) -> None:
  """Ends the run that a failed test would leave."""
  subprocess.run([KEEP_GOING, "--stop", there / "run"], check=False, timeout=60)


def _going(
  folder: pathlib.Path, script: str, *options: str
) -> subprocess.CompletedProcess[str]:
  """Runs a bash script under keep_going.sh; $n is how often it began before."""
  count = f"n=$(cat {folder}/n 2> /dev/null || echo 0); echo $((n + 1)) > "
  command = ["bash", "-c", f"{count}{folder}/n; {script}"]
  return subprocess.run(
    [KEEP_GOING, *options, str(folder / "run"), *command],
    capture_output=True,
    text=True,
    check=False,
    timeout=60,
  )


@pytest.mark.parametrize(
  ("codes", "options", "ends", "begun"),
  [
    ([0], [], 0, 1),
    ([1, 0], [], 65, 1),
    ([2, 0], [], 64, 1),
    ([143, 143, 0], [], 0, 3),
    ([134, 70, 0], ["--pause=0"], 0, 3),
    ([7, 7, 7, 0], ["--pause=0", "--retries=2"], 70, 3),
    ([7, 7, 7, 0], ["--pause=0", "--retries=2", "--steady=0"], 0, 4),
    ([130, 0], [], 130, 1),
  ],
)
def test_a_command_is_begun_again_where_that_may_help(
  tmp_path: pathlib.Path,
  codes: list[int],
  options: list[str],
  ends: int,
  begun: int,
) -> None:
  script = f"codes=({' '.join(map(str, codes))}); exit ${{codes[n]}}"
  done = _going(tmp_path, script, *options)
  assert done.returncode == ends, done.stdout
  assert (tmp_path / "n").read_text() == f"{begun}\n"


def test_pauses_between_failures_double(tmp_path: pathlib.Path) -> None:
  done = _going(tmp_path, "exit 7", "--pause=1", "--retries=2")
  assert "exit code 7: again in 1 s, retry 1 of 2" in done.stdout
  assert "exit code 7: again in 2 s, retry 2 of 2" in done.stdout


def test_a_second_call_follows_the_first_and_stop_ends_both(
  tmp_path: pathlib.Path,
) -> None:
  command = [KEEP_GOING, str(tmp_path / "run"), "bash", "-c", SAVES_ON_SIGTERM]
  first, second = (
    subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(2)
  )
  _until(lambda: (tmp_path / "run/log").exists())
  _until(lambda: "training" in (tmp_path / "run/log").read_text())
  stopped = subprocess.run(
    [KEEP_GOING, "--stop", str(tmp_path / "run")], check=False, timeout=60
  )
  assert stopped.returncode == 0
  codes = [process.wait(timeout=60) for process in (first, second)]
  assert codes == [130, 130]
  log = (tmp_path / "run/log").read_text()
  assert log.count("training:") == 1
  assert log.count("saving") == 1


def test_what_outlives_its_loop_is_not_begun_twice(
  tmp_path: pathlib.Path,
) -> None:
  there = tmp_path / "run"
  script = f"echo $$ > {tmp_path}/command; while :; do sleep 0.05; done"
  command = [KEEP_GOING, str(there), "bash", "-c", script]
  first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
  pid = _pid(tmp_path / "command")
  try:
    os.kill(_pid(there / "pid"), signal.SIGKILL)
    assert first.wait(timeout=60) == 75
    again = subprocess.run(command, check=False, timeout=60)
    assert again.returncode == 75
    assert _pid(tmp_path / "command") == pid
  finally:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_pretraining_told_to_save_goes_on_in_the_loop_and_ends(
  tmp_path: pathlib.Path, dynamic_records: pathlib.Path
) -> None:
  cloud = Cloud(tmp_path, {})
  there = _machine(tmp_path, f'exec {shlex.quote(sys.executable)} "$@"')
  shape = dict(
    vocab_size=400,
    embedding_size=8,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=conftest.DYNAMIC_LENGTH,
  )
  (tmp_path / "config.json").write_text(json.dumps(shape))
  output = tmp_path / "out"
  watching = subprocess.Popen(
    [
      TPU_VM,
      "watch",
      "--",
      OUTPUT,
      "--do_train",
      "--nojit_compile",
      f"--input_file={dynamic_records}/train-*.tfrecord",
      f"--albert_config_file={tmp_path}/config.json",
      "--train_batch_size=8",
      "--num_train_steps=400",
      "--num_warmup_steps=9",
      "--learning_rate=0.01",
      "--iterations_per_loop=10",
      "--save_checkpoints_steps=1000",
      f"--output_dir={output}",  # after the first, which watch asks for
    ],
    env=cloud.environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  pid = _pid(there / "python.pid")
  log = there / "run/log"
  try:
    _until(lambda: "step 10 of 400" in log.read_text(), 600)
    os.kill(pid, signal.SIGTERM)
    said = watching.communicate(timeout=900)[0]
  finally:
    _stop(there)
    watching.kill()
  assert watching.returncode == 0, said
  assert "SIGTERM: saved" in said
  assert "it was told to save and end" in said
  assert "training from step 0 to 400" in said
  assert len(re.findall("training from step [1-9]", said)) == 1
  assert "the run is done" in said
  assert (output / "model/manifest.json").exists()
  assert cloud.did("create") == ["create"]


def _page_commands() -> list[list[str]]:
  """Returns the gcloud commands of docs/tpu.md, as words, with names filled in."""
  text = (running.ROOT / "docs/tpu.md").read_text("utf-8")
  blocks = "\n".join(re.findall(r"```text\n(.*?)```", text, re.DOTALL))
  for name, value in (("ZONE", "us-central1-b"), ("PROJECT", "my-project")):
    blocks = re.sub(rf"\b{name}\b", value, blocks)
  lines = blocks.replace("\\\n", " ").splitlines()
  return [shlex.split(line)[1:] for line in lines if line.startswith("gcloud ")]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcloud"), reason="needs gcloud")
def test_gcloud_knows_every_command_and_flag_of_script_and_page(
  tmp_path: pathlib.Path,
) -> None:
  """Without an account, gcloud ends with 2 for an unknown flag, else with 1."""
  cloud = Cloud(tmp_path, {"run": ["preempted", 0]})
  cloud.run("watch", "--zone=us-central1-b", "--project=p", "--", OUTPUT)
  queued = ("--queued", "--spot", "--delete_when_done")
  cloud.home.joinpath("plan").write_text('{"run": [0, 0]}')
  cloud.run("watch", *queued, "--type=v3-32", "--", OUTPUT)
  cloud.run("stop")
  scripts = {json.dumps([w[:90] for w in call]) for call in cloud.calls()}
  environment = {
    "PATH": os.environ["PATH"],
    "HOME": str(tmp_path),
    "CLOUDSDK_CONFIG": str(tmp_path / "config"),
    "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
    "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    "CLOUDSDK_CORE_PROJECT": "p",
    "CLOUDSDK_COMPUTE_ZONE": "us-central1-b",
  }
  page = _page_commands()
  assert len(page) > 10
  assert len(scripts) > 8
  for command in [*map(json.loads, sorted(scripts)), *page]:
    if command[:2] == ["auth", "login"]:
      continue  # it would ask
    done = subprocess.run(
      ["gcloud", *command],
      env=environment,
      capture_output=True,
      text=True,
      check=False,
      stdin=subprocess.DEVNULL,
      timeout=120,
    )
    assert done.returncode in (0, 1), f"{command}: {done.stderr}"
    if done.returncode == 1:
      assert "active account" in done.stderr, f"{command}: {done.stderr}"


def test_the_page_names_options_that_the_script_has() -> None:
  text = (running.ROOT / "docs/tpu.md").read_text("utf-8")
  script = pathlib.Path(TPU_VM).read_text("utf-8").split("case $1 in")[1]
  options = set(re.findall(r"--(\w+)", script.split("esac")[0]))
  assert {"name", "zone", "type", "spot", "queued"} <= options
  commands = re.findall(
    r"^(?:\./)?scripts/tpu_vm\.sh(.*?)(?: -- |\n)", text, re.M
  )
  used = {name for c in commands for name in re.findall(r"--(\w+)", c)}
  assert used
  assert used <= options, used - options


def test_what_is_deleted_is_what_is_there(tmp_path: pathlib.Path) -> None:
  cloud = Cloud(tmp_path, {})
  assert cloud.run("delete").returncode == 0
  assert cloud.did("delete") == []
  assert cloud.run("create").returncode == 0
  assert cloud.run("delete").returncode == 0
  assert cloud.did("delete") == ["delete"]
  assert not (tmp_path / "tpu-vm").exists()


def test_the_scripts_please_shellcheck() -> None:
  shellcheck = shutil.which("shellcheck")
  if not shellcheck:
    pytest.skip("needs shellcheck")
  scripts = sorted(str(p) for p in (running.ROOT / "scripts").glob("*.sh"))
  subprocess.run([shellcheck, *scripts], check=True)


def test_the_tpus_lock_holds_one_tensorflow() -> None:
  lock = (running.ROOT / "requirements-tpu.txt").read_text("utf-8")
  names = re.findall(r"^([\w-]+)==", lock, re.MULTILINE)
  assert "tensorflow-tpu" in names
  assert "libtpu" in names
  unwanted = {
    "tensorflow",
    "tensorflow-cpu",
    "tf-nightly",
    "jax",
    "nvidia-nccl-cu12",
  }
  assert not unwanted & set(names)
  plain = (running.ROOT / "requirements.txt").read_text("utf-8")
  versions = dict(re.findall(r"^([\w-]+)==(\S+)", plain + lock, re.MULTILINE))
  assert versions["tensorflow-tpu"] == versions["tensorflow"]

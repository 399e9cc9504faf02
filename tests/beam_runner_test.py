"""Tests that Apache Beam writes the same bytes as the local runner."""

import contextlib
import os
import pathlib
import socketserver
import subprocess
import threading
from collections.abc import Iterator

import pytest

from data_prep.base import beam_flags, options
from data_prep.pretraining import beam_runner
from data_prep.pretraining import pretraining_data as pretraining
from tests import running

# Makes records of portions of one file each, which are large in real work.
_SMALL_PORTIONS = """
import runpy
from data_prep.files import documents
documents._BYTES_A_PORTION = 1
runpy.run_module("data_prep.create_pretraining_data", run_name="__main__")
"""


def _flags(folder: pathlib.Path, model: str, out: pathlib.Path) -> list[str]:
  return [
    f"--input_file={folder}/*.txt",
    f"--spm_model_file={model}",
    f"--output_dir={out}",
    "--max_seq_length=64",
    "--eval_fraction=0.05",
    "--dupe_factor=2",
    "--num_shards=5",
    "--random_next_sentence",
    "--do_permutation",
  ]


def _large(udhr: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Writes a corpus of three files to a new folder; returns the folder.

  It has the Declaration 50 times, with the number of the copy in each line.
  """
  folder.mkdir()
  lines = udhr.read_text("utf-8").splitlines()
  for number in range(3):
    text = "\n\n".join(
      "\n".join(line and f"{line} ({copy})" for line in lines)
      for copy in range(number, 50, 3)
    )
    (folder / f"{number}.txt").write_text(text, encoding="utf-8")
  return folder


@contextlib.contextmanager
def _proxy() -> Iterator[tuple[dict[str, str], list[bytes]]]:
  """Yields an environment whose proxy is ours, and the requests that it gets.

  The proxy answers no request. Addresses of this machine need no proxy.
  """
  requests: list[bytes] = []

  class Recorder(socketserver.StreamRequestHandler):
    def handle(self) -> None:
      requests.append(self.rfile.readline())

  with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Recorder) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    names = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")
    environment = os.environ | {"no_proxy": "localhost,127.0.0.1,::1"}
    environment |= dict.fromkeys(names, address)
    environment |= dict.fromkeys(map(str.upper, names), address)
    yield environment, requests
    server.shutdown()


@pytest.mark.slow
def test_beam_with_several_workers_writes_the_local_runners_bytes_offline(
  programs: running.Programs,
  udhr: pathlib.Path,
  tokenizer_file: str,
  tmp_path: pathlib.Path,
) -> None:
  subprocess.run(["scripts/setup.sh", "--beam"], cwd=running.ROOT, check=True)
  corpus = _large(udhr, tmp_path / "corpus")
  programs.succeed(
    "-m",
    "data_prep.create_pretraining_data",
    *_flags(corpus, tokenizer_file, tmp_path / "local"),
  )
  with _proxy() as (environment, requests):
    done = subprocess.run(
      [
        ".venv-beam/bin/python",
        "-c",
        _SMALL_PORTIONS,
        *_flags(corpus, tokenizer_file, tmp_path / "beam"),
        "--runner=beam",
        f"--beam_options=--runner={beam_flags.LOCAL_RUNNER} "
        "--direct_num_workers=2 --direct_running_mode=multi_processing",
      ],
      cwd=running.ROOT,
      env=environment,
      capture_output=True,
      text=True,
      check=False,
    )
    assert not requests
    fetch = (
      "import urllib.request as u; u.urlopen('https://beam.mn', timeout=9)"
    )
    command = [".venv-beam/bin/python", "-c", fetch]
    subprocess.run(command, env=environment, check=False, capture_output=True)
    assert requests, "the proxy would have seen a request"
  assert done.returncode == 0, done.stderr[-3000:]
  assert running.digests(tmp_path / "beam") == running.digests(
    tmp_path / "local"
  )


def test_without_beam_its_runner_names_the_environment_to_use(
  tmp_path: pathlib.Path,
) -> None:
  settings = pretraining.Options(
    input_file="a", spm_model_file="model", output_dir=str(tmp_path)
  )
  flags = f"--runner={beam_flags.LOCAL_RUNNER}"
  with pytest.raises(options.InputError, match=r"setup\.sh --beam"):
    beam_runner.run(flags, pretraining.Plan(settings, str(tmp_path), []))
  assert not list(tmp_path.iterdir())

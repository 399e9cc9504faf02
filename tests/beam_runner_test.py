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
from data_prep.files import documents
from data_prep.pretraining import beam_runner, examples, held_out
from data_prep.pretraining import pretraining_data as pretraining
from tests import running


def _flags(corpus: pathlib.Path, model: str, out: pathlib.Path) -> list[str]:
  return [
    "-m",
    "data_prep.create_pretraining_data",
    f"--input_file={corpus}",
    f"--spm_model_file={model}",
    f"--output_dir={out}",
    "--max_seq_length=64",
    "--eval_fraction=0.05",
    "--dupe_factor=2",
    "--num_shards=5",
    "--random_next_sentence",
    "--do_permutation",
  ]


def _large(udhr: pathlib.Path, path: pathlib.Path) -> pathlib.Path:
  """Writes a corpus of several ranges of documents; returns its path.

  It has the Declaration 50 times, with the number of the copy in each line.
  """
  lines = udhr.read_text("utf-8").splitlines()
  path.write_text(
    "\n\n".join(
      "\n".join(line and f"{line} ({copy})" for line in lines)
      for copy in range(50)
    ),
    encoding="utf-8",
  )
  return path


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
  corpus = _large(udhr, tmp_path / "corpus.txt")
  parts = documents.weighted(str(corpus))
  survey = held_out.survey(parts, 0.05, 1)
  assert len(survey.ids) > 600, "several ranges, so that workers share them"
  programs.succeed(*_flags(corpus, tokenizer_file, tmp_path / "local"))
  with _proxy() as (environment, requests):
    done = subprocess.run(
      [
        ".venv-beam/bin/python",
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
  job = pretraining.Job(examples.Recipe(), "model", str(tmp_path), {}, 1)
  flags = f"--runner={beam_flags.LOCAL_RUNNER}"
  with pytest.raises(options.InputError, match=r"setup\.sh --beam"):
    beam_runner.run(flags, job, [], pretraining.Forecast(0, 0, 0, 0.0))
  assert not list(tmp_path.iterdir())


def test_ranges_survive_the_way_through_a_file(tmp_path: pathlib.Path) -> None:
  text = examples.Text(2**64 - 1, 3, ("Сайн байна уу?", "Өглөө."), True)
  task = examples.Range(True, (text,))
  (path,) = beam_runner._written([task], str(tmp_path))
  assert beam_runner._read(path) == task

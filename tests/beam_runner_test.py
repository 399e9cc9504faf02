"""Apache Beam, with several worker processes: the local runner's bytes."""

import pathlib
import subprocess

import pytest

from data_prep.base import options
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
  """Several ranges of documents: the Declaration 50 times, lines numbered."""
  lines = udhr.read_text("utf-8").splitlines()
  path.write_text(
    "\n\n".join(
      "\n".join(line and f"{line} ({copy})" for line in lines)
      for copy in range(50)
    ),
    encoding="utf-8",
  )
  return path


@pytest.mark.slow
def test_beam_with_several_workers_writes_the_local_runners_bytes(
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
  done = subprocess.run(
    [
      ".venv-beam/bin/python",
      *_flags(corpus, tokenizer_file, tmp_path / "beam"),
      "--runner=beam",
      "--beam_options=--runner=DirectRunner --direct_num_workers=2 "
      "--direct_running_mode=multi_processing",
    ],
    cwd=running.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  assert running.digests(tmp_path / "beam") == running.digests(
    tmp_path / "local"
  )


def test_without_beam_its_runner_names_the_environment_to_use(
  tmp_path: pathlib.Path,
) -> None:
  job = pretraining.Job(examples.Recipe(), "model", str(tmp_path), {}, 1)
  with pytest.raises(options.InputError, match=r"setup\.sh --beam"):
    beam_runner.run("", job, [], pretraining.Forecast(0, 0, 0, 0.0))
  assert not list(tmp_path.iterdir())


def test_ranges_survive_the_way_through_a_file(tmp_path: pathlib.Path) -> None:
  text = examples.Text(2**64 - 1, 3, ("Сайн байна уу?", "Өглөө."), True)
  task = examples.Range(True, (text,))
  (path,) = beam_runner._written([task], str(tmp_path))
  assert beam_runner._read(path) == task

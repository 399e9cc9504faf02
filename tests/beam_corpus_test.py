"""Tests that Apache Beam builds the same corpus as the local runner."""

import gzip
import json
import pathlib
import pickle
import subprocess

import pytest

from data_prep.base import beam_flags
from data_prep.corpus import beam_corpus, corpus_stats
from tests import running


def _raw(udhr: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Writes raw text to a new folder; returns the folder.

  Of the documents, some are exact and near copies of documents in other files,
  some are not Mongolian, and a row of the JSON lines cannot be read. A file is
  cut off.
  """
  folder.mkdir()
  lines = udhr.read_text("utf-8").split("\n")
  articles = [" ".join(lines[i : i + 6]) for i in range(0, 60, 3)]
  for number in range(3):
    texts = [
      f"{article} {copy} удаа."
      for copy in range(4)
      for article in articles[5 * number : 5 * number + 10]
    ]
    texts += [*articles, "This is a text in English, which is no Mongolian."]
    path = folder / f"{number}.txt"
    path.write_text("\n\n".join(texts * 3), encoding="utf-8")
  rows = [*articles, None, *articles[::-1]]
  text = "\n".join(json.dumps({"text": row}) for row in rows)
  (folder / "rows.jsonl").write_text(text, encoding="utf-8")
  (folder / "cut.jsonl.gz").write_bytes(gzip.compress(text.encode())[:-200])
  return folder


def _content(folder: pathlib.Path) -> dict[str, str]:
  """Returns name → hash of the files of a corpus, and of its manifest's rest.

  The rest is without `program`, since Beam's environment has another version of
  pyarrow, and without the hash of the report, which shows `program`.
  """
  digests = running.digests(folder)
  told = json.loads((folder / "manifest.json").read_text("utf-8"))
  del told["parameters"]["program"], told["files"]["corpus_report.html"]
  del digests["corpus_report.html"]
  return digests | {"manifest.json": json.dumps(told)}


@pytest.mark.slow
def test_beam_with_several_workers_writes_the_local_runners_corpus(
  programs: running.Programs, udhr: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  subprocess.run(["scripts/setup.sh", "--beam"], cwd=running.ROOT, check=True)
  raw = _raw(udhr, tmp_path / "raw")
  (tmp_path / "eval.txt").write_text(udhr.read_text("utf-8")[4000:4600])
  flags = [
    "-m",
    "data_prep.build_corpus",
    f"--input_file={raw}/*",
    "--near_duplicates=0.7",
    "--num_shards=3",
    "--bad_rows=leave_out",
    "--scrub_personal_data",
    f"--decontaminate={tmp_path}/eval.txt",
  ]
  programs.succeed(*flags, f"--output_dir={tmp_path}/local")
  done = subprocess.run(
    [
      ".venv-beam/bin/python",
      *flags,
      f"--output_dir={tmp_path}/beam",
      "--runner=beam",
      f"--beam_options=--runner={beam_flags.LOCAL_RUNNER} "
      "--direct_num_workers=2 --direct_running_mode=multi_processing",
    ],
    cwd=running.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  stats = json.loads((tmp_path / "local/stats.json").read_text("utf-8"))
  assert stats["dropped: near duplicate"] > 20
  assert stats["dropped: exact duplicate"] > 20
  assert stats["lines: in an evaluation set"]
  bad = (tmp_path / "local/bad_rows.tsv").read_text("utf-8")
  assert "cut.jsonl.gz" in bad
  made = [_content(tmp_path / name) for name in ("local", "beam")]
  assert made[0] == made[1]


def test_documents_that_links_connect_have_one_root() -> None:
  a, b, c, d, e = ((0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1), (2, 7, 3))
  links = [(a, c), (d, e), (b, c)]
  roots = {
    (*batch, number): root
    for batch, (number, root) in beam_corpus._roots((0, links))
  }
  assert roots.keys() == {a, b, c, d, e}
  assert roots[a] == roots[b] == roots[c]
  assert roots[d] == roots[e] != roots[a]


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
  def fill(stats: corpus_stats.Stats, part: int) -> None:
    file = f"{9 - part}.txt"
    stats.read(file, 3, 4, 5)
    stats.lose(file, "boilerplate", ["", f"мөр {part}", "нэг мөр"])
    stats.miss(["Загвар", "загвар"][part % 2 :])
    stats.drop(file, "too few words", "")
    stats.drop(file, "near duplicate", f"баримт {part}")
    stats.keep(file, [["Сайн байна уу?"] * part, [f"Ө{part}өр."]])

  whole, added = corpus_stats.Stats(), corpus_stats.Stats()
  for part in range(5):
    fill(whole, part)
    single = corpus_stats.Stats()
    fill(single, part)
    added.add(pickle.loads(pickle.dumps(single)))
  assert corpus_stats.to_json(added.content()) == corpus_stats.to_json(
    whole.content()
  )
  assert added.totals == whole.totals

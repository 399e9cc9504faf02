"""Tests of building a corpus: what is kept, dropped and refused."""

import dataclasses
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from data_prep.corpus import corpora, corpus_options, preparation
from data_prep.sources import downloads, texts
from data_prep.text import cleaning
from tests import running

RAW = """\
Монгол Улс нь\u00a0Төв Азид оршдог. Нийслэл нь Улаанбаатар хот юм.
Хүн ам нь гурван сая гаруй.

Ц. Дамдинсүрэн \u201cТаван хурд\u201d номоо бичжээ. Саи\u0306н ном шүү.

Зураг 1

12 345 67 89 0 1

Ц. Дамдинсүрэн \u201cТаван хурд\u201d номоо бичжээ. Сайн ном шүү.
"""
CORPUS = """\
Монгол Улс нь Төв Азид оршдог.
Нийслэл нь Улаанбаатар хот юм.
Хүн ам нь гурван сая гаруй.

Ц. Дамдинсүрэн \u201cТаван хурд\u201d номоо бичжээ.
Сайн ном шүү.

"""


def _flags(source: pathlib.Path, out: pathlib.Path, *more: str) -> list[str]:
  return [
    "-m",
    "data_prep.build_corpus",
    f"--input_file={source}",
    f"--output_dir={out}",
    *more,
  ]


@pytest.fixture
def raw(tmp_path: pathlib.Path) -> pathlib.Path:
  path = tmp_path / "raw.txt"
  path.write_text(RAW, encoding="utf-8")
  return path


@pytest.fixture
def large(tmp_path: pathlib.Path) -> pathlib.Path:
  """The path of a text of 60,000 different documents: some seconds of work."""
  path = tmp_path / "large.txt"
  with path.open("w", encoding="utf-8") as file:
    for number in range(60_000):
      file.write(f"Энэ бол {number} дугаар баримт бичиг юм. Сайн уу.\n\n")
  return path


def test_text_becomes_sentences_and_every_loss_has_a_reason(
  programs: running.Programs, raw: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  out = tmp_path / "out"
  programs.succeed(*_flags(raw, out))
  assert (out / "corpus-00000-of-00001.txt").read_text("utf-8") == CORPUS
  stats = json.loads((out / "stats.json").read_text())
  counts = {
    "documents": 2,
    "documents read": 5,
    "dropped: exact duplicate": 1,
    "dropped: no letters": 1,
    "dropped: too few words": 1,
    "lines: line without letters": 1,
    "sentences": 5,
    "sentences read": 9,
    "words": 26,
    "words read": 43,
  }
  assert stats.pop("files") == {"raw.txt": counts}
  assert stats.pop("examples") == {
    "exact duplicate": ["Ц. Дамдинсүрэн “Таван хурд” номоо бичжээ."],
    "line without letters": ["12 345 67 89 0 1"],
    "no letters": [],
    "too few words": ["Зураг 1"],
  }
  assert stats.pop("document_sentences") == {"2": 1, "3": 1}
  assert stats.pop("sentence_words") == {"3": 1, "4-5": 1, "6-7": 3}
  assert stats.pop("letters")["ү"] == 4
  assert stats == counts
  manifest = json.loads((out / "manifest.json").read_text())
  assert manifest["counts"] == counts
  assert str(tmp_path) not in json.dumps(manifest)
  assert not list(out.glob(".*"))


def test_files_of_one_name_are_counted_apart(
  programs: running.Programs, raw: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  namesake = tmp_path / "other/raw.txt"
  namesake.parent.mkdir()
  namesake.write_text("Энэ бол өөр хавтасны ижил нэртэй файл.\n", "utf-8")
  flags = (*_flags(raw, tmp_path / "out"), f"--input_file={raw},{namesake}")
  programs.succeed(*flags)
  stats = json.loads((tmp_path / "out/stats.json").read_text())
  document_counts = {
    name: counts["documents"] for name, counts in stats["files"].items()
  }
  assert document_counts == {"raw.txt": 2, "raw.txt #2": 1}


def test_a_second_run_changes_nothing_and_leaves_no_shard_of_the_first(
  programs: running.Programs, raw: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  out = tmp_path / "out"

  def content(*more: str) -> dict[str, bytes]:
    programs.succeed(*_flags(raw, out, *more))
    return {path.name: path.read_bytes() for path in out.iterdir()}

  first_content = content()
  assert len(content("--num_shards=2")) == len(first_content) + 1
  assert content() == first_content


def test_the_bytes_do_not_depend_on_the_number_of_workers(
  programs: running.Programs, large: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  made = []
  for workers in (1, 2, 3):
    out = tmp_path / str(workers)
    programs.succeed(*_flags(large, out, f"--num_workers={workers}"))
    made.append({path.name: path.read_bytes() for path in out.iterdir()})
  assert made[0] == made[1] == made[2]
  assert len(made[0]["corpus-00000-of-00001.txt"].split(b"\n\n")) == 60_001


def test_evaluation_rows_planted_in_a_corpus_are_taken_out(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  rows = (running.ROOT / "sample/sib200/dev.tsv").read_text("utf-8")
  planted = [row.split("\t")[2] for row in rows.splitlines()[1:]]
  own = [f"Энэ бол {n} дугаар өөрийн өгүүлбэр мөн." for n in range(99)]
  source = tmp_path / "raw.txt"
  source.write_text(
    "\n\n".join(f"{a}\n{b}" for a, b in zip(own, planted, strict=True)), "utf-8"
  )
  programs.succeed(
    *_flags(
      source,
      tmp_path / "out",
      "--decontaminate=sample/sib200/dev.tsv",
      "--nosplit_sentences",
    )
  )
  corpus = (tmp_path / "out/corpus-00000-of-00001.txt").read_text("utf-8")
  assert corpus.split("\n\n")[:-1] == own
  stats = json.loads((tmp_path / "out/stats.json").read_text())
  assert stats["lines: in an evaluation set"] == 99


def test_an_article_a_line_and_tables_are_read_too(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  news = tmp_path / "news.txt"
  news.write_text("Тэр ирэв. Би явлаа даа.\nБид энд уулзсан байв.\n", "utf-8")
  table = tmp_path / "news.csv"
  table.write_text(
    'id,text\n1,"Тэр ирэв. Би явлаа даа."\n2,Бид энд уулзсан байв.\n', "utf-8"
  )
  made = []
  for source in (news, table):
    programs.succeed(
      *_flags(source, tmp_path / "out", "--documents=line", "--min_words=1")
    )
    made.append((tmp_path / "out/corpus-00000-of-00001.txt").read_text("utf-8"))
  assert made[0] == made[1]
  assert made[0] == "Тэр ирэв.\nБи явлаа даа.\n\nБид энд уулзсан байв.\n\n"


def test_legacy_letters_are_repaired_only_on_demand(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  source = tmp_path / "raw.txt"
  source.write_text("Тэр бєгєєд би їйлдвэрт ажилладаг байв.\n", "utf-8")
  for flag, word in (("", "бєгєєд"), ("--repair_legacy_letters", "бөгөөд")):
    out = tmp_path / word
    programs.succeed(*_flags(source, out, *filter(None, [flag])))
    corpus = (out / "corpus-00000-of-00001.txt").read_text("utf-8")
    assert corpus.split()[1] == word


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "expected text with letters; got nothing to keep"),
    (b"1 2 3\n\n4 5 6 7 8 9\n", "2 no letters"),
    ("Сайн байна уу".encode("utf-16"), "iconv -f UTF-16"),
    ("Сайн байна уу".encode("cp1251"), "byte 0xd1 on line 1"),
    ("сайн байна уу ".encode() * 100_000, "expected lines of at most"),
  ],
  ids=["empty", "numbers", "utf-16", "cp1251", "one endless line"],
)
def test_bad_text_ends_in_one_clear_line_and_leaves_nothing(
  programs: running.Programs,
  tmp_path: pathlib.Path,
  content: bytes,
  message: str,
) -> None:
  (tmp_path / "bad.txt").write_bytes(content)
  out = tmp_path / "out"
  assert message in programs.refuse(*_flags(tmp_path / "bad.txt", out))
  assert not out.exists() or not list(out.iterdir())


def test_a_refused_run_leaves_the_finished_corpus_as_it_was(
  programs: running.Programs, raw: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  out = tmp_path / "out"
  programs.succeed(*_flags(raw, out))
  before = {path.name: path.read_bytes() for path in out.iterdir()}
  raw.write_bytes(b"\xff\xfe\x00")
  programs.refuse(*_flags(raw, out))
  assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_corpus_without_a_blank_line_is_warned_of(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  source = tmp_path / "raw.txt"
  source.write_text("Тэр ирэв. Би явлаа.\nБид уулзсан.\n" * 3, "utf-8")
  log = programs.succeed(*_flags(source, tmp_path / "out"))
  assert "no blank line between documents" in log


def test_long_documents_are_cut_into_passages_of_about_a_size(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  source = tmp_path / "raw.txt"
  sentences = [f"Энэ бол {n} дугаар өгүүлбэр мөн." for n in range(25)]
  source.write_text("\n".join(sentences), "utf-8")
  programs.succeed(*_flags(source, tmp_path / "out", "--section_sentences=12"))
  corpus = (tmp_path / "out/corpus-00000-of-00001.txt").read_text("utf-8")
  documents = corpus.strip().split("\n\n")
  assert [len(d.split("\n")) for d in documents] == [12, 13]
  assert "\n".join(documents).split("\n") == sentences


def test_a_line_of_nothing_visible_does_not_cut_a_document(
  programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  source = tmp_path / "raw.txt"
  source.write_text("Тэр ирэв.\n\u200b\nБи одоо явлаа.\n", "utf-8")
  programs.succeed(
    *_flags(
      source,
      tmp_path / "out",
      "--nosplit_sentences",
      "--nodrop_lines_without_letters",
      "--nodrop_boilerplate",
      "--nodrop_repeated_lines",
    )
  )
  corpus = (tmp_path / "out/corpus-00000-of-00001.txt").read_text("utf-8")
  assert corpus == "Тэр ирэв.\nБи одоо явлаа.\n\n"


def test_a_disk_that_fills_up_is_said_and_nothing_half_written_stays(
  large: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  out = tmp_path / "out"
  done = subprocess.run(
    [sys.executable, *_flags(large, out)],
    cwd=running.ROOT,
    capture_output=True,
    text=True,
    check=False,
    # What a full disk does to a writer, on a disk of 1 MB.
    preexec_fn=lambda: resource.setrlimit(
      resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)
    ),
  )
  assert done.returncode == 1, done.stderr
  assert "error: expected to read or write" in done.stderr
  assert "corpus-00000-of-00001.txt; got File too large" in done.stderr
  assert "Traceback" not in done.stderr
  # Whole parts of cleaned text may stay, for the next run to go on from.
  left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
  left.remove(large.name)
  assert not out.exists()
  assert all(re.fullmatch(r"\d{6}\.part", name) for name in left), left


@pytest.mark.parametrize(
  ("blow", "code"),
  [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
)
def test_an_interrupted_run_leaves_no_file_under_its_final_name(
  large: pathlib.Path, tmp_path: pathlib.Path, blow: signal.Signals, code: int
) -> None:
  out = tmp_path / "out"
  process = subprocess.Popen(
    [sys.executable, *_flags(large, out)],
    cwd=running.ROOT,
    stderr=subprocess.PIPE,
    text=True,
    preexec_fn=running.heed_ctrl_c,
  )
  deadline = time.monotonic() + 60
  while not list(tmp_path.glob(".out.unfinished/.corpus-*")):
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.01)
  os.kill(process.pid, blow)
  _, log = process.communicate(timeout=60)
  assert process.returncode == code, log
  assert "Traceback" not in log
  assert not out.exists()


@pytest.mark.parametrize(
  ("source", "out", "message"),
  [
    ("nothing-*.txt", "out", "no file at"),
    ("raw.txt", "raw.txt/out", "Not a directory"),
    ("raw.txt", "https://a.mn/corpus", "expected a local path or gs://"),
  ],
)
def test_paths_that_cannot_be_are_named(
  programs: running.Programs,
  raw: pathlib.Path,
  source: str,
  out: str,
  message: str,
) -> None:
  where = raw.parent / out if "://" not in out else pathlib.Path(out)
  flags = _flags(raw.parent / source, where)
  flags[-1] = f"--output_dir={out}" if "://" in out else flags[-1]
  assert message in programs.refuse(*flags)


def test_a_document_that_takes_too_long_is_dropped_counted_and_named(
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  caplog: pytest.LogCaptureFixture,
) -> None:
  def slow(lines: tuple[str, ...]) -> list[tuple[str, ...]]:
    while lines[0].startswith("Удаан"):
      time.monotonic()
    return [lines]

  source = dataclasses.replace(preparation.SOURCES["text"], documents=slow)
  monkeypatch.setitem(preparation.SOURCES, "text", source)
  monkeypatch.setattr(preparation, "_LONGEST_SECONDS", 0.05)
  raw = tmp_path / "raw.txt"
  raw.write_text(f"{CORPUS}Удаан баримт.\n\nТэр өнөөдөр эндээс явж одов.\n")
  earlier = signal.getsignal(signal.SIGVTALRM)
  with caplog.at_level("WARNING", logger="absl"):
    stats = corpora.build(
      corpus_options.Settings(
        corpus_options.Options(
          input_file=str(raw), output_dir=str(tmp_path / "out"), num_workers=1
        ),
        cleaning.Options(),
        texts.Options(),
        downloads.Options(),
      )
    )
  assert stats.totals["documents"] == 3
  assert stats.totals["dropped: took too long"] == 1
  assert stats.examples["took too long"] == ["Удаан баримт."]
  assert "raw.txt: dropping 'Удаан баримт.', which took too long" in caplog.text
  assert signal.getsignal(signal.SIGVTALRM) == earlier
  assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)

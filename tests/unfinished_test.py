"""Tests that a corpus whose making was killed goes on, with the same bytes."""

import dataclasses
import gzip
import json
import multiprocessing
import os
import pathlib
import random
import re
import signal
import time
import zipfile
from collections.abc import Callable, Iterator

import pytest

from data_prep.base import options
from data_prep.corpus import (
  corpora,
  corpus_options,
  preparation,
  reading_progress,
  unfinished,
)
from data_prep.files import gcs, storage
from data_prep.sources import downloads, texts
from data_prep.text import cleaning
from tests import gcs_server

_FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
  """Makes batches of a few documents, and a part of every batch."""
  monkeypatch.setattr(preparation, "_LETTERS_A_TASK", 2_000)
  monkeypatch.setattr(unfinished, "_SECONDS_A_PART", 0.0)
  monkeypatch.setattr(unfinished, "_TIMES_THE_WRITING", 0.0)


@pytest.fixture
def raw(tmp_path: pathlib.Path) -> pathlib.Path:
  """Files of several kinds; each has copies of documents of the one before."""
  folder = tmp_path / "raw"
  folder.mkdir()
  texts_of = [_text(80 * number, 80 * number + 100) for number in range(4)]
  (folder / "a.txt").write_text(texts_of[0], "utf-8")
  (folder / "b.txt.gz").write_bytes(gzip.compress(texts_of[1].encode()))
  with (folder / "c.jsonl").open("w", encoding="utf-8") as file:
    for text in texts_of[2].split("\n\n"):
      file.write(json.dumps({"text": text}) + "\n")
    file.write('{"text": null}\n')
  with zipfile.ZipFile(folder / "d.zip", "w") as archive:
    archive.writestr("one.txt", texts_of[3])
    archive.writestr("two.txt", _text(400, 440))
  return folder


def _text(first: int, last: int) -> str:
  return "\n\n".join(
    f"Энэ бол {n} дугаар баримт бичиг юм. Сайн уу.\n12 34\n"
    + " ".join(f"үг{n * k % 997}" for k in range(20))
    for n in range(first, last)
  )


def _settings(
  raw: pathlib.Path, out: pathlib.Path | str, **changed: object
) -> corpus_options.Settings:
  values: dict[str, object] = dict(
    input_file=f"{raw}/*",
    output_dir=str(out),
    num_workers=1,
    num_shards=2,
    near_duplicates=0.8,
  )
  return corpus_options.Settings(
    corpus_options.Options(**(values | changed)),  # type: ignore[arg-type]
    cleaning.Options(),
    texts.Options(bad_rows="leave_out"),
    downloads.Options(),
  )


def _content(folder: pathlib.Path) -> dict[str, bytes]:
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def _kill_after(settings: corpus_options.Settings, seconds: float) -> bool:
  """Builds in another process and kills it; returns whether it was running."""
  process = _FORK.Process(target=corpora.build, args=(settings,))
  process.start()
  process.join(seconds)
  running = process.is_alive()
  process.kill()
  process.join()
  return running


def _kill_with_parts(settings: corpus_options.Settings, parts: int) -> None:
  """Builds in another process, which kills itself after so many parts."""
  process = _FORK.Process(target=_build_and_die, args=(settings, parts))
  process.start()
  process.join()
  assert process.exitcode == -signal.SIGKILL


def _build_and_die(settings: corpus_options.Settings, parts: int) -> None:
  write = unfinished.Begun._write

  def counted(begun: unfinished.Begun) -> None:
    write(begun)
    if begun._parts == parts:
      os.kill(os.getpid(), signal.SIGKILL)

  unfinished.Begun._write = counted  # type: ignore[method-assign, assignment]
  corpora.build(settings)


def test_a_corpus_killed_at_many_moments_ends_with_the_same_bytes(
  raw: pathlib.Path,
  tmp_path: pathlib.Path,
  caplog: pytest.LogCaptureFixture,
) -> None:
  began = time.monotonic()
  corpora.build(_settings(raw, tmp_path / "whole"))
  taken = time.monotonic() - began
  settings = _settings(raw, tmp_path / "killed")
  moments = random.Random(7)
  for parts in (2, 9):
    _kill_with_parts(settings, parts)
  killed = [
    _kill_after(settings, moments.uniform(0, taken / 2)) for _ in range(6)
  ]
  assert any(killed)
  assert (tmp_path / ".killed.begun").is_dir() or not all(killed)
  with caplog.at_level("INFO", logger="absl"):
    corpora.build(settings)
  assert re.search("going on from|is finished", caplog.text)
  expected = _content(tmp_path / "whole")
  assert _content(tmp_path / "killed") == expected
  assert expected["bad_rows.tsv"].count(b"\n") == 2
  assert sorted(os.listdir(tmp_path)) == ["killed", "raw", "whole"]


def test_other_numbers_of_workers_go_on_with_what_one_began(
  raw: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  corpora.build(_settings(raw, tmp_path / "whole", near_duplicates=0.0))
  _kill_with_parts(_settings(raw, tmp_path / "killed"), 9)
  # Signatures, shards and workers come after the cleaning.
  changed: dict[str, object] = dict(near_duplicates=0.0, num_workers=2)
  corpora.build(_settings(raw, tmp_path / "killed", **changed))
  assert _content(tmp_path / "killed") == _content(tmp_path / "whole")
  assert not (tmp_path / ".killed.begun").exists()


def test_files_that_were_done_are_not_read_again(
  raw: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  corpora.build(_settings(raw, tmp_path / "whole"))
  settings = _settings(raw, tmp_path / "killed")
  read: list[str] = []
  items = preparation.SOURCES["text"].items

  def noted(path: str, settings: corpus_options.Settings) -> Iterator[object]:
    read.append(os.path.basename(path))
    if len(read) == 4:
      raise KeyboardInterrupt
    return items(path, settings)

  source = preparation.Source(
    noted, *list(vars(preparation.SOURCES["text"]).values())[1:]
  )
  monkeypatch.setitem(preparation.SOURCES, "text", source)
  with pytest.raises(KeyboardInterrupt):
    corpora.build(settings)
  corpora.build(settings)
  assert read[:4] == ["a.txt", "b.txt.gz", "c.jsonl", "d.zip"]
  # The last batch of a file is done after the next file was opened.
  assert read[4:] in (["d.zip"], ["c.jsonl", "d.zip"])
  assert _content(tmp_path / "killed") == _content(tmp_path / "whole")


@pytest.mark.parametrize("change", ["flag", "file"])
def test_what_was_cleaned_otherwise_is_not_used(
  raw: pathlib.Path,
  tmp_path: pathlib.Path,
  change: str,
  caplog: pytest.LogCaptureFixture,
) -> None:
  _kill_with_parts(_settings(raw, tmp_path / "out"), 12)
  changed: dict[str, object] = {}
  if change == "flag":
    changed["section_sentences"] = 1
  else:  # of the same size, and with the time of the earlier file
    path = raw / "a.txt"
    times = path.stat()
    path.write_text(path.read_text("utf-8").replace("Сайн", "Муу."), "utf-8")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
  with caplog.at_level("INFO", logger="absl"):
    corpora.build(_settings(raw, tmp_path / "out", **changed))
  assert ("starting afresh" in caplog.text) == (change == "flag")
  corpora.build(_settings(raw, tmp_path / "fresh", **changed))
  assert _content(tmp_path / "out") == _content(tmp_path / "fresh")
  assert sorted(os.listdir(tmp_path)) == ["fresh", "out", "raw"]


def test_a_damaged_part_ends_in_one_line_and_the_next_run_begins_anew(
  raw: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  settings = _settings(raw, tmp_path / "out")
  _kill_with_parts(settings, 5)
  part = min((tmp_path / ".out.begun").glob("*.part"))
  content = bytearray(part.read_bytes())
  content[-10] ^= 1
  part.write_bytes(content)
  with pytest.raises(options.InputError, match="earlier run"):
    corpora.build(settings)
  corpora.build(settings)
  corpora.build(_settings(raw, tmp_path / "whole"))
  assert _content(tmp_path / "out") == _content(tmp_path / "whole")


def test_a_finished_command_does_nothing(
  raw: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
  settings = _settings(raw, tmp_path / "out")
  counts = corpora.build(settings).totals
  before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
  with caplog.at_level("INFO", logger="absl"):
    assert corpora.build(settings).totals == counts
  assert "is finished" in caplog.text
  after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
  assert after == before
  # Any change makes it work again: of a flag, an input, an output, the program.
  manifest = tmp_path / "out/manifest.json"

  def change_program() -> None:
    content = manifest.read_text("utf-8")
    assert '"program": "' in content
    content = content.replace('"program": "', '"program": "x')
    manifest.write_text(content, "utf-8")

  def change_input() -> None:
    (raw / "a.txt").write_text(_text(0, 7), "utf-8")

  changes: list[Callable[[], None]] = [
    lambda: None,
    change_input,
    (tmp_path / "out/stats.json").unlink,
    change_program,
  ]
  settings = _settings(raw, tmp_path / "out", num_shards=1)
  for change in changes:
    change()
    earlier = manifest.stat().st_ino
    corpora.build(settings)
    assert manifest.stat().st_ino != earlier
  assert not list(tmp_path.glob(".*"))


def test_a_corpus_in_a_folder_of_other_files_goes_on_too(
  raw: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  corpora.build(_settings(raw, tmp_path / "whole"))
  (tmp_path / "out").mkdir()
  (tmp_path / "out/mine.txt").write_text("mine")
  _kill_with_parts(_settings(raw, tmp_path / "out"), 6)
  corpora.build(_settings(raw, tmp_path / "out"))
  expected = _content(tmp_path / "whole") | {"mine.txt": b"mine"}
  assert _content(tmp_path / "out") == expected
  assert sorted(os.listdir(tmp_path)) == ["out", "raw", "whole"]


@pytest.mark.parametrize("kind", ["jsonl", "gz", "zip"])
def test_the_log_tells_share_and_time_of_text_that_is_dropped(
  tmp_path: pathlib.Path,
  kind: str,
  monkeypatch: pytest.MonkeyPatch,
  caplog: pytest.LogCaptureFixture,
) -> None:
  monkeypatch.setattr(reading_progress, "_FIRST_SECONDS", 0.01)
  monkeypatch.setattr(reading_progress, "_SECONDS", 0.01)
  monkeypatch.setattr(preparation, "_LETTERS_A_TASK", 1 << 16)
  (tmp_path / "raw").mkdir()
  numbers = random.Random(7)
  rows = [
    json.dumps({"text": f"Энэ бол нэг мөр юм. {numbers.randbytes(200).hex()}"})
    for _ in range(10_000)
  ]
  content = '{"text": "Энэ бол нэг баримт бичиг юм.", "good": true}\n'
  content += "\n".join(rows)
  path = tmp_path / f"raw/a.{kind}"
  if kind == "jsonl":
    path.write_text(content, "utf-8")
  elif kind == "gz":
    path.write_bytes(gzip.compress(content.encode(), 1))
  else:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
      archive.writestr("a.jsonl", content)
  with caplog.at_level("INFO", logger="absl"):
    settings = _settings(tmp_path / "raw", tmp_path / "out")
    rules = texts.Options(keep=("good==true",))
    corpora.build(dataclasses.replace(settings, text=rules))
  lines = re.findall(r"([\d.]+)% of .* MB read.*, (.*) left;", caplog.text)
  shares = [float(share) for share, _ in lines]
  assert shares == sorted(shares)
  assert len({share for share in shares if 1 < share < 99}) > 3, caplog.text


def test_the_speed_leaves_out_what_an_earlier_run_has_done(
  raw: pathlib.Path,
) -> None:
  """Of 2 files, the first one was cleaned before the kill."""
  paths = [str(raw / "a.txt"), str(raw / "c.jsonl")]
  first, second = map(os.path.getsize, paths)
  progress = reading_progress.Progress(paths, lambda: 3)
  progress.begin(paths[0])
  assert progress.made(last=True, kept=True) == first
  progress.begin(paths[1])
  assert progress.made(last=True, kept=False) == first + second
  assert ", 0.00 MB a second, time left unknown;" in progress._line(0)
  began, before = progress._start
  assert before == first
  progress._start = (began - 10, before)
  half = f"{second / 2 / 1e6 / 10:.2f} MB a second, 10 s left; 3 documents kept"
  assert progress._line(first + second // 2).endswith(half)


@pytest.fixture
def bucket(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pathlib.Path]:
  (tmp_path / "served").mkdir()
  with gcs_server.running(tmp_path / "served") as front:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    gcs._client.cache_clear()
    yield tmp_path / "served/bucket"
    gcs._client.cache_clear()


@pytest.mark.slow
def test_a_corpus_in_a_bucket_goes_on_too(
  raw: pathlib.Path, tmp_path: pathlib.Path, bucket: pathlib.Path
) -> None:
  corpora.build(_settings(raw, tmp_path / "whole"))
  settings = _settings(raw, "gs://bucket/out")
  _kill_with_parts(settings, 3)
  assert list(bucket.glob("out/.begun/*"))
  corpora.build(settings)
  assert storage.below("gs://bucket/out") == sorted(
    _content(tmp_path / "whole")
  )
  for name, content in _content(tmp_path / "whole").items():
    assert storage.read_bytes(f"gs://bucket/out/{name}") == content

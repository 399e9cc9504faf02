"""Tests that hostile input gives a result or one line of error, never more.

Everything is made from seeds, of whole inputs; hypothesis drives the readers
for a fixed number of cases. The counts are printed at the end of the run.
"""

import bz2
import collections
import gzip
import io
import json
import lzma
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable

import hypothesis
import numpy as np
import pytest
import requests
import zstandard
from hypothesis import strategies

from albert_mn.formats import conversion
from albert_mn.models import model_directory, tensor_files
from albert_mn.pretrain import inputs
from albert_mn.runtime import runs
from albert_mn.tasks import classifier
from data_prep.base import options
from data_prep.classification import classifier_data, tweets
from data_prep.encoding import tokenization
from data_prep.files import gcs, manifest, storage
from data_prep.sources import epub, texts, wikipedia
from tests import gcs_server, running, serving
from tests.hostile import mutations

pytestmark = pytest.mark.slow

_SENTENCE = "Тэр өнөөдөр эндээс явж, маргааш ирэх юм гэж хэлсэн.\n"
_TEXT = (_SENTENCE * 3 + "\n") * 4
_PACKERS: dict[str, Callable[[bytes], bytes]] = {
  ".gz": gzip.compress,
  ".bz2": bz2.compress,
  ".xz": lzma.compress,
  ".zst": zstandard.ZstdCompressor().compress,
}


def _zip(members: dict[str, str]) -> bytes:
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return buffer.getvalue()


def _tar() -> bytes:
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
    member = tarfile.TarInfo("а.txt")
    member.size = len(_TEXT.encode())
    archive.addfile(member, io.BytesIO(_TEXT.encode()))
  return buffer.getvalue()


_DUMP = (
  '<mediawiki xml:lang="mn"><siteinfo><namespaces><namespace key="6">Файл'
  "</namespace></namespaces></siteinfo>"
  + "".join(
    f"<page><title>Гол {number}</title><ns>0</ns><revision><text>'''Гол''' нь "
    f"[[Монгол]]д {{{{convert|{number}|km}}}} урсана.&lt;ref&gt;а&lt;/ref&gt; "
    "{| \n|а\n|}\n* Энэ бол жагсаалт.</text></revision></page>"
    for number in range(5)
  )
  + "</mediawiki>"
).encode()
_BOOK = _zip(
  {
    "META-INF/container.xml": '<a><rootfile full-path="o.opf"/></a>',
    "o.opf": '<package><item id="p" href="p.html"/><itemref idref="p"/></package>',
    "p.html": f"<html><body><h1>I</h1><p>{_TEXT}<sup>1</sup></p></body></html>",
  }
)
_WET = (
  "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: "
  f"{len(_TEXT.encode())}\r\n\r\n{_TEXT}\r\n\r\n"
).encode() * 2
_SUBTITLES = f"1\n00:00:01,000 --> 00:00:02,000\n{_SENTENCE}\n".encode()
_ROWS = "".join(
  json.dumps({"text": _SENTENCE, "label": label}, ensure_ascii=False) + "\n"
  for label in ("спорт", "улс төр", "спорт")
).encode()
_TWEETS = "".join(
  json.dumps(
    {
      "full_text": "RT-д &amp;lt; @bold https://t.co/x сайн уууу",
      "id": number,
      "user": {"screen_name": "dorj"},
      "retweeted_status": None,
    }
  )
  + "\n"
  for number in range(3)
).encode()
_TABLE = f'text,label\n"{_SENTENCE.strip()}",a\n"б ""в"" г",b\n'.encode()


def _pages(path: str) -> None:
  for page in wikipedia.items(path):
    wikipedia.rendered(page)


def _documents(path: str) -> None:
  settings = texts.Options(bad_rows="leave_out")
  collections.deque(texts.read(path, settings), maxlen=0)


# Name of a file → its content when whole, and its reader.
_FILES: dict[str, tuple[bytes, Callable[[str], object]]] = {
  "dump.xml": (_DUMP, _pages),
  "dump.xml.bz2": (bz2.compress(_DUMP), _pages),
  "book.epub": (_BOOK, lambda path: [*map(epub.chapters, epub.items(path))]),
  "a.txt": (_TEXT.encode(), _documents),
  **{
    f"a.txt{end}": (pack(_TEXT.encode()), _documents)
    for end, pack in _PACKERS.items()
  },
  "a.zip": (_zip({"а.txt": _TEXT, "б.txt": _TEXT}), _documents),
  "a.tar.gz": (_tar(), _documents),
  "a.jsonl": (_ROWS, _documents),
  "a.json": (json.dumps([{"text": _SENTENCE}] * 3).encode(), _documents),
  "a.wet": (_WET, _documents),
  "a.srt": (_SUBTITLES, _documents),
  "a.csv": (_TABLE, _documents),
  "tweets.jsonl": (
    _TWEETS,
    lambda path: [*tweets.stream(path, tweets.Options())],
  ),
  "tweets.csv": (_TABLE, lambda path: [*tweets.stream(path, tweets.Options())]),
  "rows.tsv": (
    _TABLE.replace(b",", b"\t"),
    lambda path: classifier_data.read(path, "text", "label"),
  ),
  "labels.txt": ("спорт\nулс төр\n".encode(), conversion.read_labels),
  "vocab.txt": (
    "\n".join(
      ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"абвг", "##а", "##б"]
    ).encode(),
    lambda path: tokenization.Tokenizer(path).encode(["аба в"]),
  ),
}


def _require_a_line(error: Exception) -> None:
  said = str(error)
  assert said.isprintable()
  assert len(said) < 1000, said[:2000]


def _read(
  path: pathlib.Path, content: bytes, reader: Callable[[str], object]
) -> None:
  """Reads a content by a reader: it gives a result, or an error of one line."""
  path.write_bytes(content)
  try:
    reader(str(path))
  except options.InputError as error:
    _require_a_line(error)
  finally:
    path.unlink()


def _drive(cases: int, attack: Callable[[random.Random], None]) -> None:
  """Calls an attack `cases` times, with generators of seeds that are fixed."""

  @hypothesis.settings(
    max_examples=cases,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(strategies.integers(0, 2**64))
  def attacked(seed: int) -> None:
    attack(random.Random(seed))

  attacked()


@pytest.mark.parametrize("name", _FILES)
def test_a_spoilt_file_is_read_or_refused_in_one_line(
  name: str, tmp_path: pathlib.Path, tried: collections.Counter[str]
) -> None:
  whole, reader = _FILES[name]
  _read(tmp_path / name, whole, reader)

  def attack(rng: random.Random) -> None:
    tried["files"] += 1
    _read(tmp_path / name, mutations.changed(rng, whole), reader)

  _drive(200, attack)


@pytest.mark.parametrize("end", _PACKERS)
def test_spoilt_text_in_a_whole_packing_is_read_or_refused(
  end: str, tmp_path: pathlib.Path, tried: collections.Counter[str]
) -> None:
  def attack(rng: random.Random) -> None:
    tried["files"] += 1
    content = _PACKERS[end](mutations.changed(rng, _TEXT.encode()))
    _read(tmp_path / f"a.txt{end}", content, _documents)

  _drive(40, attack)


def _made_files(
  topics: str, dynamic_records: pathlib.Path
) -> dict[str, tuple[pathlib.Path, Callable[[pathlib.Path], object]]]:
  """Returns kind → a file that our programs wrote, and how it is read."""
  model = pathlib.Path(topics)
  record = sorted(dynamic_records.glob("train-*.tfrecord"))[0]
  return {
    "manifest": (
      model / manifest.NAME,
      lambda path: manifest.check(str(path.parent), "classifier"),
    ),
    "labels": (
      model / "labels.json",
      lambda path: model_directory.labels(str(path.parent)),
    ),
    "config": (
      model / "albert_config.json",
      lambda path: model_directory.config(str(path.parent)),
    ),
    "records": (record, lambda path: inputs.record_set(str(path))),
  }


@pytest.mark.parametrize("kind", ["manifest", "labels", "config", "records"])
def test_a_spoilt_file_of_ours_is_read_or_refused_in_one_line(
  kind: str,
  topics: str,
  dynamic_records: pathlib.Path,
  tmp_path: pathlib.Path,
  tried: collections.Counter[str],
) -> None:
  source, reader = _made_files(topics, dynamic_records)[kind]
  whole = source.read_bytes()[: 1 << 16]
  for beside in source.parent.iterdir():
    if beside.is_file():
      os.link(beside, tmp_path / beside.name)
  target = tmp_path / source.name

  def attack(rng: random.Random) -> None:
    tried["files"] += 1
    target.unlink(missing_ok=True)
    _read(target, mutations.changed(rng, whole), lambda path: reader(target))

  _drive(100, attack)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_spoilt_weights_are_read_or_refused_in_one_line(
  name: str, tmp_path: pathlib.Path, tried: collections.Counter[str]
) -> None:
  arrays = {
    "a/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.ones(5, np.float32),
  }
  made = tmp_path / "whole.safetensors"
  tensor_files.write(str(made), arrays)
  whole = made.read_bytes()
  if name.endswith(".bin"):
    whole = _zip(
      {"archive/data.pkl": "\x80\x02}q\x00.", "archive/version": "3"}
    )

  def attack(rng: random.Random) -> None:
    tried["files"] += 1
    _read(tmp_path / name, mutations.changed(rng, whole), tensor_files.read)

  _drive(100, attack)


def test_a_spoilt_tokenizer_is_read_or_refused_in_one_line(
  tokenizer_file: str,
  tmp_path: pathlib.Path,
  tried: collections.Counter[str],
) -> None:
  whole = pathlib.Path(tokenizer_file).read_bytes()

  def attack(rng: random.Random) -> None:
    tried["files"] += 1
    _read(
      tmp_path / "tokenizer.model",
      mutations.changed(rng, whole),
      lambda path: tokenization.Tokenizer(path).encode([_SENTENCE]),
    )

  _drive(200, attack)


def test_a_spoilt_checkpoint_is_read_or_refused_in_one_line(
  topics: str, tmp_path: pathlib.Path, tried: collections.Counter[str]
) -> None:
  for seed in range(16):
    tried["files"] += 1
    folder = tmp_path / str(seed)
    shutil.copytree(topics, folder)
    path = sorted(folder.glob("model.ckpt.*"))[seed % 2]
    raw = mutations.changed(random.Random(seed), path.read_bytes())
    path.write_bytes(raw)
    content = json.loads((folder / manifest.NAME).read_bytes())
    content["files"][path.name]["bytes"] = len(raw)
    (folder / manifest.NAME).write_text(json.dumps(content))
    try:
      classifier.Predictor.load(str(folder))
    except options.InputError as error:
      _require_a_line(error)


def test_spoilt_settings_of_a_run_are_read_or_refused_in_one_line(
  tmp_path: pathlib.Path, tried: collections.Counter[str]
) -> None:
  whole = json.dumps({"settings": {"learning_rate": 0.1, "seed": 3}}).encode()

  def attack(rng: random.Random) -> None:
    tried["files"] += 1
    _read(
      tmp_path / "run.json",
      mutations.changed(rng, whole),
      lambda path: runs.read_settings(os.path.dirname(path)),
    )

  _drive(60, attack)


def test_spoilt_requests_are_answered_rightly(
  topics: str, tmp_path: pathlib.Path, tried: collections.Counter[str]
) -> None:
  whole = json.dumps({"texts": ["сайн уу", "тэр ирэв"]}).encode()
  with serving.serving(topics, tmp_path / "log") as started:
    session = requests.Session()

    def attack(rng: random.Random) -> None:
      tried["requests"] += 1
      answer = session.post(
        f"{started.url}/api/predict",
        data=mutations.changed(rng, whole),
        headers={"Content-Type": "application/json"},
        timeout=60,
      )
      assert answer.status_code in (200, 400, 408, 413), answer.text
      assert isinstance(answer.json(), dict)

    _drive(300, attack)
    answer = session.post(
      f"{started.url}/api/predict", json={"text": "сайн уу"}, timeout=60
    )
    assert answer.status_code == 200
    started.stop()
  assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_killed_build_is_made_whole_by_the_next(
  tmp_path: pathlib.Path, tried: collections.Counter[str]
) -> None:
  raw = tmp_path / "raw.txt"
  raw.write_text(
    "".join(f"Энэ бол {n} дугаар баримт бичиг юм.\n\n" for n in range(3_000))
  )
  command = [
    sys.executable,
    "-m",
    "data_prep.build_corpus",
    f"--input_file={raw}",
    "--num_workers=1",
    f"--output_dir={tmp_path}/out",
  ]

  def started(shards: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
      [*command, f"--num_shards={shards}"],
      cwd=running.ROOT,
      stderr=subprocess.DEVNULL,
    )

  whole = []
  for shards in (2, 3):
    begin = time.monotonic()
    assert started(shards).wait(120) == 0
    took = time.monotonic() - begin
    whole.append(running.digests(tmp_path / "out"))
  rng = random.Random(11)
  for number in range(12):
    process = started(2 + number % 2)
    time.sleep(rng.uniform(0.3, 1.0) * took)
    process.send_signal(signal.SIGKILL)
    process.wait()
    tried["kills"] += 1
    assert running.digests(tmp_path / "out") in whole
  assert started(2).wait(120) == 0
  assert running.digests(tmp_path / "out") == whole[0]
  assert {path.name for path in tmp_path.iterdir()} == {"out", "raw.txt"}


def test_faults_of_a_bucket_give_the_whole_content_or_one_line(
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  tried: collections.Counter[str],
) -> None:
  content = _TEXT.encode() * 20
  retry = gcs._retry().with_delay(0.001, 0.002).with_timeout(5.0)
  monkeypatch.setattr(gcs, "_retry", lambda: retry)
  with gcs_server.running(tmp_path) as front:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    gcs._client.cache_clear()

    def attack(rng: random.Random) -> None:
      path = f"gs://bucket/{rng.randrange(5)}.txt"
      front.faults = rng.choices(("", "503", "cut", "damaged"), k=3)
      tried["faults of a bucket"] += sum(map(bool, front.faults))
      try:
        with storage.writing(path, "wb") as file:
          file.write(content)
        assert storage.read_bytes(path) == content
      except options.InputError as error:
        _require_a_line(error)
      front.faults = []

    _drive(40, attack)
    gcs._client.cache_clear()

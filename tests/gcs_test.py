"""Tests of gs:// with a real server, and with faults of the network."""

import contextlib
import gzip
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from data_prep.base import options
from data_prep.files import gcs, manifest, ownership, records, storage
from tests import gcs_server, running

TEXT = "Сайн байна уу?\n" * 1000


@pytest.fixture(scope="module")
def _running(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[gcs_server.Front]:
  with gcs_server.running(tmp_path_factory.mktemp("gcs")) as front:
    yield front


@pytest.fixture
def server(
  _running: gcs_server.Front, monkeypatch: pytest.MonkeyPatch
) -> Iterator[gcs_server.Front]:
  monkeypatch.setenv("STORAGE_EMULATOR_HOST", _running.url)
  _running.faults, _running.requests = [], []
  gcs._client.cache_clear()
  for path in storage._find("gs://bucket/**"):
    storage.remove(path)
  yield _running
  gcs._client.cache_clear()


def _write(path: str, text: str = TEXT) -> None:
  with storage.writing(path) as file:
    file.write(text)


def test_what_is_written_is_read_found_measured_and_removed(
  server: gcs_server.Front,
) -> None:
  for name in ("b/2.txt", "b/1.txt", "b/c/3.txt", "b/4.csv"):
    _write(f"gs://bucket/{name}", name)
  assert storage.matching("gs://bucket/b/*.txt") == [
    "gs://bucket/b/1.txt",
    "gs://bucket/b/2.txt",
  ]
  assert storage.names("gs://bucket/b") == ["1.txt", "2.txt", "4.csv"]
  assert list(storage.lines("gs://bucket/b/c/3.txt")) == ["b/c/3.txt"]
  assert storage.size("gs://bucket/b/1.txt") == 7
  storage.remove("gs://bucket/b/1.txt")
  storage.remove("gs://bucket/b/1.txt")
  assert not storage.exists("gs://bucket/b/1.txt")
  with pytest.raises(options.InputError, match="no file at"):
    storage.matching("gs://bucket/b/1.*")


def test_a_folder_of_a_bucket_is_a_name_and_no_glob(
  server: gcs_server.Front,
) -> None:
  folders = ("e[1]", "e1", "e*", "new\nline", "%s {}")
  for folder in folders:
    _write(f"gs://bucket/{folder}/a-1.txt", folder)
    _write(f"gs://bucket/{folder}/.hidden", folder)
  for folder in folders:
    path = f"gs://bucket/{folder}"
    assert storage.names(path) == ["a-1.txt"]
    assert storage.matching(f"{path}/a-*") == [f"{path}/a-1.txt"]
  assert storage.matching("gs://bucket/e[12]/a-?.txt") == [
    "gs://bucket/e1/a-1.txt"
  ]
  assert storage.matching("gs://bucket/[!%n]*/a-1.t?t") == [
    f"gs://bucket/{folder}/a-1.txt" for folder in ("e*", "e1", "e[1]")
  ]
  _write("gs://bucket/e1/a-*")
  assert storage.matching("gs://bucket/e1/a-*") == ["gs://bucket/e1/a-*"]
  storage.remove("gs://bucket/e1/a-*")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_line_of_exactly_the_limit_is_read_from_an_object(
  server: gcs_server.Front, end: str
) -> None:
  most = storage.MAX_LINE_BYTES
  _write("gs://bucket/a.txt", "мөр\n" + "a" * most + end)
  assert list(storage.lines("gs://bucket/a.txt")) == ["мөр", "a" * most]
  _write("gs://bucket/a.txt", "мөр\n" + "a" * (most + 1) + end)
  with pytest.raises(options.InputError, match=r"a longer one at .*:2"):
    list(storage.lines("gs://bucket/a.txt"))


def test_an_object_is_replaced_as_a_whole_or_left_as_it_was(
  server: gcs_server.Front,
) -> None:
  _write("gs://bucket/a.txt", "old")
  with (
    pytest.raises(RuntimeError),
    storage.writing("gs://bucket/a.txt") as file,
  ):
    file.write("half")
    raise RuntimeError
  assert storage.read_text("gs://bucket/a.txt") == "old\n"
  _write("gs://bucket/a.txt", "new")
  assert storage.read_text("gs://bucket/a.txt") == "new\n"


@pytest.mark.parametrize("fault", ["503", "cut"])
def test_a_fault_on_the_way_is_tried_again(
  server: gcs_server.Front, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
  server.faults = ["", fault, fault]
  _write("gs://bucket/a.txt")
  server.faults = [fault, "", fault]
  assert "".join(f"{s}\n" for s in storage.lines("gs://bucket/a.txt")) == TEXT
  server.faults = [fault]
  assert storage.sha256("gs://bucket/a.txt")
  assert "trying again" in caplog.text
  assert server.faults == []


def test_an_object_that_is_damaged_on_its_way_here_is_not_kept(
  server: gcs_server.Front, tmp_path: pathlib.Path
) -> None:
  """A CRC32C notices each single byte that differs."""
  with storage.writing("gs://bucket/x.bin", "wb") as file:
    file.write(bytes(3000))
  target = tmp_path / "x.bin"
  server.faults = ["", "damaged"]  # the description, the content
  with pytest.raises(options.InputError, match=r"x.bin with its checksum; got"):
    gcs.download("gs://bucket/x.bin", str(target))
  assert not target.exists()
  gcs.download("gs://bucket/x.bin", str(target))
  assert target.read_bytes() == bytes(3000)


def test_an_object_that_is_read_to_its_end_is_compared_too(
  server: gcs_server.Front,
) -> None:
  path = "gs://bucket/x.txt"
  _write(path, "a\0b\n" * 1000)
  server.faults = ["", "damaged"]
  with pytest.raises(options.InputError, match=r"x.txt with its checksum; got"):
    list(storage.lines(path))
  assert len(list(storage.lines(path))) == 1000
  with storage.reading(path) as file:
    assert file.seek(-4, os.SEEK_END) == 3996
    assert file.read() == b"a\0b\n", "from there on nothing is compared"
    assert file.seek(2) == 2
    assert file.read(2) == b"b\n"


@pytest.mark.parametrize("numbers", [3000, 9_000_000])
def test_an_object_that_is_damaged_on_its_way_there_is_not_left(
  server: gcs_server.Front, numbers: int
) -> None:
  """The larger object is uploaded by several requests."""
  _write("gs://bucket/y.bin")  # else the client asks for the bucket first
  server.requests = []
  server.faults = ["", "", "damaged"] if numbers > 8 << 20 else ["", "damaged"]
  with (
    pytest.raises(options.InputError, match=r"x.bin with its checksum; got"),
    storage.writing("gs://bucket/x.bin", "wb") as file,
  ):
    file.write(bytes(numbers))
  assert not storage.exists("gs://bucket/x.bin"), server.requests
  storage.copy("gs://bucket/y.bin", "gs://bucket/x.bin")
  assert storage.exists("gs://bucket/x.bin")


def test_an_object_that_is_compressed_or_too_large_is_not_fetched(
  server: gcs_server.Front, tmp_path: pathlib.Path
) -> None:
  blob = gcs._blob("gs://bucket/z.txt")
  blob.content_encoding = "gzip"
  blob.upload_from_string(gzip.compress(b"z"))
  target = tmp_path / "z.txt"
  with pytest.raises(
    options.InputError, match="without a Content-Encoding; go"
  ):
    gcs.download("gs://bucket/z.txt", str(target))
  _write("gs://bucket/x.txt")
  size = len(TEXT.encode())
  with pytest.raises(options.InputError, match="at most 10 bytes of gs://"):
    gcs.download("gs://bucket/x.txt", str(target), 10)
  server.requests = []
  with (
    pytest.MonkeyPatch.context() as patched,
    pytest.raises(
      options.InputError, match=f"{size:,} free bytes .*; got 5: ma"
    ),
  ):
    usage = shutil.disk_usage(tmp_path)._replace(free=5)
    patched.setattr(shutil, "disk_usage", lambda _: usage)
    gcs.download("gs://bucket/x.txt", str(target))
  assert not target.exists()
  assert not any("alt=media" in asked for asked in server.requests)


def test_what_two_write_at_once_is_not_overwritten(
  server: gcs_server.Front, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "ours").write_text("ours")
  real = gcs._generation

  def late(path: str) -> int:
    generation = real(path)
    gcs._generation = real
    _write(path, "theirs")
    return generation

  gcs._generation = late
  try:
    with pytest.raises(options.InputError, match="nobody else to write"):
      gcs.upload(str(tmp_path / "ours"), "gs://bucket/a.txt")
  finally:
    gcs._generation = real
  assert storage.read_text("gs://bucket/a.txt") == "theirs\n"


@pytest.mark.parametrize(
  ("path", "message"),
  [
    ("gs://forbidden/a.txt", "expected permission for"),
    ("gs://nowhere/a.txt", "404 not found"),
    ("gs:///a.txt", "name the bucket"),
  ],
)
def test_what_is_forbidden_or_missing_ends_in_one_line(
  server: gcs_server.Front, path: str, message: str
) -> None:
  with pytest.raises(options.InputError, match=message):
    _write(path)
  with pytest.raises(options.InputError, match=message):
    storage.read_text(path)
  with pytest.raises(options.InputError, match=message):
    manifest.begin(path.removesuffix("/a.txt"))


def _programs(folder: str, out: str) -> list[list[str]]:
  return [
    [
      "-m",
      "data_prep.build_corpus",
      f"--input_file={folder}/raw.txt",
      "--section_sentences=6",
      f"--output_dir={out}/corpus",
    ],
    [
      "-m",
      "data_prep.train_tokenizer",
      "--vocab_size=400",
      f"--input_file={out}/corpus/corpus-*",
      f"--output_dir={out}/tokenizer",
    ],
    [
      "-m",
      "data_prep.create_pretraining_data",
      "--max_seq_length=32",
      f"--input_file={out}/corpus/corpus-*",
      "--dupe_factor=2",
      "--random_next_sentence",
      f"--spm_model_file={out}/tokenizer/tokenizer.model",
      f"--output_dir={out}/records",
    ],
  ]


def test_the_programs_write_the_same_bytes_to_a_bucket(
  server: gcs_server.Front, programs: running.Programs, tmp_path: pathlib.Path
) -> None:
  storage.copy("sample/pretrain/udhr.txt", "gs://bucket/raw.txt")
  storage.copy("sample/pretrain/udhr.txt", str(tmp_path / "raw.txt"))
  server.faults = ["", "503", "", "cut", "", "", "503"]
  for where in ("gs://bucket", str(tmp_path)):
    for command in _programs(where, f"{where}/out"):
      programs.succeed(*command)
  assert server.faults == []
  for folder in ("corpus", "tokenizer", "records"):
    names = storage.names(f"gs://bucket/out/{folder}")
    assert names == sorted(os.listdir(tmp_path / "out" / folder))
    for name in names:
      assert (
        storage.read_bytes(f"gs://bucket/out/{folder}/{name}")
        == (tmp_path / "out" / folder / name).read_bytes()
      ), name


def test_a_killed_run_leaves_no_manifest_in_the_bucket(
  server: gcs_server.Front,
  udhr: pathlib.Path,
  tokenizer_file: str,
) -> None:
  command = [
    "-m",
    "data_prep.create_pretraining_data",
    "--max_seq_length=32",
    f"--input_file={udhr}",
    f"--spm_model_file={tokenizer_file}",
    "--num_shards=20",
    "--output_dir=gs://bucket/records",
  ]
  process = subprocess.Popen(
    [sys.executable, *command],
    cwd=running.ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  deadline = time.monotonic() + 60
  while not any("upload" in request for request in server.requests):
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.002)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert not storage.exists("gs://bucket/records/manifest.json")


def test_a_bucket_that_may_not_be_written_is_seen_before_a_run(
  server: gcs_server.Front,
) -> None:
  storage.require_writable("gs://bucket/run")
  assert not storage._find("gs://bucket/**")
  with pytest.raises(options.InputError, match="permission for gs://forbidden"):
    storage.require_writable("gs://forbidden/run")
  assert storage.free_bytes("gs://bucket/run") is None


def test_the_ends_of_a_file_of_records_are_read_on_gs_too(
  server: gcs_server.Front,
) -> None:
  made = [f"бичлэг {number}".encode() * 9 for number in range(40)]
  with storage.writing("gs://bucket/a.tfrecord", "wb") as file:
    records.write(file, made)
  with storage.reading("gs://bucket/a.tfrecord") as file:
    size = storage.size("gs://bucket/a.tfrecord")
    assert size
    ends = records.ends(file, size, 3)
  assert ends[:3] == made[:3]
  assert ends[-1] == made[-1]
  assert len(ends) < 9


_OWN = """
import sys, threading
from data_prep.files import gcs, ownership
ownership._BEAT = float(sys.argv[2])
with ownership.owning(sys.argv[1]):
  print("ready", flush=True)
  sys.stdin.read()
"""


@contextlib.contextmanager
def _owner(folder: str, beat: float) -> Iterator[subprocess.Popen[str]]:
  """Runs a process that owns a folder, and beats every `beat` seconds."""
  with subprocess.Popen(
    [sys.executable, "-c", _OWN, folder, str(beat)],
    cwd=running.ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    try:
      yield process
    finally:
      process.kill()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(ownership, "_PATIENCE", 2.0)
  monkeypatch.setattr(ownership, "_BEAT", 0.2)


@pytest.mark.usefixtures("_impatient")
def test_a_folder_of_a_bucket_has_one_owner_as_long_as_that_lives(
  server: gcs_server.Front,
) -> None:
  folder = "gs://bucket/owned/out"
  with _owner(folder, 0.2) as process:
    refused = pytest.raises(options.InputError, match=f"{process.pid} on")
    with refused, ownership.owning(f"{folder}/"):
      pass
    above = pytest.raises(options.InputError, match=f"expected {folder} for")
    with above, ownership.owning(f"{folder}/run/best"):
      pass
    assert not storage.exists(f"{folder}/run/best/.lock")
    assert ownership.is_anothers(f"{folder}/below")
    assert not ownership.is_anothers("gs://bucket/owned")
    process.communicate()  # it ends well
    assert not storage.exists(f"{folder}/.lock")
  with _owner(folder, 0.2) as process:
    process.kill()
    process.wait()
    begun = time.monotonic()
    with ownership.owning(f"{folder}/best"):
      pass
    with ownership.owning(folder):  # of this machine: seen at once
      assert time.monotonic() - begun < 1.5
      assert not ownership.is_anothers(folder)
      assert not storage.names(folder)
  assert not storage.below(folder)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("fault", ["", "cut"])
def test_what_a_dead_machine_owned_is_free_after_a_while(
  server: gcs_server.Front, fault: str
) -> None:
  path = "gs://bucket/left/.lock"
  owner = ownership._Owner("run_pretraining", 7, "tpu-vm", "elsewhere", "x")
  assert gcs.put(path, owner.content(), 0)
  begun = time.monotonic()
  server.faults = [fault]
  with ownership.owning("gs://bucket/left"):
    assert time.monotonic() - begun > 2
    server.faults = [fault]  # the answer to a beat is lost
    time.sleep(1)
    before = gcs.get(path)
    time.sleep(0.5)
    after = gcs.get(path)
    assert before
    assert after
    assert before[1] != after[1]
    assert b'"run_pretraining"' not in after[0]
  assert not storage.exists(path)


def test_an_owner_that_stood_still_ends_when_another_one_writes(
  server: gcs_server.Front,
) -> None:
  folder = "gs://bucket/still/out"
  with _owner(folder, 0.2) as process:
    os.kill(process.pid, signal.SIGSTOP)
    there = gcs.get(f"{folder}/.lock")
    assert there
    newcomer = ownership._Owner("build_corpus", 8, "elsewhere", "", "y")
    assert gcs.put(f"{folder}/.lock", newcomer.content(), there[1])
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(20) == 1
    assert process.stderr
    (line,) = process.stderr.read().splitlines()
    assert line.startswith(f"error: expected {folder} for this program alone")
    assert "build_corpus, process 8 on elsewhere" in line
  storage.remove(f"{folder}/.lock")

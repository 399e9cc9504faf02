"""Tests of the cache: changed files, links, files that others may write."""

import hashlib
import io
import os
import pathlib
import random
import shutil
import zipfile
from collections.abc import Iterator

import pytest

from data_prep.base import options
from data_prep.files import fetched
from tests import http_server

CONTENT = b"weights" * 100
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[http_server.Server]:
  with http_server.running() as started:
    started.files["/a.bin"] = CONTENT
    started.files["/b.bin"] = b"b"
    yield started


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> fetched.Cache:
  return fetched.Cache(str(tmp_path / "cache"))


def _kept(cache: fetched.Cache) -> pathlib.Path:
  return pathlib.Path(cache.folder, "content", DIGEST, "a.bin")


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_a_cache_is_made_for_its_user_alone(
  server: http_server.Server, cache: fetched.Cache, umask: int
) -> None:
  before = os.umask(umask)
  try:
    for _ in range(2):
      cache.file(f"{server.url}/a.bin")
      cache.together({"a": cache.file(f"{server.url}/a.bin", DIGEST)})
      cache.tokenizer(DIGEST, "vocab.txt", b"a")
  finally:
    os.umask(before)
  for path in (
    pathlib.Path(cache.folder),
    *pathlib.Path(cache.folder).rglob("*"),
  ):
    state = os.stat(path)
    assert state.st_mode & 0o022 == 0, path
    assert os.path.isfile(path) or state.st_mode & 0o077 == 0, path


@pytest.mark.parametrize("with_hash", [True, False])
def test_a_cached_file_is_hashed_before_each_use(
  server: http_server.Server,
  cache: fetched.Cache,
  caplog: pytest.LogCaptureFixture,
  with_hash: bool,
) -> None:
  address, digest = f"{server.url}/a.bin", DIGEST if with_hash else ""
  assert cache.file(address, digest) == str(_kept(cache))
  _kept(cache).write_bytes(b"planted")
  assert cache.file(address, digest) == str(_kept(cache))
  assert _kept(cache).read_bytes() == CONTENT
  assert "was changed after it was fetched" in caplog.text


def test_files_that_lie_together_are_those_that_were_asked_for(
  server: http_server.Server, cache: fetched.Cache
) -> None:
  files = {n: cache.file(f"{server.url}/{n}.bin") for n in "ab"}
  folder = pathlib.Path(cache.together(files))

  def planted(name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(b"planted")

  for name in ("a", "manifest.json"):
    planted(name)
    assert cache.together(files) == str(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
      "a": CONTENT,
      "b": b"b",
    }
  (folder / "a").unlink()
  cache.together(files)
  shutil.copy(files["a"], folder / "copy")
  os.replace(folder / "copy", folder / "a")
  before = (folder / "a").stat().st_ino
  cache.together(files)
  assert (folder / "a").stat().st_ino == before, "a copy is as good as a link"


def test_an_unpacked_archive_is_compared_where_its_hash_is_named(
  cache: fetched.Cache, tmp_path: pathlib.Path
) -> None:
  content = {"m/config.json": b"{}", "m/deep/x": b"x" * 3000000, "m/y": b""}
  archive = tmp_path / "m.zip"
  with zipfile.ZipFile(archive, "w") as file:
    for name, data in content.items():
      file.writestr(name, data)
  folder = pathlib.Path(cache.unpacked(str(archive)))

  def unpacked() -> dict[str, bytes]:
    files = filter(pathlib.Path.is_file, folder.rglob("*"))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}

  first = folder.stat().st_ino
  cache.unpacked(str(archive), compared=True)
  assert folder.stat().st_ino == first
  assert unpacked() == content
  for name, data in {
    "m/config.json": b"{ }",
    "m/deep/x": b"x" * 2999999 + b"y",
    "m/y": b"y",
    "m/z": b"",
    "m/deep/config.json": b"{}",
  }.items():
    (folder / name).write_bytes(data)
    cache.unpacked(str(archive), compared=True)
    assert unpacked() == content, name
  (folder / "m/y").unlink()
  (folder / "m/y").symlink_to("/dev/null")
  cache.unpacked(str(archive), compared=True)
  assert unpacked() == content
  assert not (folder / "m/y").is_symlink()


def test_a_tokenizer_of_the_cache_is_what_was_made(
  cache: fetched.Cache,
) -> None:
  path = pathlib.Path(cache.tokenizer(DIGEST, "vocab.txt", b"a"))
  path.write_bytes(b"planted")
  assert cache.tokenizer(DIGEST, "vocab.txt", b"a") == str(path)
  assert path.read_bytes() == b"a"


_PARTS = ("", "content", f"content/{DIGEST}", "addresses", "parts")


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o702, 0o1777])
@pytest.mark.parametrize("part", _PARTS)
def test_a_folder_that_others_may_write_is_refused(
  server: http_server.Server, cache: fetched.Cache, part: str, mode: int
) -> None:
  cache.file(f"{server.url}/a.bin")
  os.chmod(os.path.join(cache.folder, part), mode)
  asked = len(server.asked)
  with pytest.raises(
    options.InputError, match=f"others may write, mode {mode:o}: name another"
  ):
    cache.file(f"{server.url}/a.bin")
  assert len(server.asked) == asked


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("part", [*_PARTS, f"content/{DIGEST}/a.bin"])
def test_a_folder_that_somebody_else_owns_is_refused(
  server: http_server.Server, cache: fetched.Cache, part: str
) -> None:
  cache.file(f"{server.url}/a.bin")
  os.chown(os.path.join(cache.folder, part), 12345, -1)
  with pytest.raises(options.InputError, match="one that user 12345 owns"):
    cache.file(f"{server.url}/a.bin")


def test_somebody_else_is_told_by_the_owner_of_the_file(
  server: http_server.Server,
  cache: fetched.Cache,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  cache.file(f"{server.url}/a.bin")
  monkeypatch.setattr(os, "geteuid", lambda: 54321)
  with pytest.raises(options.InputError, match=r"one that user .* owns"):
    cache.file(f"{server.url}/a.bin")


def test_the_users_own_name_for_the_cache_may_be_a_link(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "disk").mkdir(mode=0o700)
  (tmp_path / "cache").symlink_to(tmp_path / "disk")
  path = fetched.Cache(str(tmp_path / "cache")).file(f"{server.url}/a.bin")
  assert pathlib.Path(path).read_bytes() == CONTENT


def test_links_in_the_cache_are_not_followed(
  server: http_server.Server, cache: fetched.Cache, tmp_path: pathlib.Path
) -> None:
  address = f"{server.url}/a.bin"
  cache.file(address)
  mine = tmp_path / "mine"
  mine.write_bytes(CONTENT)
  places = [p for p in pathlib.Path(cache.folder).rglob("*") if p != mine]
  key = hashlib.sha256(address.encode()).hexdigest()
  places += [
    pathlib.Path(cache.folder, "parts", f"{key}{e}") for e in ("", ".json")
  ]
  for place in sorted(places):
    kept = tmp_path / "kept"
    if place.exists():
      place.rename(kept)
    place.symlink_to(kept if kept.is_dir() else mine)
    with pytest.raises(options.InputError, match="got a link or a device"):
      cache.file(address)
    place.unlink()
    if kept.exists():
      kept.rename(place)
  assert mine.read_bytes() == CONTENT
  cache.file(address)


def test_a_cache_that_was_spoilt_in_any_way_gives_the_file_or_one_line(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  draw = random.Random(8)
  address = f"{server.url}/a.bin"
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("m/x", b"x")
  server.files["/m.zip"] = file.getvalue()
  refused = 0
  for number in range(120):
    cache = fetched.Cache(str(tmp_path / str(number)))
    cache.together({"a.bin": cache.file(address)})
    places = sorted(pathlib.Path(cache.folder).rglob("*"))
    _spoil(draw, draw.choice(places), tmp_path)
    digest = draw.choice(["", DIGEST])
    try:
      path = cache.file(address, digest)
      folder = pathlib.Path(cache.together({"a.bin": path}))
      assert (folder / "a.bin").read_bytes() == CONTENT
      assert os.listdir(folder) == ["a.bin"]
      assert pathlib.Path(path).read_bytes() == CONTENT
    except options.InputError as error:
      refused += 1
      assert "a cache that only you can write" in str(error)
  assert 20 < refused < 100


def _spoil(
  draw: random.Random, place: pathlib.Path, above: pathlib.Path
) -> None:
  """Spoils a file or folder: changed, removed, replaced, or open to others."""
  kind = draw.randrange(6)
  if kind == 0 and place.is_dir():
    (place / draw.choice(["a.bin", "x", ".x"])).write_bytes(b"planted")
  elif kind <= 1 and place.is_file():
    os.unlink(place)
    place.write_bytes(
      draw.choice([b"", b"planted", b"{}", b"[", CONTENT + b"x"])
    )
  elif kind == 2:
    os.chmod(place, 0o777)
  else:
    if place.is_dir():
      shutil.rmtree(place)
    else:
      place.unlink()
    if kind == 3:
      place.symlink_to(above)
    elif kind == 4:
      os.mkfifo(place)

"""Files: found in order, read by line, written whole or not at all."""

import bz2
import gzip
import lzma
import os
import pathlib

import pytest
import zstandard

from data_prep import manifest, options, storage


def test_files_are_found_in_order_and_once(tmp_path: pathlib.Path) -> None:
  for name in ("b.txt", "a.txt", "c.csv"):
    (tmp_path / name).write_text(name)
  found = storage.matching(f"{tmp_path}/c.*, {tmp_path}/*.txt,{tmp_path}/a.*")
  assert [os.path.basename(path) for path in found] == [
    "c.csv", "a.txt", "b.txt",
  ]  # fmt: skip
  with pytest.raises(options.InputError, match="no file at"):
    storage.matching(f"{tmp_path}/a.txt,{tmp_path}/d*")
  with pytest.raises(options.InputError, match="expected a local path or gs"):
    storage.matching("https://example.com/corpus.txt")


COMPRESS = {
  ".gz": gzip.compress,
  ".bz2": bz2.compress,
  ".xz": lzma.compress,
  ".zst": zstandard.compress,
}


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_compressed_file_reads_as_its_text(
  tmp_path: pathlib.Path, ending: str
) -> None:
  path = tmp_path / f"a.txt{ending}"
  content = "\ufeffсайн\r\nбайна\n\nуу".encode()
  path.write_bytes(COMPRESS[ending](content))
  assert list(storage.lines(str(path))) == ["сайн", "байна", "", "уу"]


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_cut_compressed_file_is_refused(
  tmp_path: pathlib.Path, ending: str
) -> None:
  path = tmp_path / f"a.txt{ending}"
  text = "\n".join(map(str, range(9000))).encode()
  for content in (COMPRESS[ending](text)[:-20], "сайн".encode()):
    path.write_bytes(content)
    with pytest.raises(options.InputError, match="expected a whole"):
      list(storage.lines(str(path)))


def test_a_file_appears_when_its_block_ends_well(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "folder" / "a.txt"
  with storage.writing(str(path)) as file:
    file.write("сайн")
    assert not path.exists()
  assert path.read_text("utf-8") == "сайн"
  assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
  mask = os.umask(0)
  os.umask(mask)
  return mask


def test_a_failed_block_leaves_the_old_file_and_nothing_else(
  tmp_path: pathlib.Path,
) -> None:
  path = tmp_path / "a.txt"
  path.write_text("old")
  with pytest.raises(KeyboardInterrupt), storage.writing(str(path)) as file:
    file.write("new")
    raise KeyboardInterrupt
  assert path.read_text() == "old"
  assert os.listdir(tmp_path) == ["a.txt"]


@pytest.fixture
def artefact(tmp_path: pathlib.Path) -> pathlib.Path:
  (tmp_path / "data.txt").write_text("сайн")
  manifest.write(
    str(tmp_path), "corpus", parameters={"min_words": 5}, files=["data.txt"],
    counts={"documents": 1}, inputs={"raw.txt": "0" * 64},
  )  # fmt: skip
  return tmp_path


def test_a_manifest_says_what_its_artefact_is(artefact: pathlib.Path) -> None:
  found = manifest.check(str(artefact), "corpus")
  assert found["files"]["data.txt"]["bytes"] == 8
  assert found["files"]["data.txt"]["sha256"] == storage.sha256(
    str(artefact / "data.txt")
  )
  assert manifest.identity(str(artefact)) == storage.sha256(
    str(artefact / "manifest.json")
  )


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("data.txt", "сай", "of 8 bytes; got 6 bytes"),
    ("data.txt", None, "got no such file"),
    ("manifest.json", None, "expected a finished corpus"),
    ("manifest.json", "{", "expected JSON"),
    ("manifest.json", '{"format_version": 99}', "got 99"),
  ],
)
def test_an_artefact_that_is_not_whole_is_refused(
  artefact: pathlib.Path, name: str, content: str | None, message: str
) -> None:
  if content is None:
    (artefact / name).unlink()
  else:
    (artefact / name).write_text(content)
  with pytest.raises(options.InputError, match=message):
    manifest.check(str(artefact), "corpus")


def test_an_artefact_of_another_kind_is_refused(artefact: pathlib.Path) -> None:
  with pytest.raises(
    options.InputError, match="a tokenizer in .* got a corpus"
  ):
    manifest.check(str(artefact), "tokenizer")

"""Tests of the files that globs, folders and saved data sets name."""

import json
import pathlib

import pyarrow as pa
import pyarrow.ipc
import pytest

from data_prep.base import options
from data_prep.files import gcs, storage
from data_prep.sources import inputs
from tests import gcs_server

NAMES = ("a.html", "b/c.html", "b/d/e.html", "b/d/e.png", ".git/x.html")


@pytest.fixture
def site(tmp_path: pathlib.Path) -> pathlib.Path:
  for name in NAMES:
    path = tmp_path / "site" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("Сайн уу.", "utf-8")
  return tmp_path / "site"


@pytest.mark.parametrize(
  ("pattern", "names"),
  [
    ("**", ["a.html", "b/c.html", "b/d/e.html", "b/d/e.png"]),
    ("**/*.html", ["a.html", "b/c.html", "b/d/e.html"]),
    ("b/**/*.html", ["b/c.html", "b/d/e.html"]),
    ("**/d/*", ["b/d/e.html", "b/d/e.png"]),
    ("*/**/[e].html", ["b/d/e.html"]),
    (".git/**", [".git/x.html"]),
    ("", ["a.html", "b/c.html", "b/d/e.html"]),  # the folder itself
  ],
)
def test_stars_stand_for_any_number_of_folders(
  site: pathlib.Path,
  pattern: str,
  names: list[str],
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  files = inputs.files(f"{site}/{pattern}")
  assert files == [f"{site}/{name}" for name in names]
  monkeypatch.chdir(site)
  if pattern:
    assert inputs.files(pattern) == names


def test_a_bucket_is_searched_like_a_disk(
  site: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  with gcs_server.running(tmp_path) as front:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
    gcs._client.cache_clear()
    for name in NAMES:
      with storage.writing(f"gs://bucket/site/{name}") as file:
        file.write("Сайн уу.")
    pages = ["a.html", "b/c.html", "b/d/e.html"]
    for pattern in ("site/**/*.html", "site", "site/"):
      files = inputs.files(f"gs://bucket/{pattern}")
      assert files == [f"gs://bucket/site/{name}" for name in pages]
  gcs._client.cache_clear()


def test_a_folder_without_text_is_refused(tmp_path: pathlib.Path) -> None:
  (tmp_path / "a.png").touch()
  with pytest.raises(options.InputError, match="files to read in"):
    inputs.files(str(tmp_path))
  with pytest.raises(options.InputError, match="no file at"):
    inputs.files(f"{tmp_path}/**/*.txt")


def _saved(folder: pathlib.Path, names: list[str]) -> None:
  """Writes a folder as `datasets.save_to_disk` of datasets 5.2.0 does."""
  folder.mkdir(parents=True)
  files = [{"filename": name} for name in names]
  (folder / "state.json").write_text(
    json.dumps({"_data_files": files, "_fingerprint": "1e8e", "_split": None})
  )
  (folder / "dataset_info.json").write_text('{"features": {}}')
  table = pa.table({"text": ["Сайн уу."]})
  for name in names:
    with pa.ipc.new_stream(folder / name, table.schema) as writer:
      writer.write_table(table)
  (folder / "cache-1e8e.arrow").write_bytes(b"another state of the rows")


def test_a_saved_data_set_is_the_files_that_its_state_names(
  tmp_path: pathlib.Path,
) -> None:
  names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
  _saved(tmp_path / "set/train", names)
  _saved(tmp_path / "set/test", names[:1])
  (tmp_path / "set/dataset_dict.json").write_text(
    '{"splits": ["train", "test"]}'
  )
  train = [f"{tmp_path}/set/train/{name}" for name in names]
  assert inputs.files(f"{tmp_path}/set/train") == train
  test = f"{tmp_path}/set/test/{names[0]}"
  assert inputs.files(f"{tmp_path}/set/") == [*train, test]
  pathlib.Path(train[1]).unlink()
  with pytest.raises(options.InputError, match=f"no file at .*{names[1]}"):
    inputs.files(f"{tmp_path}/set")


@pytest.mark.parametrize("name", ["../a.arrow", "", None, "/etc/passwd", ".."])
def test_a_state_that_leads_outside_is_refused(
  tmp_path: pathlib.Path, name: str | None
) -> None:
  content = {"_data_files": [{"filename": name}]}
  (tmp_path / "state.json").write_text(json.dumps(content))
  with pytest.raises(options.InputError, match="names of files in"):
    inputs.files(str(tmp_path))

"""Tests of downloads from a loopback server that cuts, lies and disappears."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from data_prep.base import options
from data_prep.files import transfers
from data_prep.sources import downloads
from tests import http_server

DUMP = os.urandom(3 << 20)
NAME = "mnwiki-20261101-pages-articles.xml.bz2"


@pytest.fixture
def server() -> Iterator[http_server.Server]:
  with http_server.running() as running:
    checksum = hashlib.sha1(DUMP).hexdigest()
    for date in ("latest", "20261101"):
      running.files[f"/mnwiki/{date}/mnwiki-{date}-sha1sums.txt"] = (
        f"{'0' * 40}  mnwiki-20261101-abstract.xml.gz\n{checksum}  {NAME}\n"
      ).encode()
    running.files[f"/mnwiki/20261101/{NAME}"] = DUMP
    yield running


def _options(
  server: http_server.Server, folder: pathlib.Path, **more: Any
) -> downloads.Options:
  return downloads.Options(
    download_dir=str(folder), download_host=server.url, **more
  )


@pytest.mark.parametrize("date", ["latest", "20261101"])
def test_a_dump_comes_whole_and_once(
  server: http_server.Server, tmp_path: pathlib.Path, date: str
) -> None:
  for _ in range(2):
    path = downloads.fetch(
      "wikipedia", _options(server, tmp_path, dump_date=date)
    )
    assert pathlib.Path(path).read_bytes() == DUMP
  assert os.listdir(tmp_path) == [NAME]
  assert len(server.ranges) == 3, "two lists of checksums, one dump"


def test_a_cut_connection_is_taken_up_where_it_broke(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  server.cuts = 3
  path = downloads.fetch("wikipedia", _options(server, tmp_path))
  assert pathlib.Path(path).read_bytes() == DUMP
  starts = [int(r[6:-1]) for r in server.ranges if r]
  assert len(starts) == 3
  assert starts == sorted(starts)
  assert starts[0] > 1 << 19
  assert os.listdir(tmp_path) == [NAME]


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(
  server: http_server.Server,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  (tmp_path / f"{NAME}.part").write_bytes(DUMP[:-900])
  tag = f'"{hashlib.md5(DUMP).hexdigest()}"'
  (tmp_path / f"{NAME}.part.json").write_text(json.dumps(tag))
  monkeypatch.setattr(transfers, "_MOST_TRIES", 1)
  server.answers[f"/mnwiki/20261101/{NAME}"] = [503]
  with pytest.raises(options.InputError, match="run it again later"):
    downloads.fetch("wikipedia", _options(server, tmp_path))
  monkeypatch.undo()
  path = downloads.fetch("wikipedia", _options(server, tmp_path))
  assert pathlib.Path(path).read_bytes() == DUMP
  assert server.ranges[-1] == f"bytes={len(DUMP) - 900}-"


def test_halves_of_two_files_are_never_joined(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  (tmp_path / f"{NAME}.part").write_bytes(b"x" * 1000)
  (tmp_path / f"{NAME}.part.json").write_text(json.dumps('"an older one"'))
  path = downloads.fetch("wikipedia", _options(server, tmp_path))
  assert pathlib.Path(path).read_bytes() == DUMP


def test_a_damaged_file_is_refused_and_not_kept(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  server.files[f"/mnwiki/20261101/{NAME}"] = DUMP[:-1] + b"?"
  with pytest.raises(options.InputError, match="expected sha1"):
    downloads.fetch("wikipedia", _options(server, tmp_path))
  assert os.listdir(tmp_path) == []


def test_the_news_archive_is_found_through_its_public_link(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  server.files["/archive"] = DUMP
  server.files["/v1/disk/public/resources"] = json.dumps(
    {
      "name": "../news.zip",
      "file": f"{server.url}/archive",
      "sha256": hashlib.sha256(DUMP).hexdigest(),
    }
  ).encode()
  path = downloads.fetch("news", _options(server, tmp_path))
  assert path == str(tmp_path / "news.zip")
  assert pathlib.Path(path).read_bytes() == DUMP


@pytest.mark.parametrize(
  "changes",
  [
    {"name": ".."},
    {"name": ""},
    {"name": ".hidden"},
    {"name": "a\nb"},
    {"name": 5},
    {"sha256": "no"},
    {"sha256": None},
    {"file": 5},
    {"file": "http://two.invalid/x"},
    {"file": "https://localhost/x"},
    {"file": "file:///etc/hostname"},
  ],
)
def test_an_answer_that_names_no_plain_file_is_refused(
  server: http_server.Server, tmp_path: pathlib.Path, changes: dict[str, object]
) -> None:
  entry = {"name": "a.zip", "file": f"{server.url}/archive", "sha256": "0" * 64}
  answer = json.dumps(entry | changes).encode()
  server.files["/v1/disk/public/resources"] = answer
  with pytest.raises(options.InputError):
    downloads.fetch("news", _options(server, tmp_path))
  assert server.asked == ["/v1/disk/public/resources"]
  assert os.listdir(tmp_path) == []


def test_a_checksum_of_the_user_counts_and_not_that_of_the_host(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  given = _options(server, tmp_path, download_sha256="0" * 64)
  with pytest.raises(options.InputError, match="expected sha256 0000"):
    downloads.fetch("wikipedia", given)
  digest = hashlib.sha256(DUMP).hexdigest().upper()
  given = _options(server, tmp_path, download_sha256=digest)
  path = downloads.fetch("wikipedia", given)
  assert pathlib.Path(path).read_bytes() == DUMP
  with pytest.raises(options.InputError, match="--download_sha256 of 64"):
    _options(server, tmp_path, download_sha256="5")


def test_a_mirror_behind_plain_http_is_never_asked(
  tmp_path: pathlib.Path,
) -> None:
  plain = downloads.Options(
    download_dir=str(tmp_path), download_host="http://mirror.invalid"
  )
  for source in ("wikipedia", "news"):
    with pytest.raises(
      options.InputError, match="expected https://; got http:"
    ):
      downloads.fetch(source, plain)


def test_what_is_gone_is_named_with_what_to_do(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  with pytest.raises(options.InputError, match=r"404.*--dump_date=latest"):
    downloads.fetch(
      "wikipedia", _options(server, tmp_path, dump_date="20010101")
    )
  with pytest.raises(options.InputError, match=r"by hand.*--input_file"):
    downloads.fetch("news", _options(server, tmp_path))
  gone = downloads.Options(
    download_dir=str(tmp_path), download_host="http://127.0.0.1:9"
  )
  with pytest.raises(options.InputError, match=r"an answer from 127.0.0.1:9"):
    downloads.fetch("wikipedia", gone)
  with pytest.raises(options.InputError, match="--source=text"):
    downloads.fetch("text", gone)

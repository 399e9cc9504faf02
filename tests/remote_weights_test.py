"""Tests that weights at addresses are fetched once, whole and safely."""

import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import pathlib
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator

import pytest
import tensorflow as tf

from albert_mn.export import exports
from albert_mn.formats import conversion, initial_weights, remote_weights
from albert_mn.models import encoders, model_directory
from albert_mn.pretrain import run_options
from albert_mn.runtime import distribution
from data_prep.base import options
from data_prep.files import archives, fetched, gcs, manifest, storage, transfers
from tests import gcs_server, http_server, running, tf1_saver

REFERENCE = pathlib.Path(__file__).parent / "reference"
ALBERT, TOPICS = REFERENCE / "albert_g3", REFERENCE / "hf_topics"
_OURS = initial_weights.Format.OURS


@pytest.fixture
def server(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[http_server.Server]:
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  with http_server.running() as started:
    yield started


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A model directory of this project."""
  folder = tmp_path_factory.mktemp("ours") / "model"
  conversion.run(
    conversion.Options(init_checkpoint=str(TOPICS), output_dir=str(folder))
  )
  return folder


def _serve(server: http_server.Server, folder: pathlib.Path, place: str) -> str:
  for path in folder.iterdir():
    server.files[f"/{place}/{path.name}"] = path.read_bytes()
  return f"{server.url}/{place}"


def _zipped(folder: pathlib.Path, top: str) -> bytes:
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    for path in sorted(folder.iterdir()):
      archive.write(path, f"{top}/{path.name}")
    archive.writestr("__MACOSX/._x", "hidden")
  return file.getvalue()


def _tarred(folder: pathlib.Path, top: str) -> bytes:
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode="w:gz") as archive:
    archive.add(folder, top)
  return file.getvalue()


def test_a_copy_leaves_what_lies_beside_it_alone(
  server: http_server.Server, model: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  mine = tmp_path / "copies/out.partial/mine.txt"
  mine.parent.mkdir(parents=True)
  mine.write_text("mine")
  out = tmp_path / "copies/out"
  address = _serve(server, model, "models/copied")
  remote_weights.fetch(
    remote_weights.Options(init_checkpoint=address, output_dir=str(out))
  )
  assert running.digests(out) == running.digests(model)
  assert mine.read_text() == "mine"
  assert sorted(path.name for path in out.parent.iterdir()) == [
    "out",
    "out.partial",
  ]


def test_a_model_directory_comes_with_its_manifests_checksums(
  server: http_server.Server, model: pathlib.Path
) -> None:
  address = _serve(server, model, "models/topics")
  path = remote_weights.local(address)
  assert running.digests(pathlib.Path(path)) == running.digests(model)
  assert manifest.check(path, "classifier")
  fetches = len(server.ranges)
  assert remote_weights.local(address) == path
  assert len(server.ranges) == fetches
  assert server.unchanged == 1, (
    "the manifest is asked for, the rest is known by its hash"
  )
  changed = server.files["/models/topics/vocab.txt"][:-1] + b"x"
  server.files["/models/topics/vocab.txt"] = changed
  (pathlib.Path(path) / "vocab.txt").unlink()
  cache = pathlib.Path(fetched.default_folder())
  digest = hashlib.sha256((model / "vocab.txt").read_bytes()).hexdigest()
  (cache / "content" / digest / "vocab.txt").unlink()
  with pytest.raises(options.InputError, match="expected the sha256"):
    remote_weights.local(address)


@pytest.mark.parametrize(
  ("name", "pack"), [("bert.zip", _zipped), ("bert.tar.gz", _tarred)]
)
def test_an_archive_is_unpacked_once_and_its_model_found(
  server: http_server.Server,
  name: str,
  pack: Callable[[pathlib.Path, str], bytes],
) -> None:
  server.files[f"/{name}"] = content = pack(TOPICS, "uncased_L-2")
  address = f"{server.url}/{name}?alt=media"
  path = remote_weights.local(address)
  assert path.endswith("unpacked/uncased_L-2")
  assert running.digests(pathlib.Path(path)) == running.digests(TOPICS)
  digest = hashlib.sha256(content).hexdigest()
  assert remote_weights.local(address, sha256=digest) == path
  assert len(server.ranges) == 1
  with pytest.raises(options.InputError, match=f"sha256 {'0' * 64}.*{digest}"):
    remote_weights.local(address, sha256="0" * 64)


@pytest.mark.parametrize(
  ("name", "pack"), [("bert.zip", _zipped), ("bert.tar.gz", _tarred)]
)
def test_an_archive_that_is_here_is_unpacked_into_the_cache(
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
  name: str,
  pack: Callable[[pathlib.Path, str], bytes],
) -> None:
  monkeypatch.setenv("ALBERT_MN_CACHE", str(tmp_path / "named"))
  archive = tmp_path / "here" / name
  archive.parent.mkdir()
  archive.write_bytes(pack(TOPICS, "uncased_L-2"))
  out = tmp_path / "model"
  for _ in range(2):
    conversion.run(
      conversion.Options(init_checkpoint=str(archive), output_dir=str(out))
    )
    assert manifest.check(str(out), "classifier")
  digest = hashlib.sha256(archive.read_bytes()).hexdigest()
  kept = tmp_path / "named/content" / digest / "unpacked/uncased_L-2"
  assert remote_weights.local(str(archive)) == str(kept)
  assert running.digests(kept) == running.digests(TOPICS)
  assert os.listdir(archive.parent) == [name], "nothing is left beside it"
  archive.write_bytes(_bomb() if name.endswith("zip") else b"\x1f\x8b no tar")
  with pytest.raises(
    options.InputError, match=r"to fill a disk|a whole .gz file"
  ):
    remote_weights.local(str(archive))


def test_a_prefix_on_a_server_brings_all_of_its_shards(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  names = ["bert/one", "bert/two", "bert/three"]
  parts = []
  for place, name in enumerate(names):
    part = str(tmp_path / f"part_{place}")
    value = tf.constant([float(place)])
    tf.raw_ops.SaveV2(
      prefix=part, tensor_names=[name], shape_and_slices=[""], tensors=[value]
    )
    parts.append(part)
  folder = tmp_path / "sharded"
  folder.mkdir()
  tf.raw_ops.MergeV2Checkpoints(
    checkpoint_prefixes=parts, destination_prefix=str(folder / "model.ckpt-900")
  )
  assert len(list(folder.glob("*.data-*-of-00003"))) == 3
  address = _serve(server, folder, "sharded")
  path = remote_weights.local(f"{address}/model.ckpt-900")
  reader = tf.train.load_checkpoint(path)
  assert [reader.get_tensor(n).item() for n in names] == [0.0, 1.0, 2.0]
  del server.files["/sharded/model.ckpt-900.data-00001-of-00003"]
  server.files["/sharded/model.ckpt-900.index"] += b" "  # another one
  with pytest.raises(options.InputError, match=r"404.*: mend the address"):
    remote_weights.local(f"{address}/model.ckpt-900")


def test_files_of_weights_prefixes_and_hugging_faces_folders_bring_the_rest(
  server: http_server.Server,
) -> None:
  address = _serve(server, TOPICS, "hf/resolve/main")
  folder = remote_weights.local(address)
  names = set(os.listdir(folder))
  assert {"model.safetensors", "vocab.txt", "tokenizer_config.json"} <= names
  assert "outputs.json" not in names
  path = remote_weights.local(f"{address}/model.safetensors")
  assert os.path.basename(path) == "model.safetensors"
  assert initial_weights.tokenizer_file(path).endswith("vocab.txt")
  prefix = remote_weights.local(f"{_serve(server, ALBERT, 'g')}/model.ckpt")
  assert initial_weights.format_of(prefix) is initial_weights.Format.TF1


def test_a_missing_shard_of_a_hugging_face_folder_is_named(
  server: http_server.Server,
) -> None:
  index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
  server.files["/cut/model.safetensors.index.json"] = json.dumps(index).encode()
  with pytest.raises(options.InputError, match=r"model-00001.*404"):
    remote_weights.local(f"{server.url}/cut")


def test_what_is_missing_or_forbidden_is_said_in_a_line(
  server: http_server.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(transfers, "_MOST_TRIES", 2)
  with pytest.raises(options.InputError, match=r"404 .*: mend the address"):
    remote_weights.local(f"{server.url}/none.zip")
  with pytest.raises(options.InputError, match="404 or 403 for each of them"):
    remote_weights.local(f"{server.url}/none")
  server.answers["/secret.zip"] = [403]
  with pytest.raises(options.InputError, match=r"permission for .*; got 403"):
    remote_weights.local(f"{server.url}/secret.zip")
  server.answers["/busy.zip"] = [503] * 9
  with pytest.raises(options.InputError, match=r"an answer from .*; got 503"):
    remote_weights.local(f"{server.url}/busy.zip")
  with pytest.raises(options.InputError, match="expected https://; got http:"):
    remote_weights.local("http://example.invalid/model.zip")
  cache = pathlib.Path(fetched.default_folder())
  assert not (cache / "content").exists()


def test_a_busy_server_and_a_cut_connection_are_outlasted(
  server: http_server.Server,
) -> None:
  server.files["/large.bin"] = content = os.urandom(3 << 20)
  server.answers["/large.bin"] = [503, 429]
  server.cuts = 2
  path = fetched.Cache().file(f"{server.url}/large.bin")
  assert pathlib.Path(path).read_bytes() == content
  starts = [int(r[6:-1]) for r in server.ranges if r]
  assert len(starts) == 2
  assert 0 < starts[0] < starts[1], "taken up, not begun"


@pytest.mark.parametrize("gives_tags", [True, False])
def test_a_server_that_is_away_is_no_reason_to_fetch_again(
  server: http_server.Server,
  monkeypatch: pytest.MonkeyPatch,
  gives_tags: bool,
) -> None:
  monkeypatch.setattr(transfers, "_MOST_TRIES", 1)
  server.files["/bert.zip"] = _zipped(TOPICS, "bert")
  address = f"{server.url}/bert.zip"
  path = remote_weights.local(address)
  if not gives_tags:  # as the cache notes it
    (note,) = pathlib.Path(fetched.Cache().folder, "addresses").iterdir()
    known = json.loads(note.read_text())
    assert known["tag"]
    note.write_text(json.dumps(known | {"tag": ""}))
  server.server_close()
  server.shutdown()
  assert remote_weights.local(address) == path


def test_another_file_under_the_same_address_is_fetched(
  server: http_server.Server,
) -> None:
  server.files["/a.zip"] = _zipped(TOPICS, "one")
  first = remote_weights.local(f"{server.url}/a.zip")
  server.files["/a.zip"] = _zipped(TOPICS, "two")
  second = remote_weights.local(f"{server.url}/a.zip")
  assert first.endswith("one")
  assert second.endswith("two")
  assert os.path.exists(first), "who uses the old one keeps it"


def _fetch(address: str, paths: "multiprocessing.Queue[str]") -> None:
  paths.put(remote_weights.local(address))


def test_many_processes_may_fetch_the_same_at_once(
  server: http_server.Server,
) -> None:
  server.files["/bert.zip"] = _zipped(TOPICS, "bert")
  server.cuts = 1
  fork = multiprocessing.get_context("fork")
  queue = fork.Queue()
  processes = [
    fork.Process(target=_fetch, args=(f"{server.url}/bert.zip", queue))
    for _ in range(3)
  ]
  for process in processes:
    process.start()
  paths = {queue.get(timeout=60) for _ in processes}
  for process in processes:
    process.join()
  assert len(paths) == 1
  assert running.digests(pathlib.Path(paths.pop())) == running.digests(TOPICS)
  assert len(server.ranges) == 2, "one fetched, cut once; the others waited"


def _hostile_tar(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode="w") as archive:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, "/etc/passwd", 0
    archive.addfile(info)
  return file.getvalue()


def _linked_zip() -> bytes:
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    info = zipfile.ZipInfo("model/config.json")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")
  return file.getvalue()


def _bomb() -> bytes:
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("model.ckpt.data-00000-of-00001", bytes(64 << 20))
  return file.getvalue()


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("a.tar", _hostile_tar("../outside"), "a name that leads outside"),
    ("a.tar", _hostile_tar("/outside"), "a name that leads outside"),
    ("a.tar", _hostile_tar("config.json", tarfile.SYMTYPE), "a link or a"),
    ("a.tar", _hostile_tar("config.json", tarfile.LNKTYPE), "a link or a"),
    ("a.tar", _hostile_tar("config.json", tarfile.FIFOTYPE), "a link or a"),
    ("a.zip", _linked_zip(), "a link or a device"),
    ("a.zip", _bomb(), "made to fill a disk"),
    ("a.zip", b"PK\x03\x04 no zip", "a whole, open archive"),
    ("a.zip", _zipped(REFERENCE / "albert_g3", "x")[:-9000], "a whole, open"),
  ],
)
def test_an_archive_that_is_made_to_do_harm_leaves_nothing(
  server: http_server.Server,
  tmp_path: pathlib.Path,
  name: str,
  content: bytes,
  message: str,
) -> None:
  server.files[f"/{name}"] = content
  with pytest.raises(options.InputError, match=message):
    remote_weights.local(f"{server.url}/{name}")
  assert not list(tmp_path.rglob("unpacked")) + list(tmp_path.rglob("outside"))
  kept = next((tmp_path / "cache/albert-mn/content").iterdir())
  assert os.listdir(kept) == [name]


def test_an_archive_may_not_hold_more_than_there_is_room_for(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  path = tmp_path / "a.tar.gz"
  path.write_bytes(_tarred(ALBERT, "x"))
  monkeypatch.setattr(storage, "free_bytes", lambda _: 20_000)
  with pytest.raises(options.InputError, match="for which there is room"):
    archives.unpack(str(path), str(tmp_path))
  monkeypatch.setattr(archives, "_MOST_FILES", 2)
  with pytest.raises(options.InputError, match="more than 2"):
    archives.unpack(str(path), str(tmp_path / "two"))


@pytest.mark.parametrize("note", ["", "[]", '{"tag": 5}', "{", "null"])
def test_a_note_of_the_cache_that_is_damaged_is_as_none(
  note: str, server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  server.files["/a/pytorch_model.bin"] = b"weights"
  cache = fetched.Cache(str(tmp_path / "cache"))
  address = f"{server.url}/a/pytorch_model.bin"
  cache.file(address)
  (path,) = (tmp_path / "cache/addresses").iterdir()
  path.write_text(note)
  assert pathlib.Path(cache.file(address)).read_bytes() == b"weights"
  assert json.loads(path.read_text())["address"] == address


def test_a_manifests_checksum_is_no_path(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  (tmp_path / "secret").write_text("x")
  entry = {"bytes": 1, "sha256": f"../../../../{tmp_path}"}
  content = {"format_version": 1, "kind": "x", "files": {"secret": entry}}
  server.files["/m/manifest.json"] = json.dumps(content).encode()
  with pytest.raises(options.InputError, match="64 hexadecimal digits"):
    remote_weights.local(f"{server.url}/m")


def test_a_hash_of_the_user_is_that_of_the_manifest_and_so_of_all_files(
  server: http_server.Server, model: pathlib.Path
) -> None:
  address = _serve(server, model, "models/named")
  digest = hashlib.sha256((model / manifest.NAME).read_bytes()).hexdigest()
  path = remote_weights.local(address, sha256=digest)
  assert running.digests(pathlib.Path(path)) == running.digests(model)
  server.files[f"/models/named/{manifest.NAME}"] += b" "
  assert remote_weights.local(address, sha256=digest) == path
  with pytest.raises(options.InputError, match=f"sha256 {'0' * 64}.*; got"):
    remote_weights.local(address, sha256="0" * 64)
  hub = _serve(server, TOPICS, "hf")
  with pytest.raises(
    options.InputError, match=r"--sha256 of .*none of them at"
  ):
    remote_weights.local(hub, sha256="1" * 64)


def test_a_file_may_not_be_larger_than_its_manifest_says(
  server: http_server.Server, model: pathlib.Path
) -> None:
  address = _serve(server, model, "models/large")
  size = len(server.files["/models/large/vocab.txt"])
  server.files["/models/large/vocab.txt"] += b"x"
  with pytest.raises(options.InputError, match=f"at most {size:,} .*vocab.txt"):
    remote_weights.local(address)


@pytest.mark.parametrize(
  ("weight_map", "message"),
  [
    ({"a": "../model.safetensors"}, "names of 1 to 1000 .*'../model.safeten"),
    ({"a": "/etc/hostname"}, "names of 1 to 1000 .*'/etc/hostname'"),
    ({"a": "config.json"}, "names of 1 to 1000 .*'config.json'"),
    ({str(n): f"{n}.safetensors" for n in range(1001)}, "got 1001"),
    ({}, "names of 1 to 1000 .*got 0"),
    ({"a": 5}, "weight_map in .* to be an object; got"),
    ([], "weight_map in .* to be an object; got"),
    (None, "weight_map in .* to be an object; got null"),
  ],
)
def test_shards_that_no_index_may_name_are_not_asked_for(
  server: http_server.Server, weight_map: object, message: str
) -> None:
  index = json.dumps({"weight_map": weight_map}).encode()
  server.files["/hf/model.safetensors.index.json"] = index
  with pytest.raises(options.InputError, match=message):
    remote_weights.local(f"{server.url}/hf")
  assert set(server.asked) == {
    "/hf/manifest.json",
    "/hf/model.safetensors.index.json",
  }


def test_a_manifest_may_not_name_files_elsewhere(
  server: http_server.Server, model: pathlib.Path
) -> None:
  content = json.loads((model / manifest.NAME).read_text("utf-8"))
  entry = content["files"].pop("vocab.txt")
  content["files"]["../vocab.txt"] = entry
  server.files["/m/manifest.json"] = json.dumps(content).encode()
  for path in model.iterdir():
    server.files.setdefault(f"/m/{path.name}", path.read_bytes())
  with pytest.raises(options.InputError, match="one that leads outside"):
    remote_weights.local(f"{server.url}/m")
  entry = content["files"].pop("../vocab.txt")
  content["files"]["deep/vocab.txt"] = entry
  server.files["/m/manifest.json"] = json.dumps(content).encode()
  with pytest.raises(options.InputError, match="or one of a folder"):
    remote_weights.local(f"{server.url}/m")
  assert set(server.asked) == {"/m/manifest.json"}


def test_a_config_without_weights_is_no_second_model(
  server: http_server.Server,
) -> None:
  """The config is sentence-transformers' in the folder 1_Pooling/."""
  file = io.BytesIO(_zipped(TOPICS, "one"))
  with zipfile.ZipFile(file, "a") as archive:
    archive.writestr("one/1_Pooling/config.json", "{}")
  server.files["/one.zip"] = file.getvalue()
  assert remote_weights.local(f"{server.url}/one.zip").endswith("unpacked/one")


def test_an_archive_of_two_models_asks_which(
  server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    for top in ("one", "two"):
      for path in sorted(TOPICS.iterdir()):
        archive.write(path, f"{top}/{path.name}")
  server.files["/both.zip"] = file.getvalue()
  with pytest.raises(options.InputError, match=r"one model in .*one, two"):
    remote_weights.local(f"{server.url}/both.zip")
  server.files["/none.zip"] = _zipped(REFERENCE.parent / "gold", "x")
  with pytest.raises(options.InputError, match="got none"):
    remote_weights.local(f"{server.url}/none.zip")


@pytest.fixture(scope="module")
def bucket(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[gcs_server.Front]:
  with gcs_server.running(tmp_path_factory.mktemp("gcs")) as front:
    yield front


@pytest.fixture
def gs(
  bucket: gcs_server.Front,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> Iterator[gcs_server.Front]:
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket.url)
  bucket.faults, bucket.requests = [], []
  gcs._client.cache_clear()
  yield bucket
  gcs._client.cache_clear()


def _upload(folder: pathlib.Path, place: str) -> str:
  for path in folder.iterdir():
    storage.copy(str(path), f"gs://bucket/{place}/{path.name}")
  return f"gs://bucket/{place}"


def test_a_bucket_gives_folders_prefixes_and_archives(
  gs: gcs_server.Front, model: pathlib.Path, tmp_path: pathlib.Path
) -> None:
  address = _upload(model, "ours")
  path = remote_weights.local(address)
  assert running.digests(pathlib.Path(path)) == running.digests(model)
  sizes = [r for r in gs.requests if "alt=media" in r]
  assert remote_weights.local(address) == path
  assert [r for r in gs.requests if "alt=media" in r] == sizes
  _upload(ALBERT, "theirs")
  prefix = remote_weights.local("gs://bucket/theirs/model.ckpt")
  assert initial_weights.format_of(prefix) is initial_weights.Format.TF1
  archive = tmp_path / "bert.zip"
  archive.write_bytes(_zipped(TOPICS, "bert"))
  storage.copy(str(archive), "gs://bucket/bert.zip")
  unpacked = remote_weights.local("gs://bucket/bert.zip")
  assert running.digests(pathlib.Path(unpacked)) == running.digests(TOPICS)


def _saved(folder: pathlib.Path) -> pathlib.Path:
  """Writes ALBERT's reference weights as a TF Hub module; returns it."""
  reader = tf.train.load_checkpoint(str(ALBERT / "model.ckpt"))
  arrays = {
    f"module/{name}": reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if not name.endswith(("adam_m", "adam_v", "global_step"))
  }
  config = (ALBERT / "config.json").read_bytes()
  assets = {"albert_config.json": config, "30k-clean.model": b"[PAD]\n"}
  tf1_saver.save_module(arrays, folder, assets)
  return folder


def test_a_module_of_tf_hub_comes_from_a_bucket_but_not_from_a_server(
  gs: gcs_server.Front, server: http_server.Server, tmp_path: pathlib.Path
) -> None:
  module = _saved(tmp_path / "module")
  for place in filter(pathlib.Path.is_file, module.rglob("*")):
    name = place.relative_to(module).as_posix()
    storage.copy(str(place), f"gs://bucket/hub/albert/{name}")
    server.files[f"/hub/{name}"] = place.read_bytes()
  config = initial_weights.settle_config("", "", str(module))
  for path in ("", "/", "/variables", "/variables/variables"):
    here = remote_weights.local(f"gs://bucket/hub/albert{path}")
    assert initial_weights.format_of(here) is initial_weights.Format.TF1
    assert initial_weights.settle_config("", "", here) == config
    tokenizer_file = pathlib.Path(initial_weights.tokenizer_file(here))
    assert tokenizer_file.name == "30k-clean.model"
    initial_weights.load(here, {"encoder": encoders.AlbertEncoder(config, 0)})
  with pytest.raises(options.InputError, match=r"its archive \(.tar.gz\)"):
    remote_weights.local(f"{server.url}/hub")


@pytest.mark.parametrize("to", ["huggingface", "weights"])
def test_an_export_to_a_bucket_is_whole_and_comes_back_from_there(
  gs: gcs_server.Front, model: pathlib.Path, tmp_path: pathlib.Path, to: str
) -> None:
  folder = f"gs://bucket/exports/{to}"
  given = exports.Options(model_dir=str(model), to=to, output_dir=folder)
  exports.run(given)
  local = dataclasses.replace(given, output_dir=str(tmp_path / "out"))
  exports.run(local)
  for path in (tmp_path / "out").iterdir():
    assert storage.read_bytes(f"{folder}/{path.name}") == path.read_bytes()
  exports.run(given)  # takes the place of the earlier one
  conversion.run(
    conversion.Options(
      init_checkpoint=folder, output_dir=str(tmp_path / "again")
    )
  )
  weights = "model.ckpt.data-00000-of-00001"
  assert (tmp_path / "again" / weights).read_bytes() == (
    model / weights
  ).read_bytes()
  storage.copy(str(tmp_path / "again/labels.json"), "gs://bucket/other/x")
  with pytest.raises(options.InputError, match="1 other files in gs://bucket/"):
    exports.run(dataclasses.replace(given, output_dir="gs://bucket/other"))


def test_a_bucket_that_is_busy_cuts_or_forbids(
  gs: gcs_server.Front, tmp_path: pathlib.Path
) -> None:
  content = os.urandom(1 << 16)
  (tmp_path / "x").write_bytes(content)
  storage.copy(str(tmp_path / "x"), "gs://bucket/x.bin")
  gs.faults = ["503", "", "503", "cut"]
  path = fetched.Cache().file("gs://bucket/x.bin")
  assert pathlib.Path(path).read_bytes() == content
  with pytest.raises(options.InputError, match="404 not found"):
    fetched.Cache().file("gs://bucket/none.bin")
  with pytest.raises(options.InputError, match="404, nothing at gs://bucket/n"):
    remote_weights.local("gs://bucket/nothing")
  with pytest.raises(options.InputError, match=r"permission for .*403"):
    remote_weights.local("gs://forbidden/model")


def test_what_a_bucket_gave_before_a_kill_is_not_fetched_again(
  gs: gcs_server.Front, tmp_path: pathlib.Path
) -> None:
  content = os.urandom(1 << 16)
  (tmp_path / "x").write_bytes(content)
  storage.copy(str(tmp_path / "x"), "gs://bucket/y.bin")
  address = "gs://bucket/y.bin"
  key = hashlib.sha256(address.encode()).hexdigest()
  part = tmp_path / "cache/albert-mn/parts" / key
  part.parent.mkdir(parents=True)
  for begun, tag in ((content[:60_000], gcs.version(address)), (b"?", "1")):
    part.write_bytes(begun)
    pathlib.Path(f"{part}.json").write_text(tag)
    (tmp_path / "cache/albert-mn/addresses" / f"{key}.json").unlink(True)
    path = fetched.Cache().file(address)
    assert pathlib.Path(path).read_bytes() == content
  part.write_bytes(b"?" * 60_000)
  pathlib.Path(f"{part}.json").write_text(gcs.version(address))
  (tmp_path / "cache/albert-mn/addresses" / f"{key}.json").unlink()
  with pytest.raises(options.InputError, match="with its checksum"):
    fetched.Cache().file(address)
  assert not part.exists()


def test_pretraining_brings_weights_here_but_not_for_a_tpu_elsewhere(
  server: http_server.Server,
) -> None:
  server.files["/bert.zip"] = _zipped(TOPICS, "bert")
  settings = run_options.Options(
    print_schedule=True, init_checkpoint=f"{server.url}/bert.zip"
  )
  local = run_options.localized(settings, distribution.Options())
  assert local.init_checkpoint.endswith("unpacked/bert")
  tpu = distribution.Options(use_tpu=True, tpu_name="far")
  assert run_options.localized(settings, tpu) == settings


@pytest.mark.slow
def test_the_program_fetches_and_the_converter_takes_an_address(
  server: http_server.Server,
  tmp_path: pathlib.Path,
  programs: running.Programs,
) -> None:
  server.files["/bert.zip"] = _zipped(TOPICS, "bert")
  address = f"{server.url}/bert.zip"
  done = programs.run(
    "-m",
    "albert_mn.download_checkpoint",
    f"--init_checkpoint={address}",
    f"--output_dir={tmp_path}/theirs",
  )
  assert done.stdout.endswith(f"Hugging Face's weights at {tmp_path}/theirs\n")
  assert running.digests(tmp_path / "theirs") == running.digests(TOPICS)
  programs.succeed(
    "-m",
    "albert_mn.convert_checkpoint",
    f"--init_checkpoint={address}",
    f"--output_dir={tmp_path}/model",
  )
  assert initial_weights.format_of(str(tmp_path / "model")) is _OURS
  assert model_directory.config(str(tmp_path / "model"))
  said = programs.refuse(
    "-m",
    "albert_mn.download_checkpoint",
    "--init_checkpoint=here",
    f"--output_dir={tmp_path}/theirs",
  )
  assert "gs:// or https://" in said

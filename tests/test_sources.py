"""Data files of benchmarks: local copies, the cache, checked downloads, and what is said when there are none."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rolewise.core.errors import InputError
from rolewise.evaluation.sources import DataFile, find_file, read_records
from rolewise.evaluation.suite import SuiteSettings

CONTENT = b'{"question": "1 + 1?"}\n' * 100_000


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/broken" else CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.asked = []
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "data").mkdir()
    return SuiteSettings(data=tmp_path / "data", cache=tmp_path / "cache")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def data_file(url, **fields):
    return DataFile(**{"name": "test.jsonl", "url": url, "sha256": sha256(CONTENT), "local": "set/test.jsonl"} | fields)


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once_and_checked(server, settings):
    file = data_file(f"{server.url}/test.jsonl")
    first, second = find_file(file, settings), find_file(file, settings)
    assert (first.origin, second.origin) == ("download", "cache")
    assert first.path == second.path == settings.cache / "data" / sha256(CONTENT) / "test.jsonl"
    assert first.path.read_bytes() == CONTENT
    assert first.sha256 == first.known_as == first.identity == sha256(CONTENT)
    assert server.asked == ["/test.jsonl"]


def test_a_damaged_cache_is_fetched_again(server, settings):
    file = data_file(f"{server.url}/test.jsonl")
    find_file(file, settings).path.write_bytes(b"half")
    again = find_file(file, settings)
    assert (again.origin, again.path.read_bytes()) == ("download", CONTENT)


def test_a_file_pinned_by_its_commit_alone_says_what_came(server, settings):
    file = data_file(f"{server.url}/a/commit/test.jsonl", sha256=None)
    first, second = find_file(file, settings), find_file(file, settings)
    assert (first.origin, second.origin) == ("download", "cache")
    assert first.sha256 == second.sha256 == sha256(CONTENT)
    assert first.identity == f"{sha256(CONTENT)} (not a file that is known)"
    other = data_file(f"{server.url}/another/commit/test.jsonl", sha256=None)
    assert find_file(other, settings).origin == "download"


@pytest.mark.parametrize(
    ("content", "fields", "identity"),
    [
        (CONTENT, {}, sha256(CONTENT)),
        (b"[]", {"local_sha256": sha256(b"[]")}, sha256(CONTENT)),  # the same data in another form
        (b"[]", {}, f"{sha256(b'[]')} (not a file that is known)"),
        (b"[]", {"sha256": None}, f"{sha256(b'[]')} (not a file that is known)"),
    ],
)
def test_a_local_copy_wins_and_says_whether_it_is_known(settings, content, fields, identity):
    copy = settings.data / "set" / "test.jsonl"
    copy.parent.mkdir()
    copy.write_bytes(content)
    found = find_file(data_file("http://127.0.0.1:9/never", **fields), settings)
    assert (found.path, found.sha256, found.origin, found.identity) == (copy, sha256(content), "local", identity)


def test_another_content_is_refused_and_nothing_stays(server, settings):
    file = data_file(f"{server.url}/test.jsonl", sha256="0" * 64)
    with pytest.raises(InputError) as raised:
        find_file(file, settings)
    for part in (file.url, "0" * 64, sha256(CONTENT), "ROLEWISE_DATA/set/test.jsonl"):
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)
    assert files_below(settings.cache) == []
    assert list((settings.cache / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "reason"), [("/missing", "the server answered 404"), ("/broken", "cannot download|expected")]
)
def test_a_download_that_fails_says_where_a_copy_may_lie(server, settings, path, reason):
    with pytest.raises(InputError, match=reason) as raised:
        find_file(data_file(server.url + path), settings)
    assert "ROLEWISE_DATA/set/test.jsonl" in str(raised.value)
    assert files_below(settings.cache) == []


def test_no_network_is_one_line(settings):
    with pytest.raises(InputError, match=r"cannot download: Connection refused; .* ROLEWISE_DATA/set/test\.jsonl"):
        find_file(data_file("http://127.0.0.1:9/test.jsonl"), settings)


def test_files_of_the_hub_come_through_its_own_library(settings, tmp_path, monkeypatch):
    asked = []

    def hf_hub_download(repository, name, **options):
        asked.append((repository, name, options))
        (tmp_path / "blob").write_bytes(CONTENT)
        return str(tmp_path / "blob")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
    found = find_file(data_file("https://huggingface.co/datasets/some/set/resolve/abc123/data/test.jsonl"), settings)
    assert asked == [("some/set", "data/test.jsonl", {"repo_type": "dataset", "revision": "abc123"})]
    assert found.path.read_bytes() == CONTENT


def test_an_offline_hub_is_one_line(settings, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"cannot download: .*; try again, or put a copy at ROLEWISE_DATA/set"):
        find_file(data_file("https://huggingface.co/datasets/some/set/resolve/abc123/test.jsonl"), settings)


RECORDS = [{"question": "Wie spät?\u2028", "n": 1}, {"answer": [1.5, None]}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(RECORDS, ensure_ascii=False, indent=4),
        "\n" + json.dumps(RECORDS),
        "\n\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS) + "\r\n",
        "\ufeff" + "\n".join(json.dumps(record) for record in RECORDS),
    ],
)
def test_lists_and_lines_of_json_are_read(tmp_path, text):
    path = tmp_path / "records"
    path.write_bytes(text.encode())
    assert read_records(path) == RECORDS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": \n', r"records:2: broken JSON: .* \(column 7\); fix the file"),
        (b'[{"a": 1},\n{"a": }]', r"records:2: broken JSON: .* \(column 7\); fix the file"),
        (b'{"a": 1}\n[2]\n', r"records:2: expected a JSON object, found list"),
        (b'[{"a": 1}, 2]', r"records: record 2: expected a JSON object, found int"),
        (b'{"a": NaN}', r"records:1: JSON that can't be read: NaN"),
        (b'{"a": "\xff"}', r"records: cannot read: .*0xff"),
        (None, r"records: cannot read: No such file"),
    ],
)
def test_broken_records_are_named(tmp_path, content, message):
    path = tmp_path / "records"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_records(path)
    assert "\n" not in str(raised.value)

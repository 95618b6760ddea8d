import http.server
import threading
from types import SimpleNamespace

import pytest

from fo_core.errors import DataError
from fo_core.io import parts


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Seconds that were to pass between the tries; none do."""
    seconds = []
    monkeypatch.setattr(parts, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


@pytest.fixture
def site(tmp_path):
    """A folder over HTTP: with ranges, and 503 for the first request of every flaky file."""
    failed = set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = tmp_path / self.path.lstrip("/")
            if not path.is_file():
                return self.send_error(404)
            if "flaky" in path.name and path.name not in failed:
                failed.add(path.name)
                return self.send_error(503)
            data, span = path.read_bytes(), self.headers.get("Range")
            if span and "plain" not in path.name:
                start, end = map(int, span.removeprefix("bytes=").split("-"))
                data = data[start : end + 1]
                self.send_response(206)
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_part_of_a_local_file(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(100)))
    name = parts.part(tmp_path / "a.bin", 10, 5)
    assert parts.is_part(name) and parts.read_part(name) == bytes(range(10, 15))
    assert parts.read_part(parts.part(f"file://{tmp_path}/a.bin", 10, 5)) == bytes(range(10, 15))


@pytest.mark.parametrize("name", ["a.bin", "plain.bin", "flaky.bin"])
def test_a_part_over_http(site, tmp_path, name):
    (tmp_path / name).write_bytes(bytes(range(100)))
    assert parts.read_part(parts.part(f"{site}/{name}", 10, 5)) == bytes(range(10, 15))
    assert parts.fetch(f"{site}/{name}") == bytes(range(100))


def test_what_cannot_be_read_is_said(site, tmp_path, waits):
    (tmp_path / "a.bin").write_bytes(bytes(10))
    for name, said in [
        (f"{tmp_path}/a.bin#5,9", "cut short"),
        (f"{tmp_path}/none.bin#0,4", "cannot read"),
        (f"{site}/none.bin#0,4", "404"),
        (f"{site}/a.bin#5,9", "cannot read|cut short"),
        (f"{tmp_path}/a.bin", "not a part"),
        ("s3://bucket/a.tar#0,4", "smart_open"),
    ]:
        with pytest.raises(DataError, match=said):
            parts.read_part(name)
    assert waits == [0.5 * 2**n for n in range(len(waits))] and waits  # of the part cut short


def test_a_url_survives_pathlib():
    from pathlib import Path

    assert parts.as_url(Path("https://host/a/b")) == "https://host/a/b"
    assert parts.as_url(Path("s3://bucket/a")) == "s3://bucket/a"
    assert parts.as_url("/a/b") == "" and parts.as_url("C:/a") == ""

"""convert from a web server on the loopback against convert from the disk, one after the other.

    python benchmarks/remote_convert.py RLDS_DIR [--times 8] [--rounds 5] [--copy-images] [--cold]

`--times` makes a larger set of a small one: each shard holds its records so many times. `--cold`
drops its files from the page cache before every conversion, as of a set that is larger than memory:
both the converter and the server then read from the disk.

The server is a process of its own that answers ranges with `sendfile`: what is measured is the
reader. The CPU seconds are those of the converting process, threads included. A bare socket, whose
bytes nobody looks at, tells how fast the loopback is, and what the whole machine does for it (from
/proc/stat of Linux): its cores have to do that beside the conversion. Memory is that of a process
for each, with larger `--times` to see that it does not grow.
"""

import argparse
import hashlib
import http.server
import json
import multiprocessing
import os
import re
import shutil
import socket
import statistics
import tempfile
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import depthtok


class Ranges(http.server.BaseHTTPRequestHandler):
    """HEAD, and GET of one range."""

    protocol_version = "HTTP/1.1"

    def __init__(self, root: Path, *args) -> None:
        self.root = root
        super().__init__(*args)

    def log_message(self, format: str, *args) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.root / self.path.lstrip("/")
        if not path.is_file():
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, stop = (int(wanted[1]), int(wanted[2]) + 1) if wanted else (0, size)
            stop = min(stop, size)
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(stop - start))
            self.send_header("ETag", f'"{hashlib.sha256(path.name.encode()).hexdigest()[:16]}"')
            self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.end_headers()
            self.wfile.flush()
            while body and start < stop:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, stop - start)


def enlarged(rlds: Path, folder: Path, times: int) -> Path:
    """A data set whose shards have the records of another's several times."""
    folder.mkdir()
    for path in rlds.iterdir():
        repeated = times if "tfrecord" in path.name else 1
        (folder / path.name).write_bytes(path.read_bytes() * repeated)
    info = json.loads((folder / "dataset_info.json").read_text())
    for split in info["splits"]:
        split["shardLengths"] = [str(int(count) * times) for count in split["shardLengths"]]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def drop_from_cache(folder: Path) -> None:
    """Takes the files of a folder out of the page cache."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def serve(root: Path, sender: Connection) -> None:
    """Serves a directory until the process is ended; sends its port first."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, root))
    sender.send(server.server_address[1])
    server.serve_forever()


def measured(source: str, out: Path, copy_images: bool) -> tuple[float, float]:
    """Wall and CPU seconds of one conversion."""
    wall, cpu = time.monotonic(), time.process_time()
    depthtok.convert(source, out=out, copy_images=copy_images)
    seconds = time.monotonic() - wall, time.process_time() - cpu
    shutil.rmtree(out)
    return seconds


def busy_seconds() -> float:
    """Core seconds that this machine was not idle since it started."""
    ticks = [int(text) for text in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
    idle, waiting = 3, 4
    return (sum(ticks) - ticks[idle] - ticks[waiting]) / os.sysconf("SC_CLK_TCK")


def by_bare_socket(port: int, rlds: Path) -> tuple[float, float]:
    """Wall seconds and core seconds of the machine, of all shards by one connection each."""
    buffer = memoryview(bytearray(8 << 20))
    wall, busy = time.monotonic(), busy_seconds()
    for path in rlds.glob("*tfrecord*"):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"GET /{path.name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
            while connection.recv_into(buffer):
                pass
    return time.monotonic() - wall, busy_seconds() - busy


def convert_alone(source: str, out: Path, copy_images: bool, sender: Connection) -> None:
    """One conversion; sends the peak of this process's resident memory, MiB."""
    depthtok.convert(source, out=out, copy_images=copy_images)
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    sender.send(int(peak[1]) / 1024 if peak else 0.0)


def peak_memory(source: str, out: Path, copy_images: bool) -> float:
    """Peak of the memory of a process that does nothing else, MiB."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    arguments = (source, out, copy_images, sender)
    process = multiprocessing.get_context("spawn").Process(target=convert_alone, args=arguments)
    process.start()
    process.join()
    shutil.rmtree(out)
    return receiver.recv()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rlds", type=Path)
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--copy-images", action="store_true")
    parser.add_argument("--cold", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rlds = enlarged(options.rlds, Path(scratch) / "set", options.times)
        compare(rlds, Path(scratch), options)


def compare(rlds: Path, scratch: Path, options: argparse.Namespace) -> None:
    """Prints the rates of both, and their ratio."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(rlds, sender))
    server.start()
    size = sum(path.stat().st_size for path in rlds.iterdir())
    port = receiver.recv()
    sources = {"disk": str(rlds), "loopback": f"http://127.0.0.1:{port}"}
    carried: list[tuple[float, float]] = []
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    try:
        for name, source in sources.items():
            peak = peak_memory(source, scratch / name, options.copy_images)
            print(f"{name:9} {peak:6.0f} MiB at most in a process of its own")
        for number in range(options.rounds + 1):  # the first warms up
            for name, source in sources.items():
                if options.cold:
                    drop_from_cache(rlds)
                pair = measured(source, scratch / name, options.copy_images)
                seconds[name] += [pair] if number else []
            carried.append(by_bare_socket(port, rlds))
    finally:
        server.terminate()
        server.join()
    for name, pairs in seconds.items():
        wall, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
        best = size / 1e6 / min(wall for wall, _ in pairs)
        print(f"{name:9} {size / 1e6 / wall:6.0f} MB/s (best {best:.0f}), {cpu:.2f} CPU s")
    wall, busy = (statistics.median(column) for column in zip(*carried, strict=True))
    print(f"{'a socket':9} {size / 1e6 / wall:6.0f} MB/s, {busy:.2f} core s of the machine")
    ratios = [a[0] / b[0] for a, b in zip(seconds["disk"], seconds["loopback"], strict=True)]
    low, high = min(ratios), max(ratios)
    print(f"loopback / disk: {statistics.median(ratios):.2f} (pairs: {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()

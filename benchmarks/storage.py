"""Writing and reading many objects: our store against a bare loop of boto3 with the same threads.

    python benchmarks/storage.py [--server swift|rgw] [--objects 1000] [--rounds 3]

A real server on this machine (see tests/servers); 100 kB per object, 8 threads. The two take turns,
which begins alternates too, and the fastest time of each counts; the bare loop has one client with
a connection per thread and botocore's own defaults. Prints a table, and keeps one JSON object per
server in the file of --out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import surroundings

sys.path.insert(0, str(Path(__file__).parents[1]))

import boto3
from botocore.config import Config

from insetgan_batch.data.storage import open_storage
from tests.servers import rgw_server, swift_server
from tests.servers.s3_server import S3Server

_BUCKET = "benchmark"
_BYTES = 100_000
_THREADS = 8
_Call = Callable[[str], object]
_BOUND = 1.3  # of the bare loop's time


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=["swift", "rgw"], default="swift")
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/storage.json"))
    arguments = parser.parse_args()
    with _running(arguments.server) as server:
        _log_in(server)
        rows = _measure(arguments.objects, arguments.rounds)
    facts = {"objects": arguments.objects, "bytes": _BYTES, "threads": _THREADS}
    command = {"command": shlex.join(["python", *sys.argv])}
    found = {"rows": rows} | facts | command | surroundings.describe()
    kept = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    arguments.out.write_text(json.dumps(kept | {arguments.server: found}) + "\n")
    print(json.dumps(found))


@contextlib.contextmanager
def _running(name: str) -> Iterator[S3Server]:
    is_there = swift_server.PYTHON.exists() if name == "swift" else rgw_server.is_installed()
    if not is_there:
        raise SystemExit(swift_server.MISSING if name == "swift" else rgw_server.MISSING)
    with tempfile.TemporaryDirectory() as directory:
        if name == "swift":
            running = swift_server.running(Path(directory), one_winner=True)
        else:
            running = rgw_server.running(Path(directory))
        with running as server:
            yield server


def _log_in(server: S3Server) -> None:
    """Both find the server in the usual AWS places."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_ENDPOINT_URL_S3": server.endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": server.owner[0],
        "AWS_SECRET_ACCESS_KEY": server.owner[1],
    }
    server.client().create_bucket(Bucket=_BUCKET)


def _measure(objects: int, rounds: int) -> list[dict[str, object]]:
    """One row per operation: seconds of each round, and the ratio of the best."""
    data = os.urandom(_BYTES)
    ours = open_storage(f"s3://{_BUCKET}/ours")
    bare = boto3.client("s3", config=Config(max_pool_connections=_THREADS))
    calls: dict[str, tuple[_Call, _Call]] = {
        "put": (
            lambda key: ours.put(key, data),
            lambda key: bare.put_object(Bucket=_BUCKET, Key=f"bare/{key}", Body=data),
        ),
        "get": (
            ours.get,
            lambda key: bare.get_object(Bucket=_BUCKET, Key=f"bare/{key}")["Body"].read(),
        ),
    }
    rows: list[dict[str, object]] = []
    print(f"{'':4} {'ours/s':>8} {'boto3/s':>8} {'time, ours by boto3':>20}")
    for name, (our_call, bare_call) in calls.items():
        seconds: dict[str, list[float]] = {"ours": [], "boto3": []}
        for n in range(rounds):
            turns = [("ours", our_call), ("boto3", bare_call)]
            for who, call in turns if n % 2 == 0 else reversed(turns):
                seconds[who].append(_time(call, [f"{n}/{i:05d}" for i in range(objects)]))
        best = {who: min(taken) for who, taken in seconds.items()}
        ratio = best["ours"] / best["boto3"]
        rates = {who: objects / taken for who, taken in best.items()}
        rows.append(
            {
                "operation": name,
                "seconds": {who: [round(s, 2) for s in all_s] for who, all_s in seconds.items()},
                "ratio": round(ratio, 3),
                "within_bound": ratio <= _BOUND,
            }
        )
        print(f"{name:4} {rates['ours']:8.0f} {rates['boto3']:8.0f} {ratio:20.2f}")
    return rows


def _time(call: _Call, keys: list[str]) -> float:
    """Seconds for all keys with all threads."""
    started = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(call, keys):
            pass
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

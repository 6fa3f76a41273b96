"""What a tracking server with users takes: reports of epochs as they come, and an experiment of many runs.

    PYTHONPATH=. uv run python benchmarks/tracking_load.py
    PYTHONPATH=. uv run python benchmarks/tracking_load.py --trials 8 --seconds 20 --runs 200 --ways "2 workers"

On a PostgreSQL of its own, which `mlflow_server/serve --local` starts, in each of the ways below:

paced: 32 trials send 10 reports a second together, each a `log_batch` of eight metrics. flat out: as many as they can.
table: the first 100 of 2,000 runs of 50 epochs, ordered by a metric, as the UI asks for them. page: until they stand
in a headless browser that has seen the server before. Milliseconds, median and 95th percentile.
"""

import argparse
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import requests

from mlflow_server.postgresql import LocalPostgres
from mlflow_server.settings import HERE, read_env

PORT = 5077
URL = f"http://127.0.0.1:{PORT}"
METRICS = "train/loss val/loss val/auroc val/ece val/accuracy lr epoch_seconds grad_norm".split()
INDEX = "CREATE INDEX medtune_latest ON latest_metrics (key, is_nan, value)"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
START = 300.0  # seconds
# workers; the environment; how `basic_auth.ini` differs; whether there is an index
WAYS: dict[str, tuple[int, dict[str, str], dict[str, str], bool]] = {
    "1 worker": (1, {}, {}, False),
    "2 workers": (2, {}, {}, False),
    "4 workers": (4, {}, {}, False),
    "2 workers, each password checked": (2, {}, {"auth_cache_ttl_seconds = 60": "auth_cache_ttl_seconds = 0"}, False),
    "2 workers, pools of 20": (2, {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "20"}, {}, False),
    "2 workers, an index on values": (2, {}, {}, True),
}


class Client:
    """Talks to the server as one user; a connection for each thread."""

    def __init__(self, user: str, password: str) -> None:
        self.auth, self._local = (user, password), threading.local()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        session = self._local.__dict__.setdefault("session", requests.Session())
        answer = session.post(f"{URL}/api/2.0/mlflow/{path}", json=body, auth=self.auth, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def experiment(self, name: str) -> str:
        return str(self.post("experiments/create", {"name": name})["experiment_id"])

    def run(self, experiment: str, number: int) -> str:
        tags = [{"key": "medtune.trial", "value": str(number)}]
        body = {"experiment_id": experiment, "run_name": f"trial-{number:04d}", "tags": tags, "start_time": 1}
        return str(self.post("runs/create", body)["run"]["info"]["run_id"])

    def report(self, run: str, epoch: int) -> None:
        at = {"timestamp": int(time.time() * 1000), "step": epoch}
        points = [{"key": name, "value": (epoch + len(name)) / 97, **at} for name in METRICS]
        self.post("runs/log-batch", {"run_id": run, "metrics": points})


@contextlib.contextmanager
def server(folder: Path, way: str) -> Iterator[Client]:
    workers, environment, changes, index = WAYS[way]
    package = folder / "as" / "mlflow_server"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(HERE, package, ignore=shutil.ignore_patterns(".env", "artifacts", "backups"))
    settings = (package / "basic_auth.ini").read_text()
    for before, after in changes.items():
        assert before in settings
        settings = settings.replace(before, after)
    (package / "basic_auth.ini").write_text(settings)
    command = [sys.executable, package / "serve", "--local", folder, "--port", str(PORT), "--workers", str(workers)]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        try:
            until = time.monotonic() + START
            while "is ready" not in (folder / "log").read_text():
                assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.2)
            if index:
                execute(folder, INDEX)
            yield Client("sweeps", read_env(folder)["SWEEPS_PASSWORD"])
            if index:
                execute(folder, "DROP INDEX medtune_latest")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def database(folder: Path) -> psycopg.Connection[Any]:
    said, port = read_env(folder), LocalPostgres(folder).port()
    known = {"user": said["PGUSER"], "password": said["PGPASSWORD"], "dbname": said["PGDATABASE"]}
    return psycopg.connect(host="127.0.0.1", port=port, autocommit=True, **known)


def execute(folder: Path, statement: Any) -> None:
    with database(folder) as connection:
        connection.execute(statement)
        connection.execute("ANALYZE")


def load(client: Client, folder: Path, runs: int, epochs: int) -> str:
    """An experiment of so many runs, whose id it gives back. The server makes the runs; their points and params go
    straight into its tables, which takes seconds and not minutes."""
    experiment, generator = client.experiment("many"), np.random.default_rng(0)
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda number: client.run(experiment, number), range(runs)))
    best = dict(zip(ids, generator.random(runs).tolist(), strict=True))
    with database(folder) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY metrics (key, value, timestamp, step, is_nan, run_uuid) FROM STDIN") as copy:
            for run in ids:
                for epoch in range(1, epochs + 1):
                    for name in METRICS:
                        copy.write_row((name, epoch / 97, epoch, epoch, False, run))
        with cursor.copy("COPY latest_metrics (key, value, timestamp, step, is_nan, run_uuid) FROM STDIN") as copy:
            for run in ids:
                for name, value in [*((name, epochs / 97) for name in METRICS), ("best/auroc", best[run])]:
                    copy.write_row((name, value, epochs, epochs, False, run))
        with cursor.copy("COPY params (key, value, run_uuid) FROM STDIN") as copy:
            for number, run in enumerate(ids):
                for index in range(8):
                    copy.write_row((f"param-{index}", str(number % (index + 2)), run))
        connection.execute("UPDATE runs SET status = 'FINISHED', end_time = 2")
        connection.execute("ANALYZE")
    print(f"{runs} runs of {epochs} epochs, {runs * epochs * len(METRICS):,} points", flush=True)
    return experiment


def reports(client: Client, trials: int, seconds: float, rate: float | None) -> tuple[list[float], float]:
    """Milliseconds of each report, and reports a second. rate: a second, of all trials; None: flat out."""
    experiment = client.experiment(f"reports {time.time()}")
    runs = [client.run(experiment, number) for number in range(trials)]
    began, taken = time.monotonic(), list[float]()

    def trial(number: int) -> None:
        epoch = 0
        while True:
            due = began + (number / trials + epoch) * trials / rate if rate else time.monotonic()
            if due > began + seconds or time.monotonic() > began + 2 * seconds:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            epoch += 1
            sent = time.monotonic()
            client.report(runs[number], epoch)
            taken.append((time.monotonic() - (due if rate else sent)) * 1000)  # with the time that it was late

    with ThreadPoolExecutor(trials) as pool:
        list(pool.map(trial, range(trials)))
    return taken, len(taken) / (time.monotonic() - began)


def table(client: Client, experiment: str, times: int) -> list[float]:
    """Milliseconds."""
    body = {"experiment_ids": [experiment], "max_results": 100, "order_by": ["metrics.`best/auroc` DESC"]}
    return [milliseconds(lambda: client.post("runs/search", body)) for _ in range(times)]


def milliseconds(what: Callable[[], Any]) -> float:
    began = time.monotonic()
    what()
    return (time.monotonic() - began) * 1000


class Browser:
    """A headless Chromium, asked through two pipes."""

    def __init__(self, client: Client, profile: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()
        # it reads at 3 and writes at 4
        script = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'
        flags = "--headless=new --no-sandbox --disable-gpu --remote-debugging-pipe --window-size=1600,1200".split()
        command = [
            "bash",
            "-c",
            script,
            str(ours[0]),
            str(theirs[1]),
            str(CHROMIUM),
            *flags,
            f"--user-data-dir={profile}",
        ]
        self.process = subprocess.Popen(
            [*command, "about:blank"],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self.to, self.back, self.count = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb"), 0
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        secret = base64.b64encode(":".join(client.auth).encode()).decode()
        self.ask("Network.enable")
        self.ask("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {secret}"})

    session: str | None = None

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        self.to.write(json.dumps(message).encode() + b"\0")
        self.to.flush()
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def _next(self) -> bytes:
        read = bytearray()
        while (byte := self.back.read(1)) != b"\0":
            assert byte, "the browser has ended"
            read += byte
        return bytes(read)

    def page(self, address: str, seconds: float = 120.0) -> float:
        """Milliseconds until the names of ten runs stand there."""
        self.ask("Page.navigate", url="about:blank")
        began = time.monotonic()
        self.ask("Page.navigate", url=address)
        there = "new Set((document.body ? document.body.innerText : '').match(/trial-\\d{4}/g) || []).size"
        while time.monotonic() < began + seconds:
            if self.ask("Runtime.evaluate", expression=there)["result"].get("value", 0) >= 10:
                return (time.monotonic() - began) * 1000
            time.sleep(0.02)
        text = self.ask("Runtime.evaluate", expression="document.body.innerText")["result"].get("value")
        raise TimeoutError(f"{address}: the runs do not come: {text}")

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def pages(client: Client, experiment: str, times: int) -> list[float]:
    """Milliseconds; the first time, when the browser gets the UI itself, is left out."""
    if CHROMIUM is None:
        return []
    order = "orderByKey=metrics.%60best%2Fauroc%60&orderByAsc=false"
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(client, Path(profile))
        try:
            address = f"{URL}/#/experiments/{experiment}/runs?workspace=default&{order}"
            return [browser.page(address) for _ in range(times + 1)][1:]
        finally:
            browser.end()


def shown(taken: Sequence[float]) -> str:
    return f"{np.median(taken):.0f} / {np.percentile(taken, 95):.0f}" if taken else "no browser"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--rate", type=float, default=10.0, help="reports a second, of all trials together")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--times", type=int, default=20, help="how often the table and the page are asked for")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mt-load-"))
    folder.chmod(0o755)  # PostgreSQL may be another user's
    try:
        with server(folder, "4 workers") as client:
            experiment = load(client, folder, options.runs, options.epochs)
        print(f"{'':<34} {'paced':>13} {'flat out':>22} {'table':>13} {'page':>13}", flush=True)
        for way in options.ways:
            with server(folder, way) as client:
                paced, _ = reports(client, options.trials, options.seconds, options.rate)
                flat, most = reports(client, options.trials, min(20.0, options.seconds), None)
                asked = table(client, experiment, options.times)
                seen = pages(client, experiment, options.times)
            fast = f"{shown(flat)}, {most:.0f}/s"
            print(f"{way:<34} {shown(paced):>13} {fast:>22} {shown(asked):>13} {shown(seen):>13}", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

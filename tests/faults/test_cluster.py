"""Sweeps on a Ray cluster of several nodes, of which some are lost, come later, or are not what they should be."""

import json
import logging
import re
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from ray.cluster_utils import Cluster

from medtune.config.sweep import Cluster as ClusterConfig
from medtune.config.sweep import Resources
from medtune.search import cluster, engine
from medtune.search.folder import SweepFolder
from medtune.search.jobs import Batch
from medtune.search.machines import Machine, StorageError, mark, other_software, reach, software
from medtune.search.resources import plan_shares
from medtune.search.watch import Watch
from medtune.search.worker import Job, Message, SearchData
from tests.faults.test_signals import runs_of

DATA = Path(__file__).parents[3] / "shared" / "data"
EPOCHS = [*range(1, 31)]
STEADY = [
    word
    for override in ("search.trials=16", "trial.epochs=30", "pruning={name: none}", "trial.model.dropout=0.1")
    for word in ("--set", override)
]


@pytest.fixture
def nodes(ray_folder: Path) -> Iterator[Cluster]:
    """A head without CPUs, to which nodes are added: processes of this machine, with all that a machine has."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield found
    found.shutdown()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a bucket on a server of this machine that speaks S3."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("sweeps")
    yield "s3://sweeps"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def told(folder: Path) -> dict[str, Any]:
    """What the watch has written last."""
    file = folder / "machines.json"
    return json.loads(file.read_text()) if file.exists() else {"machines": [], "refused": []}


def begun(folder: Path) -> int:
    return len(list(folder.glob("trials/*/epochs.jsonl")))


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.skipif(not (DATA / "breastmnist.npz").exists(), reason="breastmnist.npz is not there")
def test_nodes_are_lost_and_come(
    shell: Any, tiny: Any, tmp_path: Path, nodes: Cluster, s3: str, record_property: Callable[[str, Any], None]
) -> None:
    """16 trials on three nodes and S3. One is killed; the data's file is gone when another comes; so is a stranger."""
    lost, *_ = [nodes.add_node(num_cpus=1) for _ in range(3)]
    root = tmp_path / "data"
    root.mkdir()
    shutil.copy(DATA / "breastmnist.npz", root)
    data = f"data={{dataset: breastmnist, root: {root}, train_fraction: 0.5}}"
    places = ["--set", f"cluster.address={nodes.address}", "--set", f"cluster.storage={s3}", "--set", data]
    folder = tmp_path / "runs" / "tiny"
    process = shell.start("sweep", tiny.file, *STEADY, *places)
    shell.wait_for(lambda: begun(folder) >= 3, process, 200)
    shutil.rmtree(root)
    nodes.remove_node(lost, allow_graceful=False)
    shell.wait_for(lambda: "gone     " in (tmp_path / "err").read_text(), process)

    site = tmp_path / "site" / "medtune-9.9.9.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: medtune\nVersion: 9.9.9\n")
    nodes.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(site.parent)})
    nodes.add_node(num_cpus=1)
    came = time.monotonic()
    shell.wait_for(lambda: "joined   " in (tmp_path / "err").read_text(), process)
    joined = re.findall(r"^joined   (\S+): 1 CPUs", (tmp_path / "err").read_text(), re.MULTILINE)[-1]
    shell.wait_for(lambda: [m for m in told(folder)["machines"] if m["name"] == joined and m["trials"]], process)
    waited = time.monotonic() - came
    shell.wait_for(lambda: told(folder)["refused"], process)

    code, out, err = shell.finish(process)
    assert code == 0 and "16 trials (16 complete)" in out and "Traceback" not in err
    assert "has medtune 9.9.9, the driver medtune 0.1.0: install the same on every machine" in err
    sweep = SweepFolder.open(folder)
    for entry in tiny.entries(sweep):
        assert [record["epoch"] for record in sweep.epochs(entry.number)] == EPOCHS == [*entry.values]
    runs = runs_of(sweep)
    assert sorted(runs) == sorted(["sweep", *(f"trial-{number:04d}" for number in range(16))])
    assert set(runs.values()) == {"FINISHED"}
    record_property("injected", "of 3 nodes 1 killed, 1 of another version and 1 right one added; 16 trials, on S3")
    record_property("held", f"16 complete, every epoch once; the new node had work after {waited:.0f} s")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_head_is_lost(
    shell: Any, tiny: Any, tmp_path: Path, nodes: Cluster, record_property: Callable[[str, Any], None]
) -> None:
    nodes.add_node(num_cpus=2)
    folder = tmp_path / "runs" / "tiny"
    place = ["--set", f"cluster.address={nodes.address}"]
    process = shell.start("sweep", tiny.file, *STEADY, *place, "--set", "search.trials=6")
    shell.wait_for(lambda: begun(folder) >= 2, process, 200)
    nodes.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
    died = time.monotonic()
    code, out, err = shell.finish(process)
    seconds = time.monotonic() - died
    assert code == 1 and "Traceback" not in err
    assert "Ray, or the machine at the head of its cluster, does not answer any more; nothing is lost" in err
    assert not SweepFolder.open(folder).running
    before = {entry.number: entry for entry in tiny.entries(SweepFolder.open(folder))}

    nodes.shutdown()
    again = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        code, out, err = shell.finish(shell.start("resume", folder, "--set", f"cluster.address={again.address}"))
    finally:
        again.shutdown()
    assert code == 0 and "6 trials (6 complete)" in out
    for entry in tiny.entries(SweepFolder.open(folder)):
        assert [*entry.values] == EPOCHS
        had = before[entry.number].values if entry.number in before else {}
        assert {epoch: entry.values[epoch] for epoch in had} == had
    record_property("injected", "the head killed once, with 2 trials in training")
    record_property("held", f"the driver ends after {seconds:.0f} s and names `resume`, which goes on elsewhere")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_kinds_of_gpus_and_never_too_many_on_one(nodes: Cluster, tmp_path: Path) -> None:
    """GPUs that are none, for work that only says where it is: two T4 with room for one trial, an H100 with room for
    two."""
    nodes.add_node(num_cpus=3, num_gpus=2, resources={"accelerator_type:T4": 1})
    nodes.add_node(num_cpus=3, num_gpus=1, resources={"accelerator_type:H100": 1})
    spans = tmp_path / "spans"
    spans.mkdir()

    def work(job: Job, data: SearchData, report: Callable[[Message], None]) -> None:
        import os
        import time

        import ray

        started, devices = time.time(), os.environ["CUDA_VISIBLE_DEVICES"]
        report({"epoch": 1, "last": False, "at": started})
        time.sleep(1)
        node = ray.get_runtime_context().get_node_id()
        (spans / str(job.trial)).write_text(f"{node} {devices} {started} {time.time()}")
        report({"epoch": 2, "last": True, "at": time.time()})

    made = {"task": "binary", "classes": 2, "precision": "float32", "threads": 1, "metric": "val/auroc"}
    jobs = [Job(n, {}, 0, device="cuda", direction="max", storage=str(tmp_path), **made) for n in range(16)]
    batch = Batch(jobs, lambda job, record: None)
    try:
        machines = cluster.start(ClusterConfig(address=nodes.address))
        share = plan_shares(Resources(), machines, 28, {"T4": 1, "H100": 2})
        mark(str(tmp_path))
        watch = Watch(machines, True, "cpu", str(tmp_path), tmp_path / "machines.json")
        assert share.places(watch.machines) == {"T4": 2, "H100": 2} and share.concurrent == 4
        engine.run_jobs(batch, SearchData("none", None, None), share, watch, work)  # type: ignore[arg-type]
        watch.stop()
    finally:
        cluster.stop()
    assert len(batch.done) == 16
    kinds = {machine.id: machine.kind for machine in machines}
    ran = [(spans / str(n)).read_text().split() for n in range(16)]
    most: Counter[tuple[str, str]] = Counter()
    for node, device, started, _ in ran:
        at_once = sum(of[:2] == [node, device] and of[2] <= started < of[3] for of in ran)
        most[kinds[node], device] = max(most[kinds[node], device], at_once)
    assert most == {("T4", "0"): 1, ("T4", "1"): 1, ("H100", "0"): 2}


def test_what_a_machine_of_another_version_is_told() -> None:
    ours = software()
    assert other_software(ours, ours) == ""
    assert other_software(ours, {**ours, "medtune": "9.9.9"}) == "has medtune 9.9.9, the driver medtune 0.1.0"
    assert other_software(ours, {}).startswith("has medtune none, torch none")
    said = other_software(ours, {**ours, "files": "else"})
    assert said == "has other files of medtune 0.1.0 than the driver"


def test_a_storage_that_is_not_shared_is_said(tmp_path: Path) -> None:
    assert reach(str(tmp_path)).startswith(f"does not see {tmp_path}: set cluster.storage to a path")
    mark(str(tmp_path / "new"))
    assert reach(str(tmp_path / "new")) == ""
    assert [path.name for path in (tmp_path / "new").iterdir()] == [".medtune-storage"]
    weights = tmp_path / "weights.safetensors"
    said = f"does not see the model.weights {weights}: put them on a path that all machines share"
    assert reach(str(tmp_path / "new"), [str(weights)]) == said
    weights.touch()
    assert reach(str(tmp_path / "new"), [str(weights)]) == ""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cluster.storage: .*file/below: cannot be written from here; \w+Error"):
        mark(str(tmp_path / "file" / "below"))


def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    for given in (ClusterConfig(address=address), ClusterConfig()):
        if given.address is None:
            monkeypatch.setenv("RAY_ADDRESS", address)  # as in a job of Ray's
        with pytest.raises(cluster.ClusterError, match=f"cluster.address: {address}: nothing answers there"):
            cluster.start(given)
    with pytest.raises(cluster.ClusterError, match="run medtune on a machine of the cluster"):
        cluster.start(ClusterConfig(address=f"ray://{address}"))


class TestTheWatch:
    """With machines that are none, and observers that say what a test likes."""

    @pytest.fixture
    def watch(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Watch:
        monkeypatch.setattr("medtune.search.cluster.answers", lambda: True)
        return Watch([Machine("a", "here", 2)], False, "cpu", str(tmp_path), tmp_path / "machines.json")

    def test_it_writes_what_runs_where(self, watch: Watch, tmp_path: Path) -> None:
        watch.live = {3, 4}
        watch.where[3] = engine.Where("a", [])
        watch.write()
        (machine,) = told(tmp_path)["machines"]
        assert machine["trials"] == [3] and told(tmp_path)["starting"] == [4] and machine["cpus"] == 2

    def test_hours_go_on_over_starts(self, watch: Watch, tmp_path: Path) -> None:
        watch._seconds = 1800.0
        watch.write()
        again = Watch([Machine("a", "here", 2)], False, "cpu", str(tmp_path), tmp_path / "machines.json")
        again._seconds = 3600.0
        again.write()
        assert told(tmp_path)["machine_hours"] == pytest.approx(1.5)

    def test_a_head_that_is_gone_is_told_once(self, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("medtune.search.watch.PERIOD", 0.01)
        monkeypatch.setattr("medtune.search.cluster.answers", lambda: False)
        lost: list[bool] = []
        watch.follow(Batch([], lambda job, record: None), lambda: lost.append(True))
        watch.join(20)
        assert lost == [True] and not watch.is_alive()

    def test_a_disk_without_room_does_not_end_it(self, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(path: Path, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("medtune.search.watch.write_whole", full)
        watch.write()
        assert threading.active_count() >= 1

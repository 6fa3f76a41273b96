"""`medtune doctor --fix` after a driver was killed: all is in order, and the sweep goes on."""

import json
from pathlib import Path
from typing import Any

import mlflow
import pytest

from medtune.search.folder import SweepFolder
from medtune.tracking.server import tracking_uri


def statuses(folder: Path) -> set[str]:
    sweep = SweepFolder.open(folder)
    client = mlflow.MlflowClient(tracking_uri(sweep.config().tracking, sweep.path))
    return {run.info.status for run in client.search_runs([client.get_experiment_by_name("medtune").experiment_id])}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_doctor_after_a_kill(shell: Any, tiny: Any, tmp_path: Path, record_property: Any) -> None:
    longer = ("trial.epochs=20", "data.train_fraction=1.0", "pruning={name: none}", "search.trials=4")
    process = shell.start("sweep", tiny.file, *[word for override in longer for word in ("--set", override)])
    folder = tmp_path / "runs" / "tiny"
    shell.wait_for(lambda: list(folder.glob("trials/*/attempt-*/epoch-*.safetensors")), process)
    code, out, _ = shell.finish(shell.start("doctor", folder, "--fix"))  # while it runs
    assert code == 1 and out.startswith("BAD folder") and "a process is at work in it" in out
    shell.kill(process)
    with (folder / "ledger.log").open("a") as file:
        file.write('{"op_code":4,"wor')
    (folder / "ledger.log.lock").symlink_to(folder / "ledger.log")
    (folder / "trials" / "0000" / "validation.tmp.npz").write_bytes(b"half")
    checkpoints = sorted(folder.glob("trials/*/attempt-*/epoch-*.safetensors"))

    code, out, _ = shell.finish(shell.start("doctor", folder))
    found = out.splitlines()
    assert code == 1 and all(line.startswith("BAD left over") and "; --fix " in line for line in found), out
    assert statuses(folder) >= {"RUNNING"}
    code, out, _ = shell.finish(shell.start("doctor", folder, "--fix", "--json"))
    mended = json.loads(out)["findings"]
    assert code == 0 and all(one["right"] for one in mended) and len(mended) >= 5, out
    assert "RUNNING" not in statuses(folder)
    assert sorted(folder.glob("trials/*/attempt-*/epoch-*.safetensors")) == checkpoints
    assert shell.finish(shell.start("doctor", folder))[0] == 0

    code, out, err = shell.finish(shell.start("resume", folder))
    assert code == 0 and "4 complete" in out and "Traceback" not in err
    sweep = SweepFolder.open(folder)
    assert [[one["epoch"] for one in sweep.epochs(number)] for number in range(4)] == [list(range(1, 21))] * 4
    assert statuses(folder) == {"FINISHED"}
    assert shell.finish(shell.start("doctor", folder))[0] == 0
    record_property("injected", f"driver killed, a torn ledger, a lock, a temporary: {len(found)} findings")
    record_property("held", f"{len(mended)} mended, checkpoints untouched, 4 of 4 trials end after it")

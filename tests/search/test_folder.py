import json
import math
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.search.folder import FORMAT, FolderError, SweepFolder

HOLD = "import sys; from pathlib import Path; from medtune.search.folder import SweepFolder; "
HOLD += "folder = SweepFolder(Path(sys.argv[1])); folder.lock(); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def folder(tiny: Any, tmp_path: Path) -> SweepFolder:
    return tiny.create(tmp_path / "runs" / "tiny")


def test_a_new_folder_has_the_configuration_and_an_identity(tiny: Any, folder: SweepFolder, tmp_path: Path) -> None:
    assert folder.config() == tiny.config()
    assert len(folder.sweep_id) == 36
    assert tiny.create(tmp_path / "other").sweep_id != folder.sweep_id


def test_a_second_sweep_in_a_folder_is_refused(tiny: Any, folder: SweepFolder) -> None:
    before = folder.sweep_id
    for _ in range(2):  # the refusal leaves no lock behind
        with pytest.raises(FolderError, match=f"holds a sweep already: `medtune resume {folder.path}`"):
            SweepFolder.create(folder.path, tiny.config("seed=1"))
    assert folder.sweep_id == before and folder.config() == tiny.config()


def test_a_folder_whose_making_was_cut_short_can_be_used(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "sweep.yaml").write_text("sweep: ti")
    assert tiny.create(tmp_path / "cut").config() == tiny.config()


class TestAClaim:
    def test_is_for_one_and_leaves_nothing_when_it_is_given_up(self, tmp_path: Path) -> None:
        claimed = SweepFolder.claim(tmp_path / "runs" / "new")
        with pytest.raises(FolderError, match="in use by another process; .*`medtune resume "):
            SweepFolder.claim(tmp_path / "runs" / "new")
        claimed.abandon()
        assert list(tmp_path.iterdir()) == []
        SweepFolder.claim(tmp_path / "runs" / "new").abandon()

    def test_given_up_leaves_what_was_there_before(self, tmp_path: Path) -> None:
        (tmp_path / "runs" / "mine").mkdir(parents=True)
        (tmp_path / "runs" / "mine" / "notes.txt").touch()
        SweepFolder.claim(tmp_path / "runs" / "mine").abandon()
        assert [path.name for path in (tmp_path / "runs" / "mine").iterdir()] == ["notes.txt"]

    def test_of_what_can_be_no_folder_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FolderError, match=r"file/new cannot be a folder \(Not a directory\): `--folder DIR` takes"):
            SweepFolder.claim(tmp_path / "file" / "new")


class TestTheFormat:
    def test_a_new_folder_says_its_own_and_who_wrote_it(self, folder: SweepFolder) -> None:
        assert folder.format == (FORMAT, f"medtune {version('medtune')}")

    def test_one_without_it_is_of_the_first(self, folder: SweepFolder) -> None:
        (folder.path / "sweep.format").unlink()
        assert SweepFolder.open(folder.path).format == (1, "")

    def test_a_later_one_is_refused_with_what_to_do(self, folder: SweepFolder) -> None:
        (folder.path / "sweep.format").write_text(f"{FORMAT + 1} medtune 9.1\n")
        with pytest.raises(
            FolderError, match=f"later version, medtune 9.1: its format is {FORMAT + 1}, .*up to {FORMAT}; `pip"
        ):
            SweepFolder.open(folder.path)


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="holds no sweep"):
        SweepFolder.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_one_process_writes(tiny: Any, folder: SweepFolder) -> None:
    command = [sys.executable, "-c", HOLD, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert folder.running
        for attempt in (folder.lock, lambda: SweepFolder.create(folder.path, tiny.config())):
            with pytest.raises(FolderError, match=f"in use by another process; .*`medtune resume {folder.path}`"):
                attempt()
        holder.kill()
    folder.lock()  # a killed process holds nothing
    folder.unlock()
    assert not folder.running


def test_epochs_come_back_and_nan_is_null_on_disk(folder: SweepFolder) -> None:
    folder.start_trial(3, {"epochs": 2})
    folder.append_epoch(3, {"epoch": 1, "val/auroc": math.nan})
    folder.append_epoch(3, {"epoch": 2, "val/auroc": 0.5})
    text = (folder.trial(3) / "epochs.jsonl").read_text()
    assert [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()] == [
        {"epoch": 1, "val/auroc": None},
        {"epoch": 2, "val/auroc": 0.5},
    ]
    first, second = folder.epochs(3)
    assert math.isnan(first["val/auroc"]) and second == {"epoch": 2, "val/auroc": 0.5}
    assert folder.epochs(4) == []


@pytest.mark.parametrize("whole", [0, 1, 2])
def test_a_line_that_was_cut_short_is_mended(folder: SweepFolder, whole: int) -> None:
    folder.start_trial(0, {})
    for epoch in range(1, whole + 1):
        folder.append_epoch(0, {"epoch": epoch})
    with (folder.trial(0) / "epochs.jsonl").open("a") as file:
        file.write('{"epoch": 9, "val/au')
    expected = [{"epoch": epoch} for epoch in range(1, whole + 1)]
    assert folder.epochs(0) == expected
    assert folder.mend_epochs(0) == expected
    folder.append_epoch(0, {"epoch": whole + 1})
    assert [record["epoch"] for record in folder.epochs(0)] == list(range(1, whole + 2))


def test_predictions_come_back_without_pickles(folder: SweepFolder) -> None:
    folder.start_trial(0, {})
    assert folder.predictions(0) is None
    logits = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    folder.write_predictions(0, {"logits": logits, "epochs": np.array([1, 2])})
    back = folder.predictions(0)
    assert back is not None and back["logits"].dtype == np.float32
    np.testing.assert_array_equal(back["logits"], logits)
    assert [path.name for path in folder.trial(0).glob("*.npz")] == ["validation.npz"]


def test_kept_weights(folder: SweepFolder) -> None:
    for number in (0, 12):
        folder.start_trial(number, {})
        folder.write_weights(number, {"weight": np.ones(2, np.float32)})
    assert sorted(folder.with_weights()) == [0, 12]
    assert [path.name for path in (folder.trial(12) / "best").iterdir()] == ["model.safetensors"]
    folder.drop_weights(12)
    folder.drop_weights(12)
    assert folder.with_weights() == [0]

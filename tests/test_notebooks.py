"""The notebooks run, from the first cell to the last, on a tiny sweep; they agree with their scripts, and are clean."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from medtune.encoders import keep_encoder
from medtune.label_efficiency import label_efficiency
from medtune.models.pretrained import encoder_in, read_encoder
from medtune.report.words import believed, interval, number
from medtune.search.folder import SweepFolder

ROOM = Path(__file__).parents[1] / "notebooks_analysis"
NOTEBOOKS = sorted(ROOM.glob("*.ipynb"))
FEW = ROOM / "05_label_efficiency.ipynb"
ENCODER = """\
sweep: encoder
data: {dataset: phantom-binary, difficulty: 0.3, train_fraction: 0.1}
pretrain:
  epochs: 1
  batch_size: 30
  model: {name: smallcnn}
  method: {name: simclr}
  projector: {hidden: 16, features: 8}
  precision: float32
search: {trials: 1}
pruning: {name: none}
"""
LABELS = """\
sweep: few
data: {dataset: phantom-binary, difficulty: 0.3, labels: {fraction: {choice: [0.02, 0.1]}, seed: {choice: [0, 1]}}}
trial:
  epochs: 2
  batch_size: 16
  model:
    choice:
      - {name: smallcnn, finetune: probe, weights: ENCODER}
      - {name: smallcnn, finetune: probe}
      - {name: smallcnn}
  precision: float32
search: {sampler: grid, trials: 12}
pruning: {name: none}
"""
# no script, style or picture is asked of a network
ASKS_A_NETWORK = re.compile(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)\s*=\s*["']?(?:https?:)?//""")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(notebook: Any) -> list[tuple[str, str, Any]]:
    return [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in notebook.cells]


def test_all_five_are_there_with_their_scripts() -> None:
    names = ["01_explore_data", "02_browse_a_sweep", "03_calibration", "04_compare_sweeps", "05_label_efficiency"]
    assert [path.stem for path in NOTEBOOKS] == names == [path.stem for path in sorted(ROOM.glob("*.py"))]


@each_notebook
def test_a_notebook_agrees_with_its_script(path: Path) -> None:
    notebook, script = jupytext.read(path), jupytext.read(path.with_suffix(".py"))
    advice = f"`jupytext --sync {path.relative_to(ROOM.parent)}` brings both together"
    assert cells(notebook) == cells(script), advice
    for one in (notebook, script):
        assert one.metadata["jupytext"]["formats"] == "ipynb,py:percent"
        assert one.metadata["kernelspec"]["name"] == "python3"
    assert sum(cell.metadata.get("tags") == ["parameters"] for cell in notebook.cells) == 1


@each_notebook
def test_a_notebook_holds_no_output(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert set(cell.metadata) <= {"tags"}


@each_notebook
def test_the_test_split_is_never_opened(path: Path) -> None:
    text = path.with_suffix(".py").read_text()
    assert not re.search(r"load_sealed_test|all_splits|unseal|open_sealed|test\s*=", text)
    assert set(re.findall(r"label_efficiency\(.*", text)) <= {"label_efficiency(sweep.folder, config)"}


@pytest.fixture
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KernelSpecManager:
    """A place for all that Jupyter writes, and a kernel that is this interpreter."""
    kernel = tmp_path / "jupyter" / "kernels" / "this"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    told = {"argv": command, "display_name": "this", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(told))
    for name in ("DATA_DIR", "RUNTIME_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"JUPYTER_{name}", str(tmp_path / "jupyter" / name.lower()))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    return KernelSpecManager(kernel_dirs=[str(tmp_path / "jupyter" / "kernels")], ensure_native_kernel=False)


@pytest.fixture
def execute(jupyter: KernelSpecManager, finished: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`execute(path)`: what a notebook shows, all of it as one text. Its folder and its data are made ones."""
    monkeypatch.setenv("MEDTUNE_SWEEP", str(finished.path))
    for name in ("MEDTUNE_SWEEPS", "MEDTUNE_DATASET", "MEDTUNE_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    desk = tmp_path / "desk"
    desk.mkdir()

    def executed(path: Path) -> str:
        before = sorted(ROOM.iterdir())
        notebook = nbformat.read(path, as_version=4)
        manager = AsyncKernelManager(kernel_name="this", kernel_spec_manager=jupyter)
        client = NotebookClient(notebook, km=manager, timeout=100, resources={"metadata": {"path": str(desk)}})
        client.execute()
        assert not list(desk.iterdir()) and sorted(ROOM.iterdir()) == before
        told = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        assert not [output for output in told if output.output_type == "error" or output.get("name") == "stderr"]
        return json.dumps(told)

    return executed


def drawn_without_a_network(shown: str) -> bool:
    return "Plotly.newPlot" in shown and not ASKS_A_NETWORK.search(json.dumps(json.loads(shown), ensure_ascii=False))


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path != FEW], ids=lambda path: path.stem)
def test_a_notebook_runs_and_asks_no_network(path: Path, execute: Any) -> None:
    assert drawn_without_a_network(execute(path))


def finished_sweep(tiny: Any, path: Path, text: str) -> SweepFolder:
    folder = SweepFolder.create(path, tiny.config(text=text))
    folder.unlock()
    tiny.run(tiny.open(folder))
    return folder


def words(shown: str) -> str:
    """What a reader sees of it, without plotly itself and its pictures."""
    outputs = [output.get("data", {"text": output.get("text", "")}) for output in json.loads(shown)]
    texts = ["".join(text) for data in outputs for text in data.values() if "<script" not in "".join(text)]
    return " ".join(re.sub(r"<[^>]*>", " ", "\n".join(texts)).split())


@pytest.mark.slow
def test_few_labels_are_told_as_they_were_measured(
    tiny: Any, execute: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained = finished_sweep(tiny, tmp_path / "runs" / "encoder", ENCODER)
    encoder = keep_encoder(pretrained, pretrained.config())
    assert encoder is not None
    text = LABELS.replace("ENCODER", str(encoder_in(encoder)))
    folder = finished_sweep(tiny, tmp_path / "runs" / "few", text)
    monkeypatch.setenv("MEDTUNE_SWEEP", str(folder.path))
    before = sorted(folder.path.rglob("*"))
    shown = execute(FEW)
    assert drawn_without_a_network(shown) and sorted(folder.path.rglob("*")) == before
    told, (found, _) = words(shown), label_efficiency(folder, folder.config())
    assert len(found["cells"]) == 6 and len(found["differences"]) == 2
    for cell in found["cells"]:
        row = [f"{100 * cell['fraction']:g} % ({found['labelled'][str(cell['fraction'])]})", cell["arm"], "2"]
        row += [
            interval(cell["auroc"]),
            interval(cell["accuracy"]),
            number(cell["ece"]["value"]),
            believed(cell["ece"]),
        ]
        assert " ".join(row) in told
        assert f"{believed(cell['ece'])} {believed(cell['ece_after'])} {min(cell['temperatures']):.2f} to" in told
    for one in found["differences"]:
        assert f"{one['arm']} {one['against']} {interval(one['auroc'])}" in told
    description = read_encoder(encoder)
    for one in (description["sha256"], description["data_md5"], "12 ended, 0 failed, 0 pruned", "looks at the test 0"):
        assert one in told
    assert "fixed before the first: sampler grid, pruning none" in told and "the test is sealed" in told


@pytest.mark.slow
def test_two_sweeps_are_compared(execute: Any, finished: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    other = finished.path.with_name("other")
    shutil.copytree(finished.path, other)
    (other / "test.json").write_text(json.dumps({"auroc": {"value": 0.9, "low": 0.8, "high": 0.95}, "looks": 1}))
    monkeypatch.setenv("MEDTUNE_SWEEPS", os.pathsep.join([str(finished.path), str(other)]))
    shown = execute(ROOM / "04_compare_sweeps.ipynb")
    assert "tiny 2, best" in shown and "AUROC 0.900 (0.800 to 0.950), look 1" in shown


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["phantom-multilabel", "phantom-ordinal"])
def test_other_tasks_are_explored(execute: Any, monkeypatch: pytest.MonkeyPatch, dataset: str) -> None:
    monkeypatch.setenv("MEDTUNE_DATASET", dataset)
    assert "Plotly.newPlot" in execute(ROOM / "01_explore_data.ipynb")

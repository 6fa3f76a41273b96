import json
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., tuple[int, str, str]]


def test_info_shows_layers_and_sums(medtune: Call) -> None:
    code, out, _ = medtune("model", "info", "smallcnn", "--channels", 1, "--classes", 2)
    lines = out.splitlines()
    assert code == 0 and lines[0] == "smallcnn at 28 px, greyscale, 2 classes"
    assert lines[4].split() == ["2", "Block", "64", "x", "3", "x", "3", "18,560"]
    assert lines[6] == "in all    23,538 parameters, 1.9 million multiply-adds an image"
    assert "{from: LAYER}" in lines[7]


def test_json_is_the_last_line_and_all_there_is_on_stdout(medtune: Call) -> None:
    code, out, err = medtune("model", "info", "resnet18", "--json")
    found = json.loads(out)
    assert code == 0 and "layer4" in err
    assert found["finetune"] == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
    assert found["parameters"] == 11_173_449 and found["multiply_adds"] == 456_703_488
    assert found["layers"][-1] == {"name": "head", "kind": "Linear", "output": [9], "parameters": 4617}


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_graph_is_drawn(medtune: Call, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"net{suffix}"
    code, out, _ = medtune("model", "info", "smallcnn", "--graph", file)
    assert code == 0 and out.splitlines()[-1] == f"graph     {file}" and file.stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet81",), "resnet81: no such model; did you mean resnet18? there are smallcnn, resnet18"),
        (("timm/resnet180",), "timm/resnet180: no such model in timm"),
        (("timm/vit_tiny_patch16_224",), "timm/vit_tiny_patch16_224: needs a multiple of 16 px a side, not 28"),
        (("smallcnn", "--graph", "net.jpg"), "--graph net.jpg: give a .svg or a .png file"),
        (("smallcnn", "--graph", "none/net.png"), "--graph none/net.png: there is no folder none"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: tuple[str, ...], message: str, medtune: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = medtune("model", "info", *arguments)
    assert code == 2 and out == "" and err.startswith(message) and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []

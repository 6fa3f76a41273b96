from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medtune.config.sweep import MEDMNIST, PHANTOMS

Call = Callable[..., tuple[int, str, str]]


def test_list_has_all(medtune: Call) -> None:
    code, out, _ = medtune("data", "list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0 and [row[0] for row in rows[1:]] == [*MEDMNIST, *PHANTOMS]
    breast = next(row for row in rows if row[0] == "breastmnist")
    assert breast[1:6] == ["binary", "2", "546", "78", "156"]


def test_info_says_what_to_beware_of(medtune: Call) -> None:
    code, out, _ = medtune("data", "info", "breastmnist")
    assert code == 0
    assert "train 546, val 78, test 156" in out and "MD5 750601b1f35ba3300ea97c75c52ff8f6" in out
    assert "licence  CC BY 4.0" in out and "beware   Label 1 is normal or benign" in out
    assert "1 normal, benign" in out


def test_phantom_writes_a_file_of_medmnists_form(medtune: Call, tmp_path: Path) -> None:
    code, out, _ = medtune("data", "phantom", "phantom-binary", tmp_path / "made.npz", "--difficulty", 0.5)
    assert code == 0 and "the best reachable AUROC is 0.950" in out
    with np.load(tmp_path / "made.npz", allow_pickle=False) as made:
        assert made["train_images"].shape == (600, 28, 28) and made["test_labels"].shape == (240, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "brestmnist"), "brestmnist: no such data set; `medtune data list` shows all"),
        (("fetch", "breastmnist", "--size", "32"), "--size 32: there are 28, 64, 128, 224"),
        (("fetch", "phantom-binary"), "phantom-binary"),
        (("phantom", "breastmnist", "made.npz"), "breastmnist"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: tuple[str, ...], message: str, medtune: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = medtune("data", *arguments)
    assert code == 2 and out == "" and message in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_fetch_verifies_what_is_there(medtune: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breastmnist.npz").write_bytes(b"no such file")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    code, out, err = medtune("data", "fetch", "breastmnist", "--root", tmp_path)
    assert code == 2 and "whole" not in out and "breastmnist" in err

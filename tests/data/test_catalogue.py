import subprocess
import sys

import pytest

from medtune.config.sweep import MEDMNIST, PHANTOMS
from medtune.data import DataError
from medtune.data.catalogue import SIZES, all_datasets, dataset_info
from medtune.task import TASKS


def test_every_set_of_a_sweep_file_is_described() -> None:
    sets = all_datasets()
    assert [info.flag for info in sets] == [*MEDMNIST, *PHANTOMS]
    assert {info.task for info in sets} == set(TASKS)
    for info in sets:
        assert info.channels in (1, 3) and len(info.classes) >= 2 and all(info.classes)
        assert list(info.cases) == ["train", "val", "test"]
        assert info.title and info.licence


def test_facts_are_those_of_medmnist() -> None:
    from medmnist import INFO

    for flag in MEDMNIST:
        info, facts = dataset_info(flag), INFO[flag]
        assert info.cases == facts["n_samples"] and info.channels == facts["n_channels"]
        assert info.md5[28] == facts["MD5"] and info.md5[224] == facts["MD5_224"]
        assert info.url(64) == facts["url_64"]
        assert tuple(info.md5) == tuple(info.urls) == SIZES
        assert len({*info.md5.values()}) == 4


def test_what_a_person_should_know() -> None:
    breast, derma = dataset_info("breastmnist"), dataset_info("dermamnist")
    assert breast.classes == ("malignant", "normal, benign")
    assert any("0 is malignant" in trap for trap in breast.traps)
    assert derma.licence == "CC BY-NC 4.0" and any("641" in trap for trap in derma.traps)
    assert dataset_info("chestmnist").task == "multilabel" and dataset_info("retinamnist").task == "ordinal"
    assert dataset_info("pathmnist").raw_bytes(224) // 10**9 == 16


def test_a_phantom_is_made_not_downloaded() -> None:
    phantom = dataset_info("phantom-ordinal")
    assert phantom.made and not phantom.md5 and phantom.task == "ordinal"
    with pytest.raises(DataError, match="it is made"):
        phantom.url(28)
    with pytest.raises(DataError, match="at 32 px"):
        dataset_info("breastmnist").url(32)


def test_unknown_flag() -> None:
    with pytest.raises(DataError, match="data list"):
        dataset_info("breastmnits")


def test_catalogue_does_not_import_torch() -> None:
    code = "import sys, medtune.data.catalogue as c; c.all_datasets(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""What data sets there are, and what a person should know before believing a number measured on one.

Counts, hashes and addresses are those of the `medmnist` package; the traps are from Yang et al. 2023 (MedMNIST v2),
from the descriptions of the sources, and from what others found in the files.
"""

import importlib.util
import warnings
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from medtune.config.sweep import MEDMNIST, PHANTOMS, SIZES, Data
from medtune.data import DataError, phantoms
from medtune.data.dataset import DatasetInfo
from medtune.task import Task

_TASKS: dict[str, Task] = {
    "binary-class": "binary",
    "multi-class": "multiclass",
    "multi-label, binary-class": "multilabel",
    "ordinal-regression": "ordinal",
}
_ORGAN_TRAPS = (
    "Left and right femur, kidney and lung are classes of their own: a horizontal flip exchanges them.",
    "organamnist, organcmnist and organsmnist show the same CT scans from three sides: do not mix them.",
)
_TRAPS: dict[str, tuple[str, ...]] = {
    "pathmnist": (
        "The test split comes from another hospital than train and val: expect less there than on val.",
        "At 224 px its images are 16 GB once unpacked.",
    ),
    "chestmnist": (
        "Answering 'no' for every label has an accuracy of .947 on test: look at the AUROC.",
        "The labels were taken from reports by a program and are partly wrong.",
    ),
    "dermamnist": (
        "641 lesions are in more than one split, so that val and test look better than they are.",
        "The licence forbids commercial use.",
        "Always answering the largest class, melanocytic nevi, has an accuracy of .669 on test.",
    ),
    "octmnist": ("The test split was collected as a balanced one, train and val were not: class frequencies shift.",),
    "pneumoniamnist": (
        "Pneumonia is 74 % of train and 62.5 % of test: a calibrated probability is no longer calibrated there.",
        "8 train images are in val again.",
        "Always answering pneumonia has an accuracy of .625 on test.",
    ),
    "retinamnist": (
        "The classes are grades of severity, in order; AUROC and accuracy do not see the order.",
        "Always answering grade 0 has an accuracy of .435 on test.",
    ),
    "breastmnist": (
        "Label 1 is normal or benign, 0 is malignant: sensitivity for cancer is the specificity of label 1.",
        "Always answering label 1 has an accuracy of .731 on test.",
        "Seeds alone move the test AUROC of a ResNet-18 between .889 and .917, and val has only 78 cases.",
        "A third of val and of test has a near twin in train: `medtune data audit breastmnist` shows them.",
    ),
    "tissuemnist": ("The sources are 32 px a side: the larger sizes hold no more detail.",),
    "organamnist": _ORGAN_TRAPS,
    "organcmnist": _ORGAN_TRAPS,
    "organsmnist": _ORGAN_TRAPS,
}


def describe(data: Data) -> DatasetInfo:
    """What is known of the data of a sweep file; of a folder, what its last reading found. Raises DataError."""
    if data.folder is not None:
        from medtune.data.folders import folder_info  # which reads pictures, and is needed for folders alone

        return folder_info(data)
    return dataset_info(data.dataset)


def dataset_info(flag: str) -> DatasetInfo:
    """The data set of this flag. Raises DataError when there is none."""
    if flag in PHANTOMS:
        return _phantom(flag)
    if flag in MEDMNIST:
        return _published(flag)
    raise DataError(f"{flag}: no such data set; `medtune data list` shows all")


def all_datasets() -> tuple[DatasetInfo, ...]:
    """Every data set that a sweep file can name: twelve of MedMNIST, then the phantoms."""
    return tuple(dataset_info(flag) for flag in (*MEDMNIST, *PHANTOMS))


@cache
def _published(flag: str) -> DatasetInfo:
    facts = _medmnist_facts()[flag]
    endings = {size: "" if size == 28 else f"_{size}" for size in SIZES}
    return DatasetInfo(
        flag=flag,
        title=facts["python_class"],
        task=_TASKS[facts["task"]],
        classes=tuple(facts["label"][str(label)] for label in range(len(facts["label"]))),
        channels=facts["n_channels"],
        cases=MappingProxyType(facts["n_samples"]),
        licence=facts["license"],
        md5=MappingProxyType({size: facts[f"MD5{ending}"] for size, ending in endings.items()}),
        urls=MappingProxyType({size: facts[f"url{ending}"] for size, ending in endings.items()}),
        traps=_TRAPS.get(flag, ()),
    )


@cache
def _phantom(flag: str) -> DatasetInfo:
    name = cast(phantoms.PhantomName, flag.removeprefix("phantom-"))
    return DatasetInfo(
        flag=flag,
        title=f"Phantom, {name}",
        task="binary" if name == "texture" else name,
        classes=phantoms.CLASSES[name],
        channels=1,
        cases=MappingProxyType(phantoms.CASES),
        licence="made, free of rights",
        traps=("Made by a program: good for trying out a sweep, says nothing about medicine.",),
    )


@cache
def _medmnist_facts() -> dict[str, dict[str, Any]]:
    """`medmnist.INFO`, read from its own file: importing the package takes seconds, because it imports torch."""
    package = importlib.util.find_spec("medmnist")
    if package is None or package.origin is None:
        raise DataError("medmnist: the package is not installed; `pip install medmnist`")
    spec = importlib.util.spec_from_file_location("medmnist_info", Path(package.origin).with_name("info.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where it cannot make ~/.medmnist, which nobody has asked for yet
        spec.loader.exec_module(module)
    return cast(dict[str, dict[str, Any]], module.INFO)

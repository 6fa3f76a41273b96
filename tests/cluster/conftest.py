"""Where the files of `cluster/` are, and what is in them."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

CLUSTER = Path(__file__).parents[2] / "cluster"


@pytest.fixture
def cluster() -> Path:
    return CLUSTER


@pytest.fixture
def aws() -> Any:
    """The file for `ray up`."""
    return YAML(typ="safe").load(CLUSTER / "aws.yaml")


@pytest.fixture
def manifests() -> dict[str, Any]:
    """The manifests for Kubernetes, by their kind."""
    return {manifest["kind"]: manifest for manifest in YAML(typ="safe").load_all(CLUSTER / "rayjob.yaml")}

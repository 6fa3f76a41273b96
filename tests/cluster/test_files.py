"""The files of `cluster/` against the schemas of those who read them, and against one another."""

import copy
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
from ray.autoscaler._private.util import prepare_config, validate_config
from ruamel.yaml import YAML

from medtune.config.read import read_sweep

KUBERNETES = "1.30"
STRUCTURE = {  # of a RayJob, as KubeRay's reference of ray.io/v1 has it: key by key what is there, and of which type
    "": {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict},
    "spec": {
        "entrypoint": str,
        "submissionMode": str,
        "backoffLimit": int,
        "submitterConfig": dict,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "activeDeadlineSeconds": int,
        "runtimeEnvYAML": str,
        "suspend": bool,
        "rayClusterSpec": dict,
    },
    "spec.submitterConfig": {"backoffLimit": int},
    "spec.rayClusterSpec": {
        "rayVersion": str,
        "authOptions": dict,
        "headGroupSpec": dict,
        "workerGroupSpecs": list,
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": dict,
    },
    "spec.rayClusterSpec.authOptions": {"mode": str, "secretName": str},
    "spec.rayClusterSpec.headGroupSpec": {"serviceType": str, "rayStartParams": dict, "template": dict},
}
WORKERS = {
    "groupName": str,
    "replicas": int,
    "minReplicas": int,
    "maxReplicas": int,
    "idleTimeoutSeconds": int,
    "rayStartParams": dict,
    "template": dict,
}


def scripts() -> list[Path]:
    return sorted((Path(__file__).parents[2] / "cluster").glob("*.sh"))


# ---------------------------------------------------------------- ray up


def test_ray_takes_the_file_for_ray_up(aws: Any) -> None:
    prepared = prepare_config(copy.deepcopy(aws))
    validate_config(prepared)
    assert prepared["head_setup_commands"] == aws["setup_commands"]  # none of Ray's own, which installs another Ray


def test_ray_refuses_the_file_with_a_word_that_it_does_not_know(aws: Any) -> None:
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config({**aws, "idle_timeout": 5}))


def test_trials_run_on_spot_machines_and_the_head_stays(aws: Any) -> None:
    nodes = aws["available_node_types"]
    assert nodes["head"]["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in nodes["head"]["node_config"]
    assert aws["provider"]["cache_stopped_nodes"] is True
    assert nodes["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert 0 < nodes["gpu"]["min_workers"] <= nodes["gpu"]["max_workers"] == aws["max_workers"]


def test_each_machine_of_ray_up_has_the_token_for_itself(aws: Any) -> None:
    assert aws["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert any("chmod 600 ~/.ray/auth_token" in command for command in aws["setup_commands"])
    for command in aws["head_start_ray_commands"] + aws["worker_start_ray_commands"]:
        assert command.startswith("source ~/environment/settings.sh;")
    assert "--dashboard-host=127.0.0.1" in aws["head_start_ray_commands"][-1]


# ---------------------------------------------------------------- Kubernetes


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "ConfigMap"])
def test_kubernetes_takes_what_is_its_own(manifests: dict[str, Any], kind: str) -> None:
    kubernetes_validate.validate(manifests[kind], KUBERNETES, strict=True)


def pods(job: Any) -> list[Any]:
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_every_node_of_the_ray_job_is_a_pod(manifests: dict[str, Any]) -> None:
    for template in pods(manifests["RayJob"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "node"}, **template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**pod, "spec": {**pod["spec"], "container": []}}, KUBERNETES, strict=True)


def test_the_ray_job_has_the_fields_of_one(manifests: dict[str, Any]) -> None:
    """No registry offers KubeRay's own schema, so this holds it against its reference."""
    job = manifests["RayJob"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    for path, fields in STRUCTURE.items():
        part = job
        for key in filter(None, path.split(".")):
            part = part[key]
        assert {key: type(value) for key, value in part.items()}.items() <= fields.items(), path
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        assert {key: type(value) for key, value in group.items()}.items() <= WORKERS.items()
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_ray_job_goes_on_after_a_lost_cluster_with_its_token_in_a_secret(manifests: dict[str, Any]) -> None:
    spec = manifests["RayJob"]["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["entrypoint"].startswith("/opt/medtune/sweep.sh /etc/medtune/sweep.yaml /mnt/medtune/")
    assert spec["rayClusterSpec"]["rayVersion"] == ray.__version__
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "medtune-ray"}
    claim = manifests["PersistentVolumeClaim"]["metadata"]["name"]
    for template in pods(manifests["RayJob"]):
        assert {"name": "work", "persistentVolumeClaim": {"claimName": claim}} in template["spec"]["volumes"]


def test_the_sweep_of_the_ray_job_is_one(manifests: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(manifests["ConfigMap"]["data"]["sweep.yaml"])
    config = read_sweep(tmp_path / "sweep.yaml")
    assert (config.cluster.address, config.cluster.storage) == ("auto", "/mnt/medtune/checkpoints")


# ---------------------------------------------------------------- scripts


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_the_shell_can_read_every_script(script: Path) -> None:
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True).stderr == ""
    shellcheck = shutil.which("shellcheck")
    if shellcheck:
        run = subprocess.run([shellcheck, "-x", script.name], cwd=script.parent, capture_output=True, text=True)
        assert run.stdout == ""
    assert bool(script.stat().st_mode & 0o100) == (script.name != "settings.sh")


def slurm_answers() -> bool:
    return bool(shutil.which("scontrol")) and subprocess.run(["scontrol", "ping"], capture_output=True).returncode == 0


@pytest.mark.skipif(not slurm_answers(), reason="no SLURM here")
def test_slurm_takes_its_script(cluster: Path) -> None:
    asked = subprocess.run(["sbatch", "--test-only", cluster / "slurm.sh"], capture_output=True, text=True)
    assert asked.returncode == 0, asked.stderr


def test_all_ways_have_the_token_on_and_tell_nobody(cluster: Path) -> None:
    settings = (cluster / "settings.sh").read_text()
    for line in (
        "RAY_AUTH_MODE=token",
        "RAY_USAGE_STATS_ENABLED=0",
        "MLFLOW_DISABLE_TELEMETRY=true",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV=0",
    ):
        assert f"\nexport {line}\n" in settings
    for script in ("token", "head", "worker", "sweep", "slurm"):
        assert 'source "$here/settings.sh"' in (cluster / f"{script}.sh").read_text()
    for file in cluster.iterdir():
        if file.is_file():
            assert not re.search(r"\b[0-9a-f]{64}\b|RAY_AUTH_TOKEN=", file.read_text()), file.name


def test_what_is_locked_is_there(cluster: Path) -> None:
    extras = set(re.findall(r"--extra (\w+)", (cluster / "lock.sh").read_text()))
    project = tomllib.loads((cluster.parent / "pyproject.toml").read_text())
    assert extras <= project["project"]["optional-dependencies"].keys()
    [carried] = re.findall(r"\{([\w,]+)\}\.sh", (cluster / "lock.sh").read_text())
    assert all((cluster / f"{name}.sh").exists() for name in carried.split(","))


def test_both_scripts_use_the_same_ports_and_the_docs_name_them(cluster: Path) -> None:
    ports = [
        set(re.findall(r"--([\w-]+-port)=(\d+)", (cluster / name).read_text())) for name in ("head.sh", "worker.sh")
    ]
    assert ports[0] == ports[1]
    docs = (cluster.parent / "docs" / "cluster.md").read_text()
    assert all(port in docs for _, port in ports[0])


def test_the_docs_name_every_file(cluster: Path) -> None:
    docs = (cluster.parent / "docs" / "cluster.md").read_text()
    assert [file.name for file in cluster.iterdir() if file.is_file() and file.name not in docs] == []


def test_a_settings_file_of_yaml_has_no_key_twice(cluster: Path) -> None:
    for name in ("aws.yaml", "rayjob.yaml"):
        list(YAML().load_all(cluster / name))  # the strict reader refuses them

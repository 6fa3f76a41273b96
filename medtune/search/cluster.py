"""Ray on this machine, or the cluster that there is: started first, because it takes seconds."""

import logging
import os

# Ray reads these when it is imported
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # uv would copy the checkout and start workers anew
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

from medtune.config.sweep import Cluster


def start(cluster: Cluster) -> tuple[int, int]:
    """Starts Ray on this machine, or joins the cluster. How many CPUs and GPUs there are."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(
        address=cluster.address,
        include_dashboard=None if cluster.address else False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    there = ray.cluster_resources()
    return int(there.get("CPU", 1)), int(there.get("GPU", 0))


def stop() -> None:
    """Ends what `start` began; a cluster goes on."""
    ray.shutdown()

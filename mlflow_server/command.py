"""What the scripts have in common."""

import signal
import sys
from importlib import import_module

from mlflow_server.settings import ServerError


def run(module: str, main: str = "main") -> None:
    """Runs a function of a module of this package, and ends this process as a command does: 0 done, 1 with one line
    that says why not, 130 interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(getattr(import_module(f"mlflow_server.{module}"), main)())
    except ModuleNotFoundError as error:
        print(f'{error.name} is missing: uv run --extra server, or pip install "medtune[server]"', file=sys.stderr)
        sys.exit(1)
    except ServerError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)

"""The command line: one verb a function, text for people, `--json` for programs."""

import sys


def main() -> None:
    """Exit 0: done; 1: it ran and failed; 2: the input is wrong; 130: interrupted, resumable."""
    from medtune.cli.verbs import app
    from medtune.config.read import ConfigError
    from medtune.data import DataError
    from medtune.search.folder import FolderError
    from medtune.search.jobs import TrainingFailed
    from medtune.search.resources import ResourceError

    try:
        app(prog_name="medtune")
    except (ConfigError, DataError, FolderError, ResourceError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except TrainingFailed as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)

"""What several verbs are given."""

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[Path, typer.Argument(help="a sweep file", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="the folder of a sweep", show_default=False)]
Sets = Annotated[list[str] | None, typer.Option("--set", help="key=value: overrides any key of the file")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object as the last line of stdout")]
Again = Annotated[bool, typer.Option("--again", help="look at the test once more, which is written down")]

"""The four kinds of label that MedMNIST has, and what each asks of a head."""

from typing import Literal, get_args

Task = Literal["binary", "multiclass", "multilabel", "ordinal"]
TASKS: tuple[Task, ...] = get_args(Task)

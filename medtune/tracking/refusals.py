"""What a tracking server says no to: to whoever asks, or to what it was given. Everything else is tried again."""

import os

import requests
from mlflow.exceptions import MlflowException

NO_USER, NO_RIGHT = 401, 403
WRONG_FILE = (400, 413)  # no such name may be, or it is larger than the server or a proxy takes
WRONG_NAME = "Invalid Host header"  # how MLflow's server begins to say that it does not answer to a name


class Refused(Exception):
    """The server lets us do nothing, and will not until somebody changes something: where, what and what to do."""


def refusal(error: Exception, shown: str) -> Refused | None:
    """What to say where a server knows no such user, gives it no right, or does not answer to its own name; None where
    it is something else. shown: its address without a password."""
    status, user = _status(error), os.environ.get("MLFLOW_TRACKING_USERNAME")
    if status == NO_USER and user is None:
        return Refused(f"{shown} wants a user: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
    if status == NO_USER:
        return Refused(
            f"{shown} does not know the user {user} with this password: check MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD"
        )
    if status == NO_RIGHT and WRONG_NAME in str(error):
        return Refused(
            f"{shown} does not answer to this name: write another in tracking.uri, or have it added to the names that "
            "the server allows"
        )
    if status == NO_RIGHT:
        return Refused(f"{shown} lets the user {user} write nothing: be one who may, in MLFLOW_TRACKING_USERNAME")
    return None


def is_wrong(error: Exception) -> bool:
    """Whether it is the thing itself that a server does not take, and would not the next time: it would hold up all
    that comes after it. A bad request may also be a database that has no connection free, which has next time."""
    if isinstance(error, MlflowException):
        bad = error.error_code == "BAD_REQUEST" and "DataError" in str(error)  # such as a zero byte in a tag
        return bad or error.error_code == "INVALID_PARAMETER_VALUE"
    return _status(error) in WRONG_FILE


def _status(error: Exception) -> int | None:
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())
    if isinstance(error, requests.HTTPError) and error.response is not None:  # of files
        return int(error.response.status_code)
    return None

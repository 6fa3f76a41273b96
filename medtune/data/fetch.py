"""The whole, verified file of the data of a sweep: found, downloaded, or read from a folder of pictures."""

import shlex
from pathlib import Path

from medtune.config.sweep import Data
from medtune.data import DataError
from medtune.data.catalogue import dataset_info
from medtune.data.download import Patience, Report, download, file_md5


def dataset_path(data: Data) -> Path:
    """Where the file of a published set is, or would be. The folder and the name are those of the `medmnist` package,
    so that files it has downloaded are found. Raises DataError for a phantom, which has no file."""
    if dataset_info(data.dataset).made:
        raise DataError(f"{data.dataset}: it is made when it is used, there is no file")
    root = Path.home() / ".medmnist" if data.root is None else Path(data.root).expanduser()
    return root / (f"{data.dataset}.npz" if data.size == 28 else f"{data.dataset}_{data.size}.npz")


def fetch(
    data: Data, *, url: str | None = None, patience: Patience | None = None, report: Report | None = None
) -> Path:
    """The path of the file, whole and with the published MD5; downloaded if it is not there.

    url: of a mirror, in the place of the published address; the hash must be the published one all the same.
    report: is told how far the download is. Raises DataError, also when a file is there that has another MD5: nothing
    is ever overwritten. A folder of pictures is read into a file, and `report` is told of pictures."""
    if data.folder is not None:
        from medtune.data.folders import import_folder  # which is needed for folders alone

        return import_folder(data, report)
    path, info = dataset_path(data), dataset_info(data.dataset)
    if not path.exists():
        _refuse_a_root_that_is_not_there(data)
        at_most = 2 * info.raw_bytes(data.size)  # the labels and the headers are far less than the images
        address, md5 = url or info.url(data.size), info.md5[data.size]
        download(address, path, md5, at_most=at_most, patience=patience, report=report)
    if (found := file_md5(path)) != info.md5[data.size]:
        raise DataError(
            f"{path}: is not the published file (MD5 {found}, published {info.md5[data.size]}); "
            "move it away to have it downloaded, or give another folder with --set data.root=DIR"
        )
    return path


def _refuse_a_root_that_is_not_there(data: Data) -> None:
    """Before a download: most often it is misspelt, and what is missing is there already, elsewhere."""
    if data.root is None or Path(data.root).expanduser().is_dir():
        return
    root = shlex.quote(str(Path(data.root).expanduser()))
    raise DataError(f"data.root: {root}: there is no such folder; correct it, or `mkdir -p {root}` to download to it")

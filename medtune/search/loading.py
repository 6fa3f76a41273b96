"""The data that a search may see, from its files into memory."""

from medtune.config.sweep import Data, SweepConfig
from medtune.data.splits import Split, data_md5, load_search_splits, stratified_subset
from medtune.search.worker import SearchData


def load_search_data(config: SweepConfig) -> SearchData:
    """Train, or the part of it that the sweep searches on, and validation."""
    return search_data(config.data, config.seed)


def search_data(data: Data, seed: int) -> SearchData:
    """The same. seed: of the sweep, by which the part of train is drawn."""
    train, val = load_search_splits(data)
    if data.train_fraction < 1:
        part = stratified_subset(train.labels, data.train_fraction, seed)
        train = Split(train.images[part], train.labels[part])
    key = f"{data_md5(data)} {data.side} {data.as_rgb} {data.train_fraction} {seed}"
    return SearchData(key, train, val, data.as_rgb)

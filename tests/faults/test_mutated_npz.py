"""A file of a data set that is damaged, wrong or made to do harm is refused, or gives the original's arrays."""

import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune.config.sweep import Data
from medtune.data import SPLITS, DataError, Split, splits
from medtune.data import fetch as fetching
from medtune.data.catalogue import dataset_info
from medtune.data.download import Patience, file_md5
from medtune.data.fetch import dataset_path, fetch
from medtune.data.splits import load_sealed_test, read_search_splits

BREAST = Path(__file__).parents[3] / "shared" / "data" / "breastmnist.npz"
INFO = dataset_info("breastmnist")
NAMES = tuple(f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels"))
MEMORY = 2**20  # bytes that a mutant may take beyond the good file
HUGE = 10**8  # bytes that a bomb unpacks to
NOWHERE = "http://127.0.0.1:9/"
STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
Generator = np.random.Generator


@dataclass
class Entry:
    """One member of an archive, with whatever is said of it."""

    name: str
    packed: bytes
    method: int
    crc: int
    size: int
    packed_size: int
    flags: int = 0
    extra: bytes = b""
    offset: int | None = None
    local_name: str | None = None


def entry(name: str, raw: bytes, method: int = DEFLATED) -> Entry:
    """An honest one."""
    packed = raw
    if method != STORED:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            archive.writestr("x", raw)
            (info,) = archive.infolist()
        packed = stream.getvalue()[30 + len("x") :][: info.compress_size]
    return Entry(f"{name}.npy", packed, method, zlib.crc32(raw), len(raw), len(packed))


def archive(entries: list[Entry], *, comment: bytes = b"", zip64: tuple[int, int] | None = None) -> bytes:
    """The bytes of a zip file. zip64: size and place of its directory, as a record that takes precedence says."""
    local, directory = bytearray(), bytearray()
    for one in entries:
        numbers = (one.method, 0, 33, one.crc, one.packed_size & 0xFFFFFFFF, one.size & 0xFFFFFFFF)
        offset = len(local) if one.offset is None else one.offset
        name, here = one.name.encode(), (one.local_name or one.name).encode()
        local += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, one.flags, *numbers, len(here), 0) + here + one.packed
        about = (len(name), len(one.extra), 0, 0, 0, 0, offset)
        directory += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, one.flags, *numbers, *about)
        directory += name + one.extra
    end = b""
    if zip64 is not None:
        size, place = zip64
        end = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, len(entries), len(entries), size, place)
        end += struct.pack("<4sIQI", b"PK\6\7", 0, len(local) + len(directory), 1)
    few = min(len(entries), 0xFFFF)
    numbers_of_end = (0, 0, few, few, len(directory), len(local), len(comment))
    return local + directory + end + struct.pack("<4sHHHHIIH", b"PK\5\6", *numbers_of_end) + comment


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def npy_of(header: str | bytes, values: bytes, version: tuple[int, int] = (2, 0)) -> bytes:
    """An array whose header is this text."""
    text = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + values


class Original:
    """A good file: its bytes, its arrays, and its members as they lie in it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            self.arrays = {name: file[name] for name in NAMES}
        self.raw = {name: npy(array) for name, array in self.arrays.items()}
        self.entries = {name: entry(name, raw) for name, raw in self.raw.items()}

    def split(self, name: str) -> Split:
        return Split(self.arrays[f"{name}_images"], self.arrays[f"{name}_labels"][:, 0].astype(np.int64))

    def with_raw(self, name: str, raw: bytes, method: int = DEFLATED) -> bytes:
        """The file with another member of that name, and with sums that are right."""
        return self.with_entry(name, entry(name, raw, method))

    def with_array(self, name: str, array: np.ndarray) -> bytes:
        raw = npy(array)
        return self.with_raw(name, raw, DEFLATED if len(raw) < 2**20 else STORED)

    def with_entry(self, name: str, other: Entry) -> bytes:
        return archive(list({**self.entries, name: other}.values()))

    def changed(self, name: str, **said: Any) -> bytes:
        """The file with something else said of a member."""
        return self.with_entry(name, replace(self.entries[name], **said))


Mutation = Callable[[Generator, Original], bytes]
MUTATIONS: dict[str, list[Mutation]] = {}  # by the kind in the table
REWRITTEN: list[Mutation] = []  # files that are right in all but their values: only the hash can know


def mutation(kind: str) -> Callable[[Mutation], Mutation]:
    return lambda function: MUTATIONS.setdefault(kind, []).append(function) or function


def some(generator: Generator, *choices: Any) -> Any:
    return choices[generator.integers(len(choices))]


def member(generator: Generator, kind: str = "") -> str:
    return some(generator, *(name for name in NAMES if name.endswith(kind)))


def flipped(generator: Generator, content: bytes, start: int, end: int) -> bytes:
    changed = bytearray(content)
    for place in generator.integers(start, end, some(generator, 1, 1, 2, 8)):
        changed[place] ^= 1 << int(generator.integers(8))
    return bytes(changed)


@mutation("truncated")
@mutation("truncated")
def cut_anywhere(generator: Generator, good: Original) -> bytes:
    return good.content[: generator.integers(len(good.content))]


@mutation("truncated")
def cut_near_the_end(generator: Generator, good: Original) -> bytes:
    return good.content[: -int(generator.integers(1, 700))]


@mutation("truncated")
def a_piece_is_missing(generator: Generator, good: Original) -> bytes:
    start = int(generator.integers(len(good.content)))
    return good.content[:start] + good.content[start + int(generator.integers(1, 5000)) :]


@mutation("truncated")
def a_page_of_zeros(generator: Generator, good: Original) -> bytes:
    start = 512 * int(generator.integers(len(good.content) // 512))
    return good.content[:start] + bytes(len(good.content[start : start + 512])) + good.content[start + 512 :]


@mutation("bits flipped")
@mutation("bits flipped")
@mutation("bits flipped")
def flipped_anywhere(generator: Generator, good: Original) -> bytes:
    return flipped(generator, good.content, 0, len(good.content))


@mutation("bits flipped")
@mutation("bits flipped")
def flipped_in_the_directory(generator: Generator, good: Original) -> bytes:
    return flipped(generator, good.content, good.content.index(b"PK\1\2"), len(good.content))


@mutation("bits flipped")
def flipped_in_front_of_a_member(generator: Generator, good: Original) -> bytes:
    start = good.content.index(f"{member(generator)}.npy".encode()) - 30
    return flipped(generator, good.content, start, start + 60)


@mutation("bits flipped")
@mutation("bits flipped")
def flipped_in_an_arrays_header(generator: Generator, good: Original) -> bytes:
    """With sums that are right: only who reads the header can see it."""
    name = member(generator)
    return good.with_raw(name, flipped(generator, good.raw[name], 0, 128), some(generator, STORED, DEFLATED))


@mutation("shapes")
@mutation("shapes")
def another_shape(generator: Generator, good: Original) -> bytes:
    name = member(generator, "images")
    change = some(
        generator,
        lambda a: a[1:],
        lambda a: np.concatenate([a, a[:1]]),
        lambda a: a[:, :14],
        lambda a: a[..., None],
        lambda a: np.repeat(a[..., None], 3, axis=3),
        lambda a: a.reshape(len(a), -1),
        lambda a: a.T,
        lambda a: a.ravel(),
        lambda a: a[:0],
        lambda a: a[0, 0, 0],
    )
    return good.with_array(name, change(good.arrays[name]))


@mutation("shapes")
def another_shape_of_labels(generator: Generator, good: Original) -> bytes:
    name = member(generator, "labels")
    change = some(
        generator, lambda a: a[:-1], lambda a: a.T, lambda a: np.hstack([a, a]), lambda a: a[..., None], np.max
    )
    return good.with_array(name, np.asarray(change(good.arrays[name])))


@mutation("types")
@mutation("types")
@mutation("types")
def another_type(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    types = "f2 f4 f8 >f8 i1 i8 >i4 >u2 u8 ? c8 c16 U1 U3 S1 M8[D] m8[s] V1".split()
    wanted: Any = some(generator, *types, [("value", "u1")], [("a", "u1"), ("b", "O")])
    array = good.arrays[name]
    if wanted == "V1":
        return good.with_array(name, array.view("V1"))
    if isinstance(wanted, list):
        made = np.zeros(array.shape, wanted)
        made[wanted[0][0]] = array
        return good.with_array(name, made)
    if wanted in ("M8[D]", "m8[s]"):
        return good.with_array(name, array.astype(np.int64).astype(wanted))
    return good.with_array(name, array.astype(wanted))


@mutation("label values")
@mutation("label values")
def labels_out_of_range(generator: Generator, good: Original) -> bytes:
    name = member(generator, "labels")
    kind, value = some(
        generator, ("u1", 2), ("u1", 255), ("i1", -1), ("i8", 2**40), ("i8", -(2**63)), ("u8", 2**64 - 1), ("u2", 256)
    )
    labels = good.arrays[name].astype(kind)
    labels[generator.integers(len(labels))] = value
    return good.with_array(name, labels)


@mutation("label values")
def labels_of_no_number(generator: Generator, good: Original) -> bytes:
    name = member(generator, "labels")
    labels = good.arrays[name]
    return good.with_array(name, some(generator, np.where(labels, np.nan, 0.0), labels.astype(str), labels > 0))


class Canary:
    """Whoever unpickles it leaves a file behind."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


@mutation("pickles")
@mutation("pickles")
def objects(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    array = np.empty(good.arrays[name].shape, object)
    array[:] = 0
    array.flat[0] = Canary()
    raw = npy(array)
    if generator.random() < 0.5:  # a header that lies
        raw = npy(good.arrays[name])[:128] + raw[128:]
    return good.with_raw(name, raw)


@mutation("header bombs")
@mutation("header bombs")
def many_elements(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    shape = some(
        generator, "(1000000000000,)", "(546, 28, 28000000000)", "(-1, 28, 28)", f"({2**70}, 1)", f"({9**900},)"
    )
    kind = some(generator, "|u1", "<u8", "|V1000000000", "<U500000000", "|O")
    return good.with_raw(
        name, npy_of(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n", b"0" * 99)
    )


@cache
def zeros(method: int, start: bytes = b"") -> Entry:
    return entry("x", start + bytes(HUGE if method == DEFLATED else HUGE // 10), method)


@mutation("header bombs")
def a_long_header(generator: Generator, good: Original) -> bytes:
    """A hundred megabytes of it, or what says that it is so long."""
    name = member(generator)
    start = b"\x93NUMPY\2\0" + struct.pack("<I", HUGE)
    if generator.random() < 0.5:
        return good.with_raw(name, start + good.raw[name][10:])
    bomb = zeros(DEFLATED, start)
    told = some(generator, bomb.size, good.entries[name].size)
    return good.with_entry(name, replace(bomb, name=f"{name}.npy", size=told))


@mutation("header bombs")
@mutation("header bombs")
def a_header_that_is_no_header(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    text = some(
        generator,
        "(" * 900,
        "[" * 150 + "]" * 150,
        "-" * 900 + "1",
        "{" * 99,
        "__import__('os').mkdir('unpickled')",
        "{'descr': __import__('os').mkdir('unpickled'), 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|u1', 'shape': (1,)}",
        "{'descr': '|u1', 'fortran_order': 0, 'shape': (True, 1.5)}",
        "{'descr': ('|u1', (2, 2)), 'fortran_order': False, 'shape': (546, 14, 14)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (546L, 28L, 28L, }",
        b"\xff\xfe\x00" * 50,
        "",
        "\n" * 500,
        "'" * 501,
    )
    version = some(generator, (1, 0), (2, 0), (3, 0), (9, 9))
    return good.with_raw(name, npy_of(text, good.raw[name][128:], version))


@mutation("zip bombs")
@mutation("zip bombs")
def a_bomb(generator: Generator, good: Original) -> bytes:
    """Of zeros, behind a header that is right or not there; what is said of its length is true, or as it should be."""
    name = member(generator)
    method = some(generator, DEFLATED, BZIP2, LZMA)
    bomb = zeros(method, some(generator, b"", good.raw["train_images"][:128]) if method == DEFLATED else b"")
    told = some(generator, bomb.size, good.entries[name].size, 2**32 - 2)
    return good.with_entry(name, replace(bomb, name=f"{name}.npy", size=told))


@mutation("zip bombs")
def overlapping(generator: Generator, good: Original) -> bytes:
    """Two names for one place, or one member that lies within another."""
    one, other = some(generator, ("train_images", "val_images"), ("val_labels", "test_labels"))
    entries = dict(good.entries)
    if generator.random() < 0.5:
        entries[other] = replace(entries[one], name=f"{other}.npy", packed=b"", offset=0 if one == NAMES[0] else None)
    else:
        inner = archive([entries[other]])
        inner = inner[: inner.index(b"PK\1\2")]
        raw = good.raw[one][: -len(inner)] + inner if len(inner) < len(good.raw[one]) - 128 else inner
        entries[one] = entry(one, raw, STORED)
        place = len(archive(list(entries.values())[: list(entries).index(one) + 1]).partition(b"PK\1\2")[0]) - len(
            inner
        )
        entries[other] = replace(entries[other], packed=b"", offset=place, crc=some(generator, 0, entries[other].crc))
    return archive(list(entries.values()))


@mutation("zip bombs")
def nested(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    inner = good.with_entry(name, replace(zeros(DEFLATED), name=f"{name}.npy"))
    return archive([entry("breastmnist", inner)]) if generator.random() < 0.5 else good.with_raw(name, inner, STORED)


@mutation("zip bombs")
def a_directory_of_thousands(generator: Generator, good: Original) -> bytes:
    count = some(generator, 3000, 20000)
    return archive([*good.entries.values(), *(Entry(f"{n}.npy", b"", STORED, 0, 0, 0) for n in range(count))])


@mutation("names")
def twice(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    other = entry(name, npy(good.arrays[name] ^ 1))
    entries = list(good.entries.values())
    return archive([other, *entries] if generator.random() < 0.2 else [*entries, other])


@mutation("names")
def names_that_lead_away(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    away = some(
        generator, "/{}.npy", "../{}.npy", "..\\{}.npy", "C:\\{}.npy", "./{}.npy", "{}.NPY", "{}.npy\0.txt", "x/{}.npy"
    )
    other = replace(good.entries[name], name=away.format(name))
    entries = good.entries if generator.random() < 0.5 else {**good.entries, name: other}
    return archive([*entries.values(), other])


@mutation("names")
def two_names(generator: Generator, good: Original) -> bytes:
    """The directory says another one than the member itself."""
    name = member(generator)
    return good.changed(name, local_name=f"{member(generator)}.npy"[: len(name) + 3] + "y")


@mutation("names")
def missing(generator: Generator, good: Original) -> bytes:
    gone = some(generator, *SPLITS, *NAMES, "images", "labels")
    return archive([one for name, one in good.entries.items() if gone not in name])


@mutation("names")
def more(generator: Generator, good: Original) -> bytes:
    array = some(generator, np.zeros(5), np.array([Canary()], object), good.arrays["val_images"])
    extra = entry(some(generator, "extra", "train_images2", "a/b", "été"), npy(array))
    return archive([*good.entries.values(), extra], comment=some(generator, b"", b"comment", b"PK\5\6" * 9))


@mutation("names")
def swapped(generator: Generator, good: Original) -> bytes:
    one, other = (NAMES[index] for index in generator.choice(len(NAMES), 2, replace=False))
    entries = {**good.entries, one: replace(good.entries[other], name=f"{one}.npy")}
    return archive(list({**entries, other: replace(good.entries[one], name=f"{other}.npy")}.values()))


@mutation("lies of the archive")
def encrypted(generator: Generator, good: Original) -> bytes:
    return good.changed(member(generator), flags=some(generator, 0x1, 0x41, 0x20, 0x2000, 0x800, 0xFFFF))


@mutation("lies of the archive")
def another_method(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    if generator.random() < 0.5:
        return good.with_raw(name, good.raw[name], some(generator, STORED, BZIP2, LZMA))
    return good.changed(name, method=some(generator, STORED, 1, 6, 9, BZIP2, LZMA, 93, 99, 65535))


@mutation("lies of the archive")
def another_sum(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    return good.changed(name, crc=some(generator, 0, good.entries[name].crc ^ 1, int(generator.integers(2**32))))


@mutation("lies of the archive")
@mutation("lies of the archive")
def another_length(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    said, by = some(generator, "size", "packed_size"), some(generator, -1, 1, -100, 1000, 2**31, 2**32 - 2)
    length = max(0, getattr(good.entries[name], said) + by) % (2**32 - 1)
    return good.changed(name, **{said: length})


@mutation("lies of the archive")
def shorter_than_said(generator: Generator, good: Original) -> bytes:
    """The values end too early, and the sum is that of what is there."""
    name = member(generator)
    short = entry(name, good.raw[name][: -int(generator.integers(1, 50))], some(generator, STORED, DEFLATED))
    return good.with_entry(name, replace(short, size=good.entries[name].size))


@mutation("lies of the archive")
@mutation("lies of the archive")
def zip64(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    number = some(generator, 0, 1, 10**12, 2**63 - 1, 2**63, 2**64 - 1)
    if generator.random() < 0.5:
        fields = [number] * int(generator.integers(1, 4))
        extra = struct.pack(f"<HH{len(fields)}Q", 1, 8 * len(fields) + some(generator, 0, 0, 8, -3), *fields)
        return good.changed(name, size=2**32 - 1, packed_size=2**32 - 1, extra=extra)
    return archive(list(good.entries.values()), zip64=(number, some(generator, number, 0)))


@mutation("equal")
def packed_otherwise(generator: Generator, good: Original) -> bytes:
    """The same arrays: in another order, stored, in columns, with wider labels, with something in front."""
    order = [NAMES[index] for index in generator.permutation(len(NAMES))]
    arrays = {name: good.arrays[name] for name in order}
    name = member(generator)
    wide = arrays[name].astype(some(generator, "i8", ">i4", "u2")) if name.endswith("labels") else arrays[name]
    arrays[name] = some(generator, np.asfortranarray(wide), wide)
    made = archive([entry(name, npy(array), some(generator, STORED, DEFLATED)) for name, array in arrays.items()])
    return some(generator, b"", b"#!/bin/sh\n") + made


@mutation("no archive")
def something_else(generator: Generator, good: Original) -> bytes:
    return some(
        generator,
        b"",
        b"<html>not found</html>",
        zlib.compress(good.content),
        good.raw["train_images"],
        b"PK\5\6" + bytes(18),
        b"PK\5\6" + b"\xff" * 18,
        b"PK\6\6" * 50_000,
        generator.bytes(5000),
    )


@REWRITTEN.append
def other_values(generator: Generator, good: Original) -> bytes:
    name = member(generator)
    array = good.arrays[name].copy()
    array.flat[generator.integers(array.size)] ^= 1
    return good.with_array(name, array)


@REWRITTEN.append
def another_order(generator: Generator, good: Original) -> bytes:
    name = member(generator, "images")
    return good.with_array(name, generator.permutation(good.arrays[name]))


@REWRITTEN.append
def a_lie_about_columns(generator: Generator, good: Original) -> bytes:
    name = member(generator, "images")
    return good.with_raw(name, good.raw[name].replace(b"'fortran_order': False,", b"'fortran_order': True, ", 1))


IN_ITS_PLACE: dict[str, Callable[[Path, bytes], None]] = {
    "a folder": lambda path, content: path.mkdir(),
    "a link to nowhere": lambda path, content: path.symlink_to("none"),
    "a link to itself": lambda path, content: path.symlink_to(path.name),
    "a link to a folder": lambda path, content: path.symlink_to("."),
    "a link to a torn file": lambda path, content: _linked(path, content[:-100]),
    "a link to the file": lambda path, content: _linked(path, content),
}


def _linked(path: Path, content: bytes) -> None:
    (path.parent / "other").write_bytes(content)
    path.symlink_to("other")


@cache
def made() -> bytes:
    """A file with the shapes of BreastMNIST's, which packs as badly as it does."""
    generator, stream = np.random.default_rng(0), io.BytesIO()
    arrays = {}
    for split, cases in INFO.cases.items():
        arrays[f"{split}_images"] = generator.normal(128, 50, (cases, 28, 28)).clip(0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = generator.integers(0, 2, (cases, 1), dtype=np.uint8)
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


class Trial:
    """Puts a file in the place of the good one, and sees what is made of it."""

    def __init__(self, good: Original, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.good, self.data = good, Data(root=str(root))
        self.path = dataset_path(self.data)
        self.path.write_bytes(good.content)
        info = replace(INFO, md5={28: file_md5(self.path)})
        patch.setattr(fetching, "dataset_info", lambda flag: info)
        patch.setattr(splits, "fetch", lambda data: self.path)
        patch.chdir(root)
        self.allowed = 0
        assert self.read() == "equal" and self.hash() == "equal"
        self.allowed = self.peak + MEMORY

    def read(self) -> str:
        """What the reader makes of it, hash or no hash; the test split is opened last."""
        tracemalloc.start()
        try:
            outcome = self._read()
            self.peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert not self.allowed or self.peak < self.allowed
        assert not Path("unpickled").exists()
        return outcome

    def _read(self) -> str:
        try:
            train, val = read_search_splits(self.path, INFO, 28)
        except DataError as error:
            return self._refusal(error, "refused")
        try:
            test = load_sealed_test(self.data)
        except DataError as error:
            return self._refusal(error, "refused at test")
        return "equal" if all(map(self._equal, SPLITS, (train, val, test))) else "other"

    def hash(self) -> str:
        """What comes before the reader: the published MD5."""
        try:
            fetch(self.data, url=NOWHERE, patience=Patience(connect=1, attempts=1))
        except DataError as error:
            return self._refusal(error, "refused")
        return "equal"

    def _refusal(self, error: DataError, outcome: str) -> str:
        words = str(error)
        assert words.startswith(f"{self.path}: ") and words.isprintable() and len(words) < len(str(self.path)) + 500
        return outcome

    def _equal(self, name: str, found: Split) -> bool:
        good = self.good.split(name)
        return np.array_equal(found.images, good.images) and np.array_equal(found.labels, good.labels)


BASES = [
    "made",
    pytest.param(
        "breastmnist",
        marks=[pytest.mark.slow, pytest.mark.skipif(not BREAST.exists(), reason="breastmnist.npz is not there")],
    ),
]


@pytest.fixture(params=BASES)
def trial(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    return Trial(Original(made() if request.param == "made" else BREAST.read_bytes()), tmp_path, monkeypatch)


@pytest.mark.timeout(600)
def test_a_mutated_file_is_refused_or_equal(trial: Trial, count: Any, record_property: Any) -> None:
    kinds = [(kind, one) for kind, functions in MUTATIONS.items() for one in functions]
    seen: dict[str, Counter[str]] = {kind: Counter() for kind in MUTATIONS}
    peak = 0
    for number in range(count(1000)):
        kind, mutate = kinds[number % len(kinds)]
        content = mutate(np.random.default_rng([7, number]), trial.good)
        trial.path.write_bytes(content)
        assert trial.hash() == ("equal" if content == trial.good.content else "refused"), (number, mutate)
        outcome = trial.read()
        assert outcome in ("refused", "equal") or (outcome == "refused at test" and kind == "label values"), (
            number,
            mutate,
            outcome,
        )
        seen[kind][outcome] += 1
        peak = max(peak, trial.peak)
    assert seen["equal"]["refused"] == 0
    record_property("injected", f"{sum(map(Counter.total, seen.values()))} mutated .npz files")
    told = "; ".join(f"{kind}: {', '.join(f'{n} {what}' for what, n in of.items())}" for kind, of in seen.items())
    record_property(
        "held", f"{told}; no pickle, at most {peak / 1e6:.1f} MB (the good file: {trial.allowed / 1e6 - 1:.1f})"
    )


@pytest.mark.parametrize("mutate", REWRITTEN)
def test_what_only_the_hash_can_know_it_knows(trial: Trial, mutate: Mutation) -> None:
    for number in range(3):
        trial.path.write_bytes(mutate(np.random.default_rng([8, number]), trial.good))
        assert trial.read() == "other" and trial.hash() == "refused"


@pytest.mark.parametrize("what", IN_ITS_PLACE)
def test_what_lies_in_its_place(trial: Trial, what: str) -> None:
    trial.path.unlink()
    IN_ITS_PLACE[what](trial.path, trial.good.content)
    wanted = "equal" if what == "a link to the file" else "refused"
    assert trial.read() == wanted and trial.hash() == wanted

"""Files and overrides that mean harm: nothing of them runs, memory stays bounded, and one line says what is wrong."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

MORE = 200  # MB beyond what an innocent file takes
# one process with everything imported, and a fork of it for each case, whose memory and time are limited
RUNNER = """
import json, os, resource, sys
import medtune.cli, medtune.cli.verbs, medtune.search.jobs, medtune.search.resources
from medtune.config.read import read_sweep

more = int(sys.argv[1]) * 2**20
cases = json.load(open(sys.argv[2]))
for name, arguments in cases.items():
    child = os.fork()
    if not child:
        os.dup2(os.open(f"{name}.err", os.O_CREAT | os.O_WRONLY), 2)
        taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + more, taken + more))
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
        sys.argv = ["medtune", "check", *arguments]
        code = 70
        try:
            medtune.cli.main()
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def nested(levels: int, width: int) -> str:
    lines = [f"a0: &a0 [{', '.join('x' * width)}]"]
    return "\n".join([*lines, *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels))])


START = "sweep: a\n"
FILES: dict[str, tuple[str | bytes, str]] = {
    "innocent": ("sweep: A\n", "sweep must be "),
    "object-apply": (f"{START}seed: !!python/object/apply:os.system ['touch ran']\n", "2:7: the tag "),
    "object-new": (f"{START}seed: !!python/object/new:os.system [touch ran]\n", "2:7: the tag "),
    "name": (f"{START}trial: {{epochs: !!python/name:os.system }}\n", "2:17: the tag "),
    "own-handle": (
        "%TAG ! tag:yaml.org,2002:python/\n---\nsweep: a\nseed: !object/apply:os.system [touch ran]\n",
        "4:7",
    ),
    "tag-as-a-key": (f"{START}? !!python/object/apply:os.system ['touch ran']\n: 1\n", "2:3: a key must be text"),
    "laughs": (nested(10, 10), "aliases of aliases"),
    "quadratic-blow-up": ("a: &a [" + "x, " * 9_000 + "]\nb: [" + "*a, " * 9_000 + "]\n", "aliases of aliases"),
    "brackets": ("[" * 100_000, "1:51: nested too deeply"),
    "braces": ("{a: " * 100_000, "nested too deeply"),
    "dashes": ("- " * 100_000, "nested too deeply"),
    "questions": ("? " * 100_000, "nested too deeply"),
    "huge-scalar": (f"sweep: '{'x' * 150_000}'\n", "1:8: sweep must be a name of "),
    "huge-key": (f"{START}? {'k' * 150_000}\n: 1\n", "2:3: unknown key kkk"),
    "huge-tag": (f"{START}seed: !{'t' * 150_000} 1\n", "2:7: a tag or an anchor of over 1,000 characters"),
    "many-duplicates": (START + "seed: 1\n" * 20_000, "over 30,000 keys and values"),
    "merge-keys": (f"{START}trial: &t\n  <<: *t\n", "3:3: the merge key <<"),
    "itself": (f"{START}trial: &t {{model: *t}}\n", "within itself"),
    "itself-as-a-key": (f"{START}? &a [*a]\n: 1\n", "2:3: a key must be text"),
    "many-documents": ("---\na: 1\n" * 60_000, "3:1: this is not YAML: a second document"),
    "control-characters": (b"sweep: a\nseed: \x1b[2J\x00\n", "2:7: this is not YAML: the character '\\x1b'"),
    "escaped-control": (f'{START}"\\x1b[2J": 1\n', "2:1: the key '\\x1b[2J' has a control character"),
    "million-digits": (f"{START}seed: 1{'0' * 150_000}\n", "2:7: 10000"),
    "million-digits-in-hexadecimal": (f"{START}seed: 0x{'f' * 150_000}\n", "2:7: 0xfff"),
    "million-digits-of-a-float": (f"{START}trial: {{epochs: 1.{'1' * 150_000}}}\n", "2:17: trial.epochs must be a"),
    "range-of-everything": (
        f"{START}trial: {{optimizer: {{lr: {{uniform: [-1e308, 1e308], step: 1e-308}}}}}}\n",
        "2:58: ",
    ),
    "range-of-big-integers": (f"{START}trial: {{epochs: {{int: [1, {10**308}]}}}}\n", "2:27: 10000"),
    "grid-of-everything": (
        f"{START}trial: {{epochs: {{int: [1, 999999999999]}}}}\nsearch: {{sampler: grid}}\n",
        "3:19: the grid has over",
    ),
    "million-options": (f"{START}trial: {{epochs: {{choice: [{'1, ' * 1_000_000}]}}}}\n", "over 1,000,000 bytes"),
    "many-options": (
        f"{START}trial: {{epochs: {{choice: [{'1, ' * 5_000}]}}}}\n",
        "2:26: trial.epochs: choice has",
    ),
    "many-values": (f"{START}trial: {{epochs: [{'1, ' * 300_000}]}}\n", "over 30,000 keys and values"),
    "many-wrong-options": (f"{START}trial: {{epochs: {{choice: [{'-1, ' * 900}1]}}}}\n", "more mistakes"),
    "many-comments": ("# x\n" * 60_000, "1:1: the file is empty"),
    "many-anchors": (
        f"{START}trial: [{', '.join(f'&a{i} 1' for i in range(40_000))}]\n",
        "over 30,000 keys and values",
    ),
}
VALUES = {
    "set-tag": ("seed=!!python/object/apply:os.system ['touch ran']", "the tag "),
    "set-laughs": ("data={" + nested(10, 10).replace("\n", ", ") + "}", "aliases of aliases"),
    "set-brackets": ("seed=" + "[" * 100_000, "nested too deeply"),
    "set-digits": ("seed=1" + "0" * 150_000, "too large a number"),
    "set-scalar": ("sweep=" + "x" * 150_000, "sweep must be a name"),
    "set-key": ("k" * 150_000 + "=1", "unknown key kkk"),
    "set-dots": ("a" + ".a" * 100_000 + "=1", "nested too deeply"),
    "set-nothing": ("=" * 100_000, "no key=value"),
    "set-bytes": ("seed=\udcff", "this is not YAML"),
    "set-lines": ("seed=1\nsweep: b", "this is not YAML"),
    "set-list-index": ("search.start_with.99999999999999=1", "search.start_with must be a list"),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[int, list[str]]]:
    """`outcome(name)`: the exit code of a case, and the lines that it said."""
    folder = tmp_path_factory.mktemp("hostile")
    cases: dict[str, list[str]] = {"huge-file": ["huge-file.yaml"], "endless-file": ["/dev/zero"]}
    with (folder / "huge-file.yaml").open("wb") as huge:
        huge.write(b"sweep: a\n" + b"# x\n" * 1_000_000)
        huge.truncate(200_000_000)
    (folder / "right.yaml").write_text(START)
    for name, (text, _) in FILES.items():
        (folder / f"{name}.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        cases[name] = [f"{name}.yaml"]
    for name, (value, _) in VALUES.items():
        cases[name] = ["right.yaml", "--set", value]
    (folder / "cases.json").write_text(json.dumps(cases))
    told = subprocess.run(
        [sys.executable, "-c", RUNNER, str(MORE), "cases.json"], cwd=folder, capture_output=True, text=True, check=True
    )
    codes = {name: int(code) for name, code in map(str.split, told.stdout.splitlines())}
    assert not (folder / "ran").exists()
    return lambda name: (codes[name], (folder / f"{name}.err").read_text().splitlines())


EXPECTED = {name: words for name, (_, words) in (FILES | VALUES).items()} | dict.fromkeys(
    ("huge-file", "endless-file"), "over 1,000,000 bytes"
)


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_refused_in_a_line_and_little_memory(name: str, outcome: Callable[[str], tuple[int, list[str]]]) -> None:
    code, lines = outcome(name)
    assert code == 2, lines[-3:]
    assert len(lines) == 1 or "more mistakes" in lines[-1]
    assert EXPECTED[name] in lines[-1]
    assert all(len(line) < 500 and line.isprintable() for line in lines) and len(lines) <= 101


def test_the_memory_is_what_is_measured() -> None:
    """The limit is one: 400 MB do not pass it."""
    program = (
        "import resource\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (taken + {MORE} * 2**20,) * 2)\n"
        f"bytearray({2 * MORE} * 2**20)\n"
    )
    assert "MemoryError" in subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr

"""`rlhfc gc` and `rlhfc tag` as they are typed."""

import json
import shutil
import subprocess
import sys

import pytest

from rlhfc.cli.main import main


@pytest.fixture
def typed(bench, monkeypatch, capsys):
    """Types a command in the workshop's folder; status and both streams."""
    monkeypatch.chdir(bench.folder)
    monkeypatch.setenv("NO_COLOR", "1")

    def type_(*words: str) -> tuple[int, str, str]:
        status = main([*words, "--store", "store"])
        return (status, *capsys.readouterr())

    return type_


@pytest.fixture
def three(bench):
    """Three results of each of two stages; the keys of `b`, oldest first."""
    keys = []
    for value in (1, 2, 3):
        bench.write(a={"value": value}, b={"left": "a.thing"})
        keys.append(bench.run().stages["b"].key)
    return keys


def there(bench, keys) -> list[bool]:
    """Which of the results are whole."""
    return [bench.store().lookup(key) is not None for key in keys]


def test_plan_shows_what_would_go(bench, three, typed):
    """`--plan` has a line for each stage, and removes nothing."""
    status, out, err = typed("gc", "--plan", "--grace", "0", "--keep-runs", "1")
    heading, _, columns, first, second, _, total = out.splitlines()
    assert (0, "") == (status, err)
    assert (
        "store store · keeps the newest result of each stage, tags, what living runs use, the last 0 h"
        == heading
    )
    assert ["stage", "goes", "frees", "to", "make", "again"] == columns.split()
    assert [["toys/a", "2", "results"], ["toys/b", "2", "results"]] == [first.split()[:3], second.split()[:3]]
    assert total.startswith("Would free ")
    assert total.endswith(" on the CPU; 2 results stay")
    assert [True, True, True] == there(bench, three)


def test_removal_is_followed_by_nothing_to_remove(bench, three, typed):
    """What was shown goes; the same command again finds nothing; what stays is cached."""
    assert 0 == typed("gc", "--grace", "0", "--keep-runs", "1")[0]
    assert [False, False, True] == there(bench, three)
    status, out, _ = typed("gc", "--grace", "0", "--keep-runs", "1")
    assert 0 == status
    assert out.splitlines()[-1].startswith("Nothing to remove: 2 results, ")
    assert {"a": "cached", "b": "cached"} == bench.states()
    bench.write(a={"value": 1}, b={"left": "a.thing"})
    assert {"a": "done", "b": "done"} == bench.states()


def test_young_results_stay_by_default(bench, three, typed):
    """Without options nothing goes that is of today."""
    assert "Nothing to remove: 6 results" in typed("gc", "--keep-runs", "0")[1]
    assert [True, True, True] == there(bench, three)


def test_kept_specs_keep_their_results(bench, three, typed):
    """`--keep` keeps what a spec's stages have now, whatever else has been made since."""
    bench.write(a={"value": 1}, b={"left": "a.thing"})
    shutil.copy(bench.spec, bench.folder / "kept.yaml")
    assert 0 == typed("gc", "--grace", "0", "--keep-runs", "0", "--keep", "kept.yaml")[0]
    # The pipeline is known by its file's name, so the last results of `toys` are none of `kept`.
    assert [True, False, False] == there(bench, three)


def test_json_tells_the_same(three, typed):
    """`--json` prints one document."""
    status, out, _ = typed("gc", "--plan", "--grace", "0", "--keep-runs", "2", "--json")
    document = json.loads(out)
    assert (0, False, 4) == (status, document["done"], document["results_kept"])
    assert [("toys", "a", 1), ("toys", "b", 1)] == [
        (row["pipeline"], row["stage"], row["results"]) for row in document["stages"]
    ]
    assert three[0] in document["keys"]


def test_free_says_when_it_falls_short(three, typed):
    """More than there is cannot be freed: all that may go goes, and the status is 1."""
    status, _, err = typed("gc", "--grace", "0", "--keep-runs", "1", "--free", "5GB")
    assert 1 == status
    assert " less than `--free` asks for: the rest is kept\nhint: keep less with" in err


def test_full_store_refuses_to_run(bench, three, typed):
    """At its quota a store takes nothing new; what is cached is still found; the hint makes room."""
    assert "quota of the store `store`: 1.0 kB\n" == typed("gc", "--quota", "1kB")[1]
    assert 0 == typed("run", "toys.yaml", "--quiet")[0]
    bench.write(a={"value": 9})
    status, _, err = typed("run", "toys.yaml", "--quiet")
    assert 1 == status
    assert "is full: " in err
    assert "hint: make room with `rlhfc gc --free " in err
    assert "the store `store` has no quota\n" == typed("gc", "--quota", "none")[1]
    assert 0 == typed("run", "toys.yaml", "--quiet")[0]


def test_no_store(typed):
    """A store that is not there is not made."""
    status, _, err = typed("gc")
    assert (1, True) == (status, err.startswith("error: there is no store at `store`"))


def test_tags(bench, three, typed):
    """A tag names a result, is listed, keeps it from removal, and is taken away again."""
    assert (0, "no tags\n") == typed("tag")[:2]
    assert (0, f"best: toys/b, {three[2][:11]}\n") == typed("tag", "best", "toys.yaml", "b")[:2]
    assert (0, f"old: toys/b, {three[0][:11]}\n") == typed("tag", "old", "--key", three[0][:20])[:2]
    found = json.loads(typed("tag", "--json")[1])
    assert [("best", three[2], "toys", "b"), ("old", three[0], "toys", "b")] == [
        (tag["name"], tag["key"], tag["pipeline"], tag["stage"]) for tag in found
    ]
    heading, best, old = typed("tag")[1].splitlines()
    assert (["tag", "stage", "key", "since", "by"], ["best", "toys/b"]) == (heading.split(), best.split()[:2])
    assert ["old", "toys/b"] == old.split()[:2]
    typed("gc", "--grace", "0", "--keep-runs", "0")
    assert [True, False, True] == there(bench, three)
    assert (0, "old: removed; the result stays until `rlhfc gc`\n") == typed("tag", "old", "--remove")[:2]
    typed("gc", "--grace", "0", "--keep-runs", "0")
    assert [False, False, True] == there(bench, three)


MISTAKES = {
    (
        "tag",
        "best",
    ): "error: which result?\nhint: `rlhfc tag best SPEC STAGE`, or `rlhfc tag best --key KEY`\n",
    ("tag", "../x", "toys.yaml", "b"): (
        "error: `../x` cannot be a tag\n"
        "hint: up to 100 letters, digits, `_`, `-` and `.`, the first a letter or digit\n"
    ),
    (
        "tag",
        "x",
        "toys.yaml",
        "b",
        "--key",
        "b3:00",
    ): "error: either `--key` or a spec and a stage, not both\n",
    ("tag", "x", "--key", "b3:zz"): (
        "error: there is no result under `b3:zz` in this store\n"
        "hint: `rlhfc show SPEC STAGE` prints keys, such as `b3:0123abcd…`\n"
    ),
    ("tag", "x", "--remove"): "error: there is no tag `x`\nhint: the store has none\n",
    ("gc", "--free", "much"): "error: `--free much` is no size\nhint: write it like `500MB` or `1.5TB`\n",
    ("gc", "--keep-runs", "x"): "error: `--keep-runs x` is no number\nhint: give 0 or more\n",
    ("gc", "--grace", "-1"): "error: `--grace -1` is no amount\nhint: give 0 or more\n",
}


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_mistakes(bench, typed, words):
    """A mistake is told with its remedy, and changes nothing."""
    bench.write(a={}, b={"left": "a.thing"})
    bench.store()
    assert (1, "", MISTAKES[words]) == typed(*words)


def test_stage_without_result_cannot_be_tagged(bench, typed):
    """What has not been made has nothing to name."""
    bench.write(a={})
    status, _, err = typed("tag", "best", "toys.yaml", "a")
    assert (1, True) == (status, err.startswith("error: a has no result for what the spec says now\nhint: "))


def test_tag_moves_only_when_told(three, typed):
    """A tag that names another result keeps doing so, unless it is said to move."""
    typed("tag", "best", "toys.yaml", "b")
    status, _, err = typed("tag", "best", "toys.yaml", "a")
    assert (1, True) == (
        status,
        err.startswith(f"error: `best` is toys/b, {three[2][:11]}\nhint: pass `--move`"),
    )
    assert 0 == typed("tag", "best", "toys.yaml", "a", "--move")[0]
    assert "toys/a" in typed("tag")[1]


def test_damaged_tag_stops_removal(bench, three, typed):
    """Nobody knows what a damaged tag keeps, so nothing goes until it is dealt with."""
    typed("tag", "old", "--key", three[0])
    (bench.folder / "store" / "tags" / "old.json").write_text("{")
    status, _, err = typed("gc", "--grace", "0", "--keep-runs", "0")
    assert 1 == status
    assert "old.json` is damaged\nhint: remove the file" in err
    assert [True, True, True] == there(bench, three)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_run_without_flock(bench):
    """Where the kernel refuses every lock a run goes on with leases, and says nothing."""
    bench.write(a={}, b={"left": "a.thing"})
    command = [sys.executable, "-m", "rlhfc", "run", str(bench.spec), "--store", str(bench.folder / "store")]
    injected = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=flock",
        "-e",
        "inject=flock:error=ENOLCK",
    ]
    done = subprocess.run([*injected, *command, "--quiet"], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert {"seconds": 60.0} == json.loads((bench.folder / "store" / "locks" / "leases").read_text())
    assert {"a": "cached", "b": "cached"} == bench.states()

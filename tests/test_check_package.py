"""What `make package` judges by, on text and archives made here."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from check_package import (
    EXAMPLE,
    ROOT,
    PackageError,
    compare,
    printed_example,
    read_metadata,
    relative_links,
    run,
)


@pytest.mark.parametrize(
    ("markdown", "links"),
    [
        ("see [method](docs/method.md#4)", ["docs/method.md#4"]),
        ("![a picture\nof it](docs/a.png)", ["docs/a.png"]),
        ("[here](#below), [there](https://example.org/a), [mail](mailto:a@example.org)", []),
        ("`[code](a.md)`\n\n```\n[fenced](b.md)\n```\n\n[real](c.md)", ["c.md"]),
    ],
)
def test_relative_links(markdown: str, links: list[str]) -> None:
    assert relative_links(markdown) == links


def test_the_example_is_what_stands_below_its_command() -> None:
    readme = "```console\n$ other\nno\n```\n\n```console\n$ a b\none\n  two\n```\nafter\n```\n```\n"
    assert printed_example(readme, "a b") == "one\n  two\n"
    with pytest.raises(PackageError, match="no example of a c"):
        printed_example(readme, "a c")


def test_the_readme_has_the_example() -> None:
    assert "sigma" in printed_example((ROOT / "README.md").read_text(), EXAMPLE)


def test_compare_names_what_lacks_and_what_is_too_much() -> None:
    compare("the wheel", {"a", "b"}, {"a", "b"})
    with pytest.raises(PackageError, match=r"the wheel lacks: b; should not hold: c"):
        compare("the wheel", {"a", "c"}, {"a", "b"})


def test_run_tells_failure_from_success() -> None:
    assert run("sh", "-c", "echo out; echo err >&2") == "out\n"
    assert run("sh", "-c", "echo out; echo err >&2; exit 3", fails=True) == "out\nerr\n"
    with pytest.raises(PackageError, match="status 3"):
        run("sh", "-c", "exit 3")
    with pytest.raises(PackageError, match="status 0"):
        run("true", fails=True)


def test_metadata_is_read_out_of_a_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "some-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as zipped:
        zipped.writestr(
            "some-1.dist-info/METADATA",
            "Name: some\nVersion: 1\nClassifier: a\nClassifier: b\n\nσ [x](y.md)\n",
        )
    fields, description = read_metadata(wheel)
    assert (fields["Version"], fields["Classifier"]) == (["1"], ["a", "b"])
    assert description == "σ [x](y.md)\n"


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "src" / "deadtokens" / "py.typed").is_file()

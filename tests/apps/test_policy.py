"""Policy files: what is read, and that each error names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vecbridge.apps.policy import Policy
from vecbridge.apps.policy_file import load_policy, parse_policy
from vecbridge.errors import ConfigError, MissingDependencyError

GOOD = """\
version: 1
model: bundled
categories:
  - name: weapons
    texts: [a knife]
    negatives: [a spoon]
    review: 0.4
    block: 0.8
"""


def test_a_policy_is_read_with_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD, "utf-8")
    policy = load_policy(path)
    [category] = policy.categories
    assert (policy.version, policy.model, category.name) == (1, "bundled", "weapons")
    assert (category.texts, category.negatives) == (("a knife",), ("a spoon",))
    assert (category.review, category.block, category.applies_to) == (0.4, 0.8, ("image", "text"))


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(0.0, "allow"), (0.39, "allow"), (0.4, "review"), (0.79, "review"), (0.8, "block"), (1.0, "block")],
)
def test_a_threshold_belongs_to_what_it_begins(score: float, verdict: str) -> None:
    assert parse_policy(GOOD).categories[0].verdict(score) == verdict


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("negatives:", "negatvies:", "p.yaml:6: unknown key 'negatvies'; did you mean 'negatives'?"),
        ("model:", "modle:", "p.yaml:1: model is missing; p.yaml:2: unknown key 'modle'"),
        ("review: 0.4", "review: 0.9", "p.yaml:8: categories[0].block must be at least review, which is 0.9"),
        ("block: 0.8", "block: 1.5", "p.yaml:8: categories[0].block must be less than or equal to 1"),
        ("review: 0.4", "review: -0.1", "p.yaml:7: categories[0].review must be greater than or equal to 0"),
        ("review: 0.4", "review: .nan", "p.yaml:7: categories[0].review must be a finite number"),
        ("review: 0.4", "review: '0.4'", "p.yaml:7: categories[0].review must be a number, not '0.4'"),
        ("review: 0.4", "review: yes", "p.yaml:7: categories[0].review must be a number, not True"),
        ("    review: 0.4\n", "", "p.yaml:4: categories[0].review is missing"),
        ("version: 1", "version: 2", "p.yaml:1: version must be 1"),
        ("version: 1", "version: true", "p.yaml:1: version must be a whole number, not True"),
        ("[a knife]", "[no]", "p.yaml:5: categories[0].texts[0] must be text, not False: quote it"),
        ("[a knife]", "a knife", "p.yaml:5: categories[0].texts must be a list"),
        ("[a knife]", "[a, a]", "p.yaml:5: categories[0].texts: 'a' is there twice"),
        ("[a knife]", "['']", "p.yaml:5: categories[0].texts: one of the texts is blank"),
        ("block: 0.8", "block: 0.8\n    applies_to: [images]", "p.yaml:9: categories[0].applies_to[0] "),
        ("block: 0.8", "block: 0.8\n    applies_to: []", "p.yaml:9: categories[0].applies_to must name"),
        ("block: 0.8", "block: 0.8\n    block: 0.9", "p.yaml:9: 'block' is there twice"),
        ("model: bundled", "model: ''", "p.yaml:2: model must name a model"),
        ("model: bundled", "model: &a x\nfoo: *a", "p.yaml:2: aliases (*name) are not read"),
        ("[a knife]", "[a", "p.yaml:6: no YAML"),
        ("model: bundled", "model: !!python/name:os.system x", "p.yaml:2: no YAML: could not determine"),
        ("model: bundled", "1: bundled", "p.yaml:2: a key must be text"),
        ("model: bundled", "model: 2020-13-45", "p.yaml:2: '2020-13-45': month must be in 1..12"),
        (GOOD, "", "p.yaml: the policy is empty"),
        (GOOD, "# nothing\n", "p.yaml: the policy is empty"),
        (GOOD, "- version", "p.yaml:1: the policy must be keys with values"),
        (GOOD, "[" * 600, "p.yaml: nested too deep"),
        (GOOD, "version: 1\nmodel: x\ncategories: []", "p.yaml:3: categories: at least one is needed"),
        (GOOD, "version: 1\nmodel: x", "p.yaml:1: categories is missing"),
        (GOOD, GOOD + "---\n" + GOOD, "p.yaml:9: no YAML: but found another document"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_line(old: str, new: str, error: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse_policy(GOOD.replace(old, new), file="p.yaml")
    assert str(caught.value).startswith(error), str(caught.value)


def test_two_categories_of_a_name_are_refused_at_the_second() -> None:
    twice = GOOD + "  - name: weapons\n    review: 0\n    block: 1\n"
    with pytest.raises(
        ConfigError, match=r"^p:9: categories\[1\]\.name: two categories are called 'weapons'$"
    ):
        parse_policy(twice, file="p")


def test_an_alias_is_refused_before_a_few_lines_expand_to_gigabytes() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    with pytest.raises(ConfigError, match=r"^p:1: aliases \(\*name\) are not read$"):
        parse_policy("\n".join(lines), file="p")


def test_all_problems_are_told_at_once_up_to_five() -> None:
    many = GOOD + "".join(f"    extra{n}: 1\n" for n in range(7))
    with pytest.raises(ConfigError) as caught:
        parse_policy(many)
    assert str(caught.value).count("unknown key") == 5
    assert str(caught.value).endswith("; and 2 more")


@pytest.mark.parametrize(
    ("content", "error"), [(None, "No such file"), (b"\xff\xfe\x00\xd8", "not UTF-8")], ids=["none", "bytes"]
)
def test_a_file_that_cannot_be_read_is_an_error(content: bytes | None, error: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=error):
        load_policy(path)


def test_the_digest_follows_what_is_said_and_not_how() -> None:
    policy = parse_policy(GOOD)
    assert parse_policy("# a comment\n" + GOOD.replace("0.4", "0.40")).digest == policy.digest
    assert parse_policy(GOOD.replace("0.8", "0.9")).digest != policy.digest


def test_a_policy_of_python_values_is_checked_the_same_way() -> None:
    with pytest.raises(ConfigError, match=r"^policy: categories\[0\]\.block must be at least review"):
        Policy.of(model="x", categories=[{"name": "a", "review": 0.9, "block": 0.1}])


def test_without_yaml_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"pyyaml is not installed: pip install '\.\[apps\]'"):
        parse_policy(GOOD)

"""What comes from a manifest or a file stays text wherever it is shown."""

from __future__ import annotations

import pytest

from pytest_onnxcheck.report.escaping import (
    cell,
    code,
    fenced,
    inline,
    markdown,
    terminal,
    visible,
    workflow_data,
    workflow_property,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with ä and 💡", "plain, with ä and 💡"),
        ("red \x1b[31mtext\x1b[0m", "red \\x1b[31mtext\\x1b[0m"),
        ("bell\a, back\b, \x9b2J", "bell\\x07, back\\x08, \\x9b2J"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("over\rwritten", "over\\x0dwritten"),
        ("turned \u202erebmun", "turned \\u202erebmun"),
        ("hidden\u200bspace", "hidden\\u200bspace"),
        ("half \udc80 a pair", "half \\udc80 a pair"),
        (ValueError("\x00"), "\\x00"),
    ],
    ids=repr,
)
def test_control_characters_are_shown(text: object, shown: str):
    assert visible(text) == shown
    assert shown.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::stolen", ": :error::stolen"),
        ("fine\n  ::set-output name=a::b", "fine\n  : :set-output name=a::b"),
        ("models.toml::net", "models.toml::net"),
        ("##[add-path]/tmp", "# #[add-path]/tmp"),
        ("\x1b]0;title\a", "\\x1b]0;title\\x07"),
    ],
)
def test_a_log_of_ci_gets_no_commands(text: str, shown: str):
    assert terminal(text) == shown


def test_a_text_on_one_line():
    assert inline("a\n  b\r\nc\x1b") == "a b c\\x1b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b", r"a \| b"),
        ("<script>alert(1)</script>", r"\<script\>alert\(1\)\</script\>"),
        ("![x](http://a/b.png)", r"\!\[x\]\(http://a/b.png\)"),
        ("`code` *bold* _it_", r"\`code\` \*bold\* \_it\_"),
        ("ask @someone about #12", "ask @\u200bsomeone about \\#\u200b12"),
        ("two\nlines", "two lines"),
        ("&lt;", r"\&lt;"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, shown: str):
    assert markdown(text) == shown


def test_a_plain_cell_is_left_alone():
    assert cell("dynamo-op20-fp32 (0.79 MB, 4.08-7.93)") == "dynamo-op20-fp32 (0.79 MB, 4.08-7.93)"
    assert cell("a|b") == r"a\|b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("name", "`name`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("a|b", r"`a\|b`"),
        ("a\nb", "`a b`"),
        ("", ""),
    ],
)
def test_code(text: str, shown: str):
    assert code(text) == shown


def test_a_block_cannot_be_left():
    assert fenced("a\n```\n# b") == "````text\na\n```\n# b\n````"


def test_a_command_of_a_workflow_stays_one():
    assert workflow_data("100%\n::error::x\r") == "100%25%0A::error::x\\x0d"
    assert workflow_property("a:b,c\nd") == "a%3Ab%2Cc%0Ad"

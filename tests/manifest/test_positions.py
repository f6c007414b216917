"""The lines of keys, on the parts of TOML that a naive scanner gets wrong."""

import tomllib

import pytest

from pytest_onnxcheck.manifest.positions import key_lines

#: three tildes stand for three apostrophes
DOCUMENT = r'''# a comment with [brackets] and key = "value"
schema = 1 # another
title = "a # that is no comment, [no.table] and \"quotes\" \\"
literal = 'C:\[dir]\#'
empty = ""
'empty literal' = ''

multi = """
[not.a.table]
not_a_key = 1 # "
"" two quotes \""" escaped
"""
multi_literal = ~~~
[[not.an.array]]
not_a_key = '' # '
~~~
closing_quotes = """ends in two quotes"""""
closing_apostrophes = ~~~ends in one apostrophe~~~'
line_ending = """\
    continued \
    here"""

"quoted key" = 1
"with.dot" = 2
"with \"escapes\" \u00e9" = 3
'literal "key"' = 4
1234 = "a bare key of digits"
"" = "an empty key"

dotted.a.b = 1
dotted . a . c = 2
dotted."x.y".z = 3

integers = [1, 0xff, 1_000, -3]
floats = [1e-5, inf, -nan, 6.02]
dates = [1979-05-27T07:32:00Z, 1979-05-27 07:32:00, 07:32:00]
flags = [true, false,]
nothing = []
no_keys = {}

nested = [[1, 2], [], [[3], ["]", '[', "#"]]]
spread = [
    # a comment with ] and ,
    1, # one ]
    2
    , # before the comma
    [
        3,  # "

        4
    ],

]
inline = { a = 1, b.c = { d = [1, { e = 2 }], "f g" = "}" }, h = "," }
mixed = [{ x = 1 }, { y = [{ z = 1 }] }]

[table] # with a comment ]
key = 1
sub.key = 2

  [table.indented]
  key = 3

[ spaced . "out key" ]
key = 4

[later.child.grandchild]
key = 5

[later]
key = 6

[later.child]
key = 7

[[array]]
name = "first"

[array.table]
key = 8

[[array.inner]]
key = 9

[[array.inner]]
key = 10

[array.inner.deep]
key = 11

[[array]]
name = "second"
list = [{ p = 1 }]

[[array.inner]]
key = 12

[models."a b".inputs.x]
shape = [
    "batch",
    1,
]
'''.replace("~~~", "'" * 3)


def paths(value, path=()):
    """The paths of every table, key and array element in what tomllib gives."""
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    else:
        return
    for key, entry in entries:
        yield (*path, key)
        yield from paths(entry, (*path, key))


def spellings(key):
    """How a key may be written in the file."""
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return {key, escaped, escaped.replace("é", "\\u00e9")}


def test_every_key_of_a_large_document_is_found_on_a_line_that_holds_it():
    text = DOCUMENT
    lines = text.split("\n")
    found = key_lines(text)
    wanted = list(paths(tomllib.loads(text)))
    assert len(wanted) > 100
    for path in wanted:
        assert path in found, path
        key = path[-1]
        if isinstance(key, str):
            assert any(spelling in lines[found[path] - 1] for spelling in spellings(key)), path


def test_no_key_is_found_that_is_not_there():
    assert set(key_lines(DOCUMENT)) == set(paths(tomllib.loads(DOCUMENT)))


def test_crlf_gives_the_same_lines():
    assert key_lines(DOCUMENT.replace("\n", "\r\n")) == key_lines(DOCUMENT)


def test_no_newline_at_the_end():
    assert key_lines(DOCUMENT.rstrip("\n")) == key_lines(DOCUMENT)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "\r\n# and\r\n"])
def test_an_empty_document_has_no_keys(text):
    assert key_lines(text) == {}


def test_multi_line_strings_hide_brackets_and_comment_signs():
    text = 'a = """\n[b]\n# c\nd = 1\n"""\ne = 1\n'
    assert key_lines(text) == {("a",): 1, ("e",): 6}


def test_quotes_just_before_the_closing_quotes_belong_to_the_string():
    text = 'a = """x"""""\nb = \'\'\'y\'\'\'\'\nc = """"z"""\nd = 1\n'
    assert key_lines(text) == {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4}


def test_quoted_keys_keep_their_dots():
    text = "[models.\"a.b\"]\n'c.d' = 1\n"
    lines = key_lines(text)
    assert lines[("models", "a.b")] == 1
    assert lines[("models", "a.b", "c.d")] == 2


def test_escapes_in_quoted_keys_are_resolved():
    text = '"t\\tab" = 1\n"\\U0001F600" = 2\n"back\\\\slash" = 3\n'
    assert key_lines(text) == {("t\tab",): 1, ("\U0001f600",): 2, ("back\\slash",): 3}


def test_dotted_keys_give_their_parents_the_first_line():
    assert key_lines("a.b.c = 1\na.b.d = 2\n") == {
        ("a",): 1,
        ("a", "b"): 1,
        ("a", "b", "c"): 1,
        ("a", "b", "d"): 2,
    }


def test_a_table_stands_at_its_own_header_even_after_its_children():
    lines = key_lines("[a.b]\nx = 1\n\n[a]\ny = 2\n")
    assert (lines[("a",)], lines[("a", "b")]) == (4, 1)


def test_elements_of_an_array_over_many_lines_have_lines_of_their_own():
    text = "a = [\n  1, # ]\n  # 2,\n  [3,\n   4],\n  { b = 5 },\n]\n"
    assert key_lines(text) == {
        ("a",): 1,
        ("a", 0): 2,
        ("a", 1): 4,
        ("a", 1, 0): 4,
        ("a", 1, 1): 5,
        ("a", 2): 6,
        ("a", 2, "b"): 6,
    }


def test_inline_tables_over_many_arrays():
    text = "a = { b = [\n  { c = 1 },\n  { c = 2 }\n], d = 3 }\n"
    lines = key_lines(text)
    assert lines[("a", "b", 0, "c")] == 2
    assert lines[("a", "b", 1, "c")] == 3
    assert lines[("a", "d")] == 4


def test_arrays_of_tables_count_per_parent():
    text = "[[a]]\n[[a.b]]\nx = 1\n[[a.b]]\nx = 2\n[a.b.c]\ny = 3\n[[a]]\n[[a.b]]\nx = 4\n"
    lines = key_lines(text)
    assert lines[("a", 0, "b", 0, "x")] == 3
    assert lines[("a", 0, "b", 1, "x")] == 5
    assert lines[("a", 0, "b", 1, "c", "y")] == 7
    assert lines[("a", 1, "b", 0, "x")] == 10
    assert ("a", 1, "b", 1) not in lines

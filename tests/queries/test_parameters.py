"""`:name` becomes `$n` where PostgreSQL would read a parameter, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.queries import number


@pytest.mark.parametrize(
    ("sql", "text", "names"),
    [
        ("select :a, :b, :a", "select $1, $2, $1", ("a", "b")),
        ("select :a::text, :a :: int", "select $1::text, $1 :: int", ("a",)),
        ("select ':a', 'it''s :a', :b", "select ':a', 'it''s :a', $1", ("b",)),
        (r"select E'\':a', e'\\', :b", r"select E'\':a', e'\\', $1", ("b",)),
        (r"select 'ends in a backslash\', :b", r"select 'ends in a backslash\', $1", ("b",)),
        (r"select type'\', :b", r"select type'\', $1", ("b",)),
        ('select ":a", "say "":a""", :b', 'select ":a", "say "":a""", $1', ("b",)),
        ("select 1 -- :a 'open\n, :b", "select 1 -- :a 'open\n, $1", ("b",)),
        ("/* :a /* nested */ :a */ select :b", "/* :a /* nested */ :a */ select $1", ("b",)),
        ("/* never closed :a", "/* never closed :a", ()),
        ("select $$ :a $$, $tag$ :a $$ $tag$, :b", "select $$ :a $$, $tag$ :a $$ $tag$, $1", ("b",)),
        ("select a$b$c, :d, x$b$", "select a$b$c, $1, x$b$", ("d",)),
        ("select v[1 : 2], v[1:2], v[:lo : :hi]", "select v[1 : 2], v[1:2], v[$1 : $2]", ("lo", "hi")),
        ("call f(a := :a, b => :b)", "call f(a := $1, b => $2)", ("a", "b")),
        ("select '%', 7 % 2, :a", "select '%', 7 % 2, $1", ("a",)),
        ("select :a_1, :a", "select $1, $2", ("a_1", "a")),
        ("select U&'d\\0061t:a', :b", "select U&'d\\0061t:a', $1", ("b",)),
    ],
)
def test_a_colon_is_read_as_postgresql_reads_it(sql: str, text: str, names: tuple[str, ...]) -> None:
    assert number(sql) == (text, names)


words = st.text(alphabet=":ab'\"$/*-%\\ é", max_size=8)
opaque = st.one_of(
    words.map(lambda text: "'" + text.replace("'", "''") + "'"),
    words.map(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
    words.map(lambda text: '"' + text.replace('"', '""') + '"'),
    words.map(lambda text: f"-- {text}\n"),
    words.map(lambda text: "/* " + text.replace("/", "").replace("*", "") + " /* :nested */ */"),
    words.map(lambda text: f"$tag${text}$tag$"),
    words.map(lambda text: f"$${text.replace('$', '')}$$"),
    st.sampled_from(["select", "x::a", "v[1 : 2]", "a := 1", "a$b$", "type", "1.5", "(", ")", "||", "%"]),
)
named = st.sampled_from(["a", "b", "c_1"])


@given(st.lists(st.one_of(opaque, named.map(lambda name: (name,)))))
def test_literals_identifiers_and_comments_are_never_rewritten(pieces: list[str | tuple[str]]) -> None:
    names = list(dict.fromkeys(piece[0] for piece in pieces if isinstance(piece, tuple)))
    source = [piece if isinstance(piece, str) else f":{piece[0]}" for piece in pieces]
    expected = [piece if isinstance(piece, str) else f"${names.index(piece[0]) + 1}" for piece in pieces]
    assert number(" ".join(source)) == (" ".join(expected), tuple(names))

"""What a careless or hostile world may put where a text, a name or a document is wanted."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

SAMPLES = [
    *("", " ", "-", "--", "-n", "~", "*", "#", "!!", "..", "../..", "/", "a b", "a=b", "{a,b}", "a;b", "$(id)", "`id`"),
    *("\U0001f600", "%s"),
    *("$HOME", "'", '"', "\\", "a\\", "\n", "a\nb", "\t", "\r", "\x1b[2J", "\x7f\x01", "\u202e", "ключ"),
]
# Any text that a program's argument can be: no NUL; single surrogates stand for bytes that are not UTF-8.
WORDS = st.one_of(
    st.sampled_from(SAMPLES),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
    st.binary(max_size=8).map(lambda data: data.replace(b"\0", b"\xff").decode("utf-8", "surrogateescape")),
)
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 10**400, -(10**400), 1e308, 2**63, 1e11, float("nan")])
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8), st.sampled_from(SAMPLES)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
DEEP = b"[" * 20_000


def documents(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects that have some of these names, and anything under them."""
    return st.dictionaries(st.sampled_from(names), JSON, max_size=len(names))


def files(objects: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return the contents of a file that should hold one of these objects as JSON, and may hold anything."""
    texts = objects.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    return st.one_of(
        texts,
        st.builds(lambda text, cut: text[:cut], texts, st.integers(0, 60)),
        st.binary(max_size=20),
        st.sampled_from([b"", b"\xff\xfe", b"null", b"[]", DEEP, b'{"a":' * 20_000, b"\0" * 4096, b"9" * 5000]),
    )

"""The text of .runpod.env, as the user's design has it and as people write it."""

import pytest

from podtasks.pure.env_file import parse_env_file, with_value
from podtasks.pure.errors import SettingsError

EXAMPLE = """\
RUNPOD_API_KEY=your_api_key_here
NETWORK_VOLUME_ID=your_volume_id_here
POD_ID=                          # written automatically after the first run
SSH_KEY_PATH=~/.ssh/id_ed25519
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n\n# only a comment\n  # and one more", {}),
        (EXAMPLE.splitlines()[2], {"POD_ID": ""}),
        ("A=", {"A": ""}),
        ("A=b", {"A": "b"}),
        ("A = b c   # why", {"A": "b c"}),
        ("A=#b", {"A": "#b"}),
        ("A=b#c", {"A": "b#c"}),
        ("A='b # c' # why", {"A": "b # c"}),
        ('export A="b c"', {"A": "b c"}),
        ("A='$HOME' \nB=${A}", {"A": "$HOME", "B": "${A}"}),
        ("A=b\r\nB=c\r\n", {"A": "b", "B": "c"}),
        ("\ufeffA=b", {"A": "b"}),
        ("GPU_TYPE=NVIDIA A100 80GB PCIe", {"GPU_TYPE": "NVIDIA A100 80GB PCIe"}),
    ],
)
def test_parse_env_file_reads_what_people_write(text: str, expected: dict[str, str]) -> None:
    assert parse_env_file(text) == expected


@pytest.mark.parametrize(
    "bad", ["rpa_SECRET", "RPASECRET", "rpa_secret=", "=rpaSECRET", "KEY 'rpaSECRET'", "KEY='rpaSECRET"]
)
def test_parse_env_file_names_the_bad_line_and_never_quotes_it(bad: str) -> None:
    with pytest.raises(SettingsError) as failure:
        parse_env_file(f"# comment\n\nA=1\n{bad}\nB=2\n", ".runpod.env")
    assert "line 4: must be KEY=VALUE" in str(failure.value)
    assert "secret" not in str(failure.value).lower()


def test_parse_env_file_reports_every_problem_at_once() -> None:
    with pytest.raises(SettingsError) as failure:
        parse_env_file("A=one\nnonsense\n\nA=two\nA=three")
    assert failure.value.what.splitlines()[1:] == [
        "  line 2: must be KEY=VALUE, the key in capital letters",
        "  line 4: A is already set in line 1",
        "  line 5: A is already set in line 1",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "POD_ID=abc\n"),
        ("A=1", "A=1\nPOD_ID=abc\n"),
        ("A=1\r\n", "A=1\r\nPOD_ID=abc\r\n"),
        ("# note", "# note\nPOD_ID=abc\n"),
        ("POD_ID=", "POD_ID=abc"),
        ("POD_ID=old", "POD_ID=abc"),
        ("POD_ID=old\r\nA=1\r\n", "POD_ID=abc\r\nA=1\r\n"),
        ("POD_ID='old' # note\n", "POD_ID='abc' # note\n"),
        ('export POD_ID="old"\n', 'export POD_ID="abc"\n'),
        ("POD_ID = old  # note\n", "POD_ID = abc  # note\n"),
        ("POD_ID=     # note\n", "POD_ID=abc  # note\n"),
        ("POD_ID= # note\n", "POD_ID=abc # note\n"),
        ("POD_ID\nA=1\n", "POD_ID=abc\nA=1\n"),
        ("#POD_ID=old\n", "#POD_ID=old\nPOD_ID=abc\n"),
        ("MY_POD_ID=1\n", "MY_POD_ID=1\nPOD_ID=abc\n"),
        ("POD_ID=one\nPOD_ID=two\n", "POD_ID=one\nPOD_ID=abc\n"),
        ("\ufeffPOD_ID=\n", "\ufeffPOD_ID=abc\n"),
        ("nonsense here\nPOD_ID=\n", "nonsense here\nPOD_ID=abc\n"),
    ],
)
def test_with_value_changes_one_value_and_nothing_else(text: str, expected: str) -> None:
    assert with_value(text, "POD_ID", "abc") == expected


def test_with_value_keeps_the_comment_of_the_users_example_in_its_column() -> None:
    rewritten = with_value(EXAMPLE, "POD_ID", "x1y2z3")
    assert rewritten.splitlines()[2] == "POD_ID=x1y2z3                    # written automatically after the first run"
    assert with_value(rewritten, "POD_ID", "").splitlines()[2].startswith("POD_ID=    ")
    assert parse_env_file(with_value(rewritten, "POD_ID", ""))["POD_ID"] == ""


@pytest.mark.parametrize(
    ("key", "value"), [("POD_ID", "a\nb"), ("POD_ID", "a\0b"), ("POD ID", "a"), ("", "a"), ("A=B\nC", "a")]
)
def test_with_value_refuses_what_does_not_fit_on_a_line(key: str, value: str) -> None:
    with pytest.raises(SettingsError, match="cannot be written"):
        with_value(EXAMPLE, key, value)

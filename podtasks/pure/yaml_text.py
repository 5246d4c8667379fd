"""YAML that a person wrote: read with one kind of failure, whatever is wrong with it."""

from __future__ import annotations

import yaml


class YamlTextError(ValueError):
    """The text is not YAML; its message says where (line and column, counted from 1) and why."""


def load_yaml(text: str) -> object:
    """Return the value a YAML text stands for.

    Raises:
        YamlTextError: the text is not YAML, or holds a value that YAML's types do not allow.
    """
    try:
        value: object = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise YamlTextError(_place(error) + (error.problem or "not YAML")) from None
    except yaml.YAMLError as error:
        raise YamlTextError(str(error).splitlines()[0]) from None
    except RecursionError:
        raise YamlTextError("it is nested too deeply") from None
    except Exception as error:
        # PyYAML lets its constructors' own errors out: IndexError for `!!int ""`, ValueError for 2001-99-99.
        raise YamlTextError(f"a value in it cannot be read ({type(error).__name__})") from None
    return value


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""

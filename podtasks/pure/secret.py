"""Values that must never be shown: API keys and S3 keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

MASK = "[secret]"
# Shorter ones are no keys, and would be found in the middle of words.
LEAST_HIDDEN = 8
_known: set[str] = set()


def hide_secrets(text: str) -> str:
    """Return text with every secret that was made in this process replaced by ``[secret]``, whoever quotes it."""
    for value in sorted(_known, key=len, reverse=True):
        text = text.replace(value, MASK)
    return text


class Secret:
    """A text that shows itself as ``[secret]`` wherever it is printed, formatted, logged or dumped.

    Args:
        value: the text to keep; `reveal()` is the only way to it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        _known.update(part for part in {value, value.strip()} if len(part) >= LEAST_HIDDEN)

    def reveal(self) -> str:
        """Return the secret text itself, to be handed to the one program that needs it."""
        return self._value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return MASK

    def __format__(self, format_spec: str) -> str:
        return format(MASK, format_spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    @classmethod
    def _from_text(cls, value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        if isinstance(value, str):
            return cls(value)
        raise ValueError("must be text")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        from pydantic_core import core_schema  # imported here: a Secret is also used without settings

        return core_schema.no_info_plain_validator_function(
            cls._from_text,
            serialization=core_schema.to_string_ser_schema(when_used="json"),
        )

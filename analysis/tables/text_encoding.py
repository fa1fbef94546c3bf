"""Turns the bytes of a text file into text, whatever its encoding. Not here: what the text means."""

from scaling.core.byte_order_marks import encoding_of_mark

CONTROL_CHARACTERS = {chr(code) for code in range(32)} - set("\t\n\r\f\v")
"""Characters that no table of text holds."""


def decode(data: bytes) -> tuple[str, str | None]:
    """The text, and the name of its encoding where that is not UTF-8. Raises ValueError where the bytes are no text."""
    if encoding := encoding_of_mark(data):
        return _checked(data.decode(encoding)), None if encoding == "utf-8-sig" else encoding.upper()
    if byte_order := _utf16_without_mark(data):
        return _checked(data.decode(byte_order)), "UTF-16"
    try:
        return _checked(data.decode("utf-8")), None
    except UnicodeDecodeError:
        pass
    try:
        return _checked(data.decode("cp1252")), "Latin-1"  # Windows' extension of Latin-1
    except UnicodeDecodeError:
        return _checked(data.decode("latin-1")), "Latin-1"


def _utf16_without_mark(data: bytes) -> str | None:
    """The byte order of UTF-16 that has no mark: every second byte of mostly ASCII text is 0."""
    start = data[:4096]
    if len(data) % 2 or b"\0" not in start:
        return None
    zeros = [start[parity::2].count(0) / (len(start) / 2) for parity in (0, 1)]
    if zeros[0] < 0.01 and zeros[1] > 0.5:
        return "utf-16-le"
    return "utf-16-be" if zeros[1] < 0.01 and zeros[0] > 0.5 else None


def _checked(text: str) -> str:
    if CONTROL_CHARACTERS & set(text):
        raise ValueError("it holds binary data, no text")
    return text

"""The encodings that a text file names by the bytes that it begins with."""

import codecs

ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by mark. The mark of UTF-32 comes before that of UTF-16, which is its beginning."""


def encoding_of_mark(content: bytes) -> str | None:
    """The encoding, as Python names it, of a text that begins with a byte order mark; None where it has none."""
    return next((encoding for mark, encoding in ENCODINGS.items() if content.startswith(mark)), None)

"""Sentences for a person in the little room that a DICOM attribute has."""

from __future__ import annotations

_USUAL = " (usual "
_CUT = " ..."


def sentence_within(sentence: str, room: int) -> str:
    """The sentence in at most `room` characters of ASCII: without what is usual, then whole clauses, then whole words.

    Returns:
        Empty where not even the first word fits.

    Examples:
        >>> said = "the scan ends within the liver, 3.1% of the surface lies on its border (usual 0% to 2%)"
        >>> sentence_within(said, 40)
        'the scan ends within the liver'
        >>> sentence_within(said, 20)
        'the scan ends ...'
    """
    # A backslash would divide the attribute into two values (PS3.5 6.2).
    plain = sentence.partition(_USUAL)[0].replace("\\", "/").encode("ascii", "replace").decode()
    clauses = plain.split(", ")
    while clauses and len(", ".join(clauses)) > room:
        clauses.pop()
    if clauses:
        return ", ".join(clauses)
    words = plain.split()
    while words and len(" ".join(words) + _CUT) > room:
        words.pop()
    return " ".join(words) + _CUT if words else ""

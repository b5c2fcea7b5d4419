"""What a matcher is called, on the command line, in configurations and in Python: FAMILY[:SOURCE][,OPTION…][@SCORE]."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from lightmatch.errors import InvalidValueError

GRAMMAR = "FAMILY[:SOURCE][,OPTION…][@SCORE]"


@dataclass(frozen=True)
class MatcherSpec:
    """A matcher by name; `parse_matcher` makes it from text, and `str` gives the text back."""

    family: str  # of `available_matchers`
    source: str = ""  # what stands behind the colon: a file of weights, a ratio, a name; "": the family's own choice
    options: tuple[str, ...] = ()  # of those that the family has
    min_score: float | None = None  # only matches that score higher count; None: the matcher's own threshold

    def __str__(self) -> str:
        source = f":{self.source}" if self.source else ""
        score = "" if self.min_score is None else f"@{self.min_score:g}"
        return "".join((self.family, source, *(f",{option}" for option in self.options), score))


def family_name(text: str) -> str:
    """The family that a specification begins with, whether there is such a one or not."""
    return re.split(r"[:,@]", text, maxsplit=1)[0]


def split_spec(text: str, options: Collection[str]) -> MatcherSpec:
    """The parts of a specification whose family has these options.

    The name of a file may hold commas: of what stands behind a colon, only options of the family are taken off the end.
    Raises InvalidValueError for an option that the family does not have, or that is given twice.
    """
    scored = re.fullmatch(r"(.+)@(0|1|0?\.\d+)", text)
    body, min_score = (scored[1], float(scored[2])) if scored else (text, None)
    family = family_name(body)
    rest, chosen = body[len(family) :], []
    while "," in rest and (rest[0] == "," or rest.rpartition(",")[2] in options):
        rest, _, option = rest.rpartition(",")
        chosen.insert(0, option)
    if rest[:1] == "@":
        raise InvalidValueError(f"matcher {text!r}: expected a score of 0…1 behind @, got {rest[1:]!r}")
    if rest == ":":
        raise InvalidValueError(f"matcher {text!r}: expected a source behind the colon, got none; leave the colon out")
    wrong = [option for option in chosen if option not in options or chosen.count(option) > 1]
    if wrong:
        expected = f"each of the options {', '.join(options)} at most once" if options else "no options"
        raise InvalidValueError(f"matcher {text!r}: expected {expected}, got {wrong[0]!r}; leave it out")
    return MatcherSpec(family, rest[1:], tuple(chosen), min_score)

"""Errors that are more than a class."""

import pytest

from lightmatch.errors import MissingDependencyError, import_optional


def test_a_library_that_is_there_is_imported() -> None:
    assert import_optional("json.decoder", "any").JSONDecoder


def test_a_library_that_is_not_there_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(MissingDependencyError, match=r"no_such_library.*pip install '\.\[evaluation\]'"):
        import_optional("no_such_library.part", "evaluation")

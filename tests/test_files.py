from pathlib import Path

import pytest

from lightmatch.files import replacing


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as unfinished:
        unfinished.write_text("one")
        assert not path.exists()
    with pytest.raises(ValueError, match="half way"), replacing(path) as unfinished:
        unfinished.write_text("two")
        raise ValueError("half way")
    assert path.read_text() == "one" and list(path.parent.iterdir()) == [path]

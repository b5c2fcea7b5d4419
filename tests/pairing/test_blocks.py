from lightmatch.pairing import exhaustive, share_images


def test_blocks_hold_every_pair_once_and_few_photos() -> None:
    pairs = [(f"{i}.jpg", f"{j}.jpg") for i, j in exhaustive(11)]
    blocks = share_images(pairs, 4)
    assert sorted(pair for block in blocks for pair in block) == sorted(pairs)
    for block in blocks:
        assert all(len({pair[side] for pair in block}) <= 4 for side in (0, 1))
    photos_of_blocks = sum(len({name for pair in block for name in pair}) for block in blocks)
    assert photos_of_blocks < len(pairs)  # of 110 if each pair stood alone


def test_no_pairs_make_no_blocks() -> None:
    assert share_images([], 4) == []

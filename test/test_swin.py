"""Our Swin Transformer against timm's where both compute the same, and its windows where they do not."""

import torch
from timm.models.swin_transformer import SwinTransformer

from pave_ros.models.swin import Block, OutputNorms, Swin, shift_mask


@torch.no_grad()
def test_equals_timm_where_no_map_has_to_be_padded() -> None:
    torch.manual_seed(0)
    shape = {"embed_dim": 24, "depths": (1, 2, 2, 2), "num_heads": (1, 2, 3, 6)}
    theirs = SwinTransformer(img_size=448, **shape).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = Swin(*shape.values(), drop_path=0.0).eval()
    state = theirs.state_dict()
    ours.load_state_dict({key: state[key] for key in ours.state_dict()})  # The names are timm's.
    images = torch.randn(1, 3, 448, 448)
    expected = theirs.forward_intermediates(images, intermediates_only=True)
    for map_, other in zip(ours(images), expected, strict=True):
        torch.testing.assert_close(map_.permute(0, 3, 1, 2), other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_maps_are_padded_before_they_are_shifted() -> None:
    """A map of 8 x 8 is padded to 14 x 14 and shifted by 3: the pixels 0, 1, 2 are then a window's end, 3 is another's
    beginning. Shifted before padding, they would share one."""
    torch.manual_seed(0)
    block = Block(8, 2, shift=3, rate=0.0).eval()
    map_ = torch.randn(1, 8, 8, 8)
    before = block(map_, shift_mask(14, 14, map_))
    assert before.shape == map_.shape
    for place, reaches in ((2, True), (3, False)):
        changed = map_.clone()
        changed[0, place, place] += 1
        after = block(changed, shift_mask(14, 14, map_))
        assert (not torch.equal(after[0, 0, 0], before[0, 0, 0])) is reaches
        assert not torch.equal(after[0, place, place], before[0, place, place])


@torch.no_grad()
def test_any_size_gives_maps_rounded_up() -> None:
    backbone = Swin(24, (1, 1, 2, 1), (1, 2, 3, 4), drop_path=0.0).eval()
    maps = OutputNorms(backbone.channels)(backbone(torch.zeros(2, 3, 70, 101)))
    shapes = [tuple(m.shape) for m in maps]
    assert shapes == [(2, 24, 18, 26), (2, 48, 9, 13), (2, 96, 5, 7), (2, 192, 3, 4)]

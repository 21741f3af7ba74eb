"""Guided Distillation's published settings, and their networks made small."""

from reduced_configs import all_dicts

# Parameters in millions: Mask2Former's Table 1 (arXiv 2112.01527) for the first six,
# the transformer's own and 20 of the decoders for the rest.
SIZES = dict(
    r50=44,
    r101=63,
    swin_t=47,
    swin_s=69,
    swin_b=107,
    swin_l=216,
    dinov2_b=109,
    dinov2_l=327,
    deit_b=108,
    dinov2_s_dpt=55,
)
SHARES = dict(
    cityscapes=('5pct', '10pct', '20pct', '30pct'),
    coco=('0.4pct', '1pct', '2pct', '5pct', '10pct'),
)
DEFAULT = ('r50', '10pct')
SETTINGS = [
    (data, backbone, share)
    for data, shares in SHARES.items()
    for backbone in SIZES
    for share in shares
    if DEFAULT[0] == backbone or DEFAULT[1] == share
]


def entry_point(stage, data, backbone='r50', share='10pct'):
    """The name of a setting's config: what is not the default, behind the data set."""
    parts = [part for part in (backbone, share) if part not in DEFAULT]
    return '_'.join([f'guided_{stage}', data, *parts]).replace('.', '_')


def shrink(model):
    """Make a published network small, in its config: its backbone and its decoder."""
    vit = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48)
    backbone, head = model.backbone, model.panoptic_head
    backbone.init_cfg = None
    widths = [8, 16, 32, 64]
    if backbone.type == 'ResNet':
        backbone.update(depth=18, base_channels=8)
    elif backbone.type == 'ImageNetSwin':
        backbone.update(embed_dims=8, depths=[2, 1, 1, 1], num_heads=[1, 1, 2, 2])
    elif backbone.type == 'ViTPyramid':
        backbone.update(out_channels=widths)
        backbone.vit.arch = vit
        if 'out_indices' in backbone.vit:
            backbone.vit.out_indices = [3]
    else:
        backbone.arch = vit
        widths = [24] * 4
    head.update(in_channels=widths, num_queries=10, feat_channels=32, out_channels=32)
    small = dict(embed_dims=32, num_feats=16, feedforward_channels=32, num_layers=1)
    for part in list(all_dicts(head)):
        part.update({key: value for key, value in small.items() if key in part})
    model.train_cfg.num_points = 64
    model.test_cfg.max_per_image = 10

"""Guided Distillation's published settings."""

# Parameters in millions. The first six are from Table 1 of Mask2Former (arXiv
# 2112.01527). DINOv2 and DeiT have the transformer's own count plus about 20 for the
# decoders. dpt256 is CAST's student, with the count of test_stages.py.
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
    dpt256=55,
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


def switches(data, backbone='r50', share='10pct'):
    """Return the environment variables of a setting."""
    found = {}
    if share != DEFAULT[1]:
        found['SPLIT'] = share
    if backbone != DEFAULT[0]:
        synchronised = data == 'cityscapes' and backbone == 'r101'
        found['STUDENT'] = backbone + ('_syncbn' if synchronised else '')
    return found


def folder(stage, data, *setting):
    """Return the work folder of a stage of a setting."""
    given = switches(data, *setting)
    parts = ['work_dirs', *(given[k] for k in ('SPLIT', 'STUDENT') if k in given)]
    return '/'.join([*parts, 'guided_distillation', f'{stage}_{data}'])

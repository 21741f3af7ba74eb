"""Test that the start leaves out what no stage needs, and that it works later."""

import copy
import subprocess
import sys

import pytest

from mmcast._requirements import mim_name

pytest.importorskip('transformers')


def run(code: str) -> str:
    command = [sys.executable, '-c', code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert not result.returncode, result.stderr
    # The forks print lines of their own first.
    return (result.stdout.splitlines() or [''])[-1]


def test_stand_ins_can_be_copied() -> None:
    from mmcast.compat.light_imports import Later

    assert copy.deepcopy(Later(lambda: list))() == []


def test_slow_packages_are_not_imported() -> None:
    found = run(
        'import sys, mmcast; print(*(name for name in ("transformers", '
        '"matplotlib.pyplot", "torch._dynamo") if name in sys.modules))'
    )
    # The forks' mmdet imports pyplot in more places.
    assert found == ('' if mim_name() == 'mmdet' else 'matplotlib.pyplot')


def test_what_only_users_call_is_not_imported() -> None:
    found = run(
        'import sys, mmcast.apis; print(*(name for name in ("mmcast.report", '
        '"mmcast.visualization.instances") if name in sys.modules))'
    )
    assert found == ''


def test_language_models_work_when_they_are_used(tmp_path) -> None:
    from mmcast.testing import save_bert

    save_bert(tmp_path)
    code = f"""
import sys
import mmcast
from mmdet.registry import MODELS
assert 'transformers' not in sys.modules
bert = MODELS.build(dict(type='mmdet.BertModel', name={str(tmp_path)!r}, max_tokens=8))
from transformers import BertModel
assert isinstance(bert.language_backbone.body.model, BertModel)
# GLIP's layers inherit from transformers' classes.
from mmdet.models.dense_heads import atss_vlfusion_head as glip
layer = glip.BertEncoderLayer(glip.BertConfig.from_pretrained({str(tmp_path)!r}))
from transformers import BertPreTrainedModel
assert isinstance(layer, BertPreTrainedModel)
"""
    run(code)


def test_mmengines_optimizer_from_transformers_is_there() -> None:
    run(
        'import mmcast, torch\nfrom mmengine.registry import OPTIMIZERS\n'
        'weights = [torch.nn.Parameter(torch.ones(2))]\n'
        'found = OPTIMIZERS.build(dict(type="Adafactor", params=weights))\n'
        'assert type(found).__name__ == "Adafactor"'
    )


def test_other_stand_ins_become_the_real_functions() -> None:
    found = run(
        'import mmcast, mmdet.utils, torch, torch._dynamo.utils\n'
        'from torchvision.ops import roi_align\n'
        'boxes = [torch.tensor([[0.0, 0, 4, 4]])]\n'
        'assert roi_align(torch.ones(1, 1, 8, 8), boxes, 2).eq(1).all()\n'
        'try:\n'
        '    mmdet.utils.imshow_mot_errors(backend="none")\n'
        'except NotImplementedError:\n'
        '    print("real")'
    )
    assert found == 'real'


def test_left_out_models_name_the_remedy() -> None:
    code = """
import mmcast
from mmdet.registry import MODELS
try:
    MODELS.build(dict(type='mmpretrain.CLIP'))
except ImportError as error:
    print(error)
"""
    assert "imports=['transformers', 'mmcast']" in run(code)
    found = run(
        'import transformers, mmcast\nfrom mmpretrain.registry import MODELS\n'
        'print(MODELS.get("BlipCaption").__module__)'
    )
    assert found == 'mmpretrain.models.multimodal.blip.blip_caption'

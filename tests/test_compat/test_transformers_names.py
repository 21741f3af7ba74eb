"""Test that mmdet.models can be imported with the installed transformers."""

import subprocess
import sys

import pytest
from packaging.version import Version

from mmcast._requirements import distribution_of

transformers = pytest.importorskip('transformers')

# The environment of `make` has the fix from the start.
WITHOUT = """
import sys
names = [type(finder).__name__ for finder in sys.meta_path]
if '_AheadOfMmpretrain' in names:
    del sys.meta_path[names.index('_AheadOfMmpretrain')]
"""
# Load this file alone: `import mmcast` would apply every compat module.
APPLY = """
import importlib.util
from mmengine.config import Config  # as in a run: mmengine comes first
spec = importlib.util.spec_from_file_location('gap', {path!r})
gap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gap)
gap.apply{when}()
"""


def import_mmdet_models(
    before: str, after: str = ''
) -> subprocess.CompletedProcess[str]:
    code = f'{WITHOUT}{before}\nimport mmdet.models\n{after}\nprint("imported")'
    command = [sys.executable, '-c', code]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(
    Version(transformers.__version__) < Version('4.52')
    or not distribution_of('mmdet').version.startswith('3.3'),
    reason='the gap is between mmdet 3.3 and transformers >= 4.52',
)
def test_without_the_fix_the_import_fails() -> None:
    result = import_mmdet_models('')
    assert result.returncode
    assert 'NoneType takes no arguments' in result.stderr


def test_with_the_fix_the_import_works() -> None:
    from mmcast.compat import transformers_names

    code = APPLY.format(path=transformers_names.__file__, when='')
    result = import_mmdet_models(code)
    assert result.stdout.endswith('imported\n'), result.stderr


def test_fix_waits_for_the_import() -> None:
    """Import mmcast second, which then works as ever; nothing is imported early."""
    from mmcast.compat import transformers_names

    path = transformers_names.__file__
    code = APPLY.format(path=path, when='_in_time').replace('from mmengine', '# from')
    code += (
        'import sys\n'
        'assert sys.meta_path[0].find_spec("numpy", None) is None\n'
        'assert not {"torch", "transformers", "mmengine"} & sys.modules.keys()\n'
    )
    after = (
        'assert type(sys.meta_path[0]).__name__ != "_AheadOfMmpretrain"\n'
        'import mmcast\n'
        'from mmdet.registry import MODELS\n'
        'backbone = MODELS.build(dict(type="mmpretrain.MobileNetV2"))\n'
        'assert backbone.eval() is backbone\n'
    )
    result = import_mmdet_models(code, after)
    assert result.stdout.endswith('imported\n'), result.stderr


def test_restored_names_are_those_of_transformers() -> None:
    import transformers.generation
    import transformers.modeling_utils
    import transformers.pytorch_utils

    from mmcast.compat import transformers_names

    transformers_names.apply()
    old_home = transformers.modeling_utils
    mixin = transformers.generation.GenerationMixin
    chunking = transformers.pytorch_utils.apply_chunking_to_forward
    assert old_home.GenerationMixin is mixin
    assert old_home.apply_chunking_to_forward is chunking

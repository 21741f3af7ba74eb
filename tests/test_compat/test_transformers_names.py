"""Test that mmdet.models can be imported with the installed transformers."""

import subprocess
import sys

import pytest
from packaging.version import Version

from mmcast._requirements import distribution_of

transformers = pytest.importorskip('transformers')

# Load this file alone: `import mmcast` would apply every compat module.
APPLY = """
import importlib.util
from mmengine.config import Config  # as in a run: mmengine comes first
spec = importlib.util.spec_from_file_location('gap', {path!r})
gap = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gap)
gap.apply()
"""


def import_mmdet_models(before: str) -> subprocess.CompletedProcess[str]:
    code = f'{before}\nimport mmdet.models\nprint("imported")'
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

    result = import_mmdet_models(APPLY.format(path=transformers_names.__file__))
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

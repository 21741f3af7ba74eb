"""Build script of mmcast.

Only what needs code is here: it reads the requirements from `requirements/` and makes
the `.mim` folder (configs, tools, indexes). `mim` needs this folder in an installed
package.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
LINKED = ('configs', 'tools', 'model-index.yml')
# What a wheel has of them: of the tools, those that its users call.
COPIED = (
    'configs',
    'model-index.yml',
    'tools/analysis_tools/point_cloud.py',
    'tools/dataset_converters',
    'tools/deployment/predict_onnx.py',
    'tools/misc/assemble_teacher.py',
    'tools/misc/convert_swinmtl.py',
    'tools/misc/export_part.py',
)
EXTRAS = (
    *('mim', 'mminstall', 'onnx', 'openvino', 'ray', 'report', 'tests', 'timm'),
    'vfm',
)


def read_requirements(name: str) -> list[str]:
    """Read `requirements/<name>.txt` without its comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    lines = [line.split('#')[0].strip() for line in lines]
    return [line for line in lines if line]


def read_version() -> str:
    """Read the version without importing the package (its import checks versions)."""
    text = (ROOT / 'mmcast' / 'version.py').read_text()
    match = re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE)
    if match is None:
        raise ValueError('mmcast/version.py: expected a line __version__ = ...')
    return match.group(1)


class BuildPyWithMim(build_py):
    """Put configs, tools and indexes into `mmcast/.mim`, as OpenMMLab packages do.

    A wheel gets copies. An editable install gets links in the source tree, so that
    `mim` sees edited configs.
    """

    def run(self) -> None:
        super().run()
        editable = getattr(self, 'editable_mode', False)
        package = ROOT if editable else Path(self.build_lib)
        target = package / 'mmcast' / '.mim'
        if target.exists():
            shutil.rmtree(target)
        for name in LINKED if editable else COPIED:
            source = ROOT / name
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if editable:
                (target / name).symlink_to(os.path.relpath(source, target))
            elif source.is_dir():
                ignore = shutil.ignore_patterns('__pycache__', '*.pyc')
                shutil.copytree(source, target / name, ignore=ignore)
            else:
                shutil.copy2(source, target / name)


setup(
    name='mmcast',
    version=read_version(),
    description='Semi-supervised instance segmentation with foundation-model '
    'teachers, as a plugin of MMDetection',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    keywords='computer vision, instance segmentation, semi-supervised learning, '
    'knowledge distillation, mmdetection',
    license='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['mmcast', 'mmcast.*']),
    # With it, an editable install is a path on sys.path. Otherwise it is a finder that
    # comes too late: next to a clone named mmcast, Python imports that folder, empty.
    package_dir={'': '.'},
    package_data={'mmcast.report': ['*.j2']},
    install_requires=read_requirements('runtime'),
    extras_require={name: read_requirements(name) for name in EXTRAS},
    entry_points={'console_scripts': ['mmcast = mmcast.cli:main']},
    cmdclass={'build_py': BuildPyWithMim},
    zip_safe=False,
)

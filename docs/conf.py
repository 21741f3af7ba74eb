"""Sphinx settings. `make docs` builds the site from this folder and the configs' pages.

The source folder is the repository's root, so a link between two pages is the same
file path on the site as in the repository.
"""

import functools

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

from mmcast.version import __version__

project = 'mmcast'
author = 'the mmcast developers'
copyright = 'the mmcast developers, Apache-2.0'
version = release = __version__

root_doc = 'docs/index'
include_patterns = [
    'docs/*.md',
    'configs/mmcast/README.md',
    'configs/mmcast/*/README.md',
    'README.md',
    'CONTRIBUTING.md',
]
extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
autodoc_typehints = 'description'
autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True, 'show-inheritance': True}
napoleon_numpy_docstring = False

html_math_renderer = 'mathml'
html_theme = 'furo'
html_title = 'mmcast'


def setup(app: Sphinx) -> None:
    """Write equations as MathML, which browsers show without a script or a network."""

    def write(translator, node, as_block: bool = False) -> None:
        translator.body.append(tex2mathml(node.astext(), as_block=as_block))
        raise nodes.SkipNode

    block = functools.partial(write, as_block=True)
    app.add_html_math_renderer('mathml', (write, None), (block, None))

"""SynthScapes: procedural street scenes in Cityscapes' own layout.

Two domains of one street world: a model trained on ``source`` stands in for a
foundation model that is used zero-shot on ``target``.
"""

from .domains import DOMAINS, Domain
from .generate import generate
from .render import Scene, render_scene

__all__ = ['DOMAINS', 'Domain', 'Scene', 'generate', 'render_scene']

"""SynthScapes: procedural street scenes in Cityscapes' layout.

There are two domains of one street world. A model trained on ``source`` serves as the
foundation model, and is used zero-shot on ``target``.
"""

from .domains import DOMAINS, Domain
from .generate import generate
from .render import Scene, render_scene

__all__ = ['DOMAINS', 'Domain', 'Scene', 'generate', 'render_scene']

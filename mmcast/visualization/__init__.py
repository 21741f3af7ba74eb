"""Visualizers: pictures of predictions, for hooks and ``mim test --show-dir``."""

from .depth_seg_visualizer import DepthSegVisualizer

__all__ = ['DepthSegVisualizer']

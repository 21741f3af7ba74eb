"""Models outside of MMDetection: ONNX files that onnxruntime runs.

``import mmcast`` does not import this package, and it needs ``mmcast[onnx]``.
"""

from .onnx_export import Difference, check_packages, compare, export_onnx

__all__ = ['Difference', 'check_packages', 'compare', 'export_onnx']
